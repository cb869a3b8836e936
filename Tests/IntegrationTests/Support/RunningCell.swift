import Foundation
import Testing

struct CellError: Error, CustomStringConvertible {
    let description: String
}

/// A whole deployment of real processes on this machine, on ports that the system picks.
final class RunningCell {
    private(set) var coordinator: RunningDaemon
    private(set) var workers: [RunningDaemon] = []
    let gateway: RunningDaemon
    let http: HTTPClient
    let coordinatorPort: String
    private let coordinatorOptions: [String]
    private let workerOptions: [String]

    /// A model by name, or a folder as it is.
    static func model(_ name: String) -> String {
        guard !name.hasPrefix("/") else { return name }
        let root = RunningDaemon.root
        let path =
            name.hasPrefix("demo-")
            ? "models/demo/\(name.dropFirst(5))" : "Tests/Fixtures/models/\(name)"
        return root.appendingPathComponent(path).path
    }

    /// Starts a cell and waits until it serves.
    ///
    /// - Parameters:
    ///   - options: of the coordinator, that is of the deployment.
    init(
        model: String = "demo-w8a8",
        dp: Int = 2,
        tp: Int = 1,
        expertParallel: Bool = true,
        options: [String] = [],
        workerOptions: [String] = [],
        gatewayOptions: [String] = []
    ) throws {
        let parallel =
            ["--tensor-parallel-size", "\(tp)"]
            + (expertParallel ? ["--enable-expert-parallel"] : [])
        self.workerOptions = workerOptions
        coordinatorOptions =
            [
                Self.model(model), "--served-model-name", model, "--data-parallel-size", "\(dp)",
                "--ready-timeout", "120",
            ] + parallel + options
        coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            coordinatorOptions + ["--data-parallel-rpc-port", "0"])
        guard let endpoint = coordinator.value(of: "endpoint"),
            let port = endpoint.split(separator: ":").last
        else { throw CellError(description: "no coordinator:\n\(coordinator.log)") }
        coordinatorPort = String(port)
        for index in 0..<(dp * tp) {
            workers.append(try Self.worker(index, coordinatorPort, workerOptions))
        }
        gateway = try RunningDaemon(
            "gateway", "phalanx-gateway",
            ["--data-parallel-rpc-port", coordinatorPort, "--port", "0"] + gatewayOptions)
        guard let http = gateway.value(of: "port").flatMap({ UInt16($0) }) else {
            throw CellError(description: "no gateway:\n\(gateway.log)")
        }
        self.http = HTTPClient(port: http)
        guard gateway.line(containing: "serving", within: 120) != nil else {
            throw CellError(description: "not serving:\n\(logs)")
        }
    }

    private static func worker(
        _ index: Int, _ port: String, _ options: [String]
    ) throws -> RunningDaemon {
        try RunningDaemon(
            "worker-\(index)", "phalanx-engine-worker",
            [
                "--data-parallel-rpc-port", port, "--device-index", "\(index)", "--worker-threads",
                "1",
            ]
                + options)
    }

    /// A new process in the place of a worker that has ended.
    ///
    /// - Parameter options: in the place of those that the first one had.
    func restartWorker(_ index: Int, options: [String]? = nil) throws {
        workers[index] = try Self.worker(index, coordinatorPort, options ?? workerOptions)
    }

    /// A worker more, of a device that none had.
    func addWorker() throws {
        workers.append(try Self.worker(workers.count, coordinatorPort, workerOptions))
    }

    /// A new coordinator at the address of one that has ended.
    func restartCoordinator() throws {
        coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            coordinatorOptions + ["--data-parallel-rpc-port", coordinatorPort])
    }

    /// A second process for the device of a worker that lives.
    func secondWorker(_ index: Int) throws -> RunningDaemon {
        try Self.worker(index, coordinatorPort, workerOptions)
    }

    /// Another gateway of the same deployment.
    ///
    /// - Parameter line: of its log, which says that it has come so far.
    func anotherGateway(
        options: [String] = [], line: String = "serving"
    ) throws -> (daemon: RunningDaemon, http: HTTPClient) {
        let daemon = try RunningDaemon(
            "gateway-2", "phalanx-gateway",
            ["--data-parallel-rpc-port", coordinatorPort, "--port", "0"] + options)
        guard let port = daemon.value(of: "port").flatMap({ UInt16($0) }),
            daemon.line(containing: line, within: 60) != nil
        else { throw CellError(description: "not serving:\n\(daemon.log)") }
        return (daemon, HTTPClient(port: port))
    }

    var daemons: [RunningDaemon] { [coordinator, gateway] + workers }

    var logs: String { daemons.map { "--- \($0.name)\n\($0.log)" }.joined(separator: "\n") }

    /// CPU time of all processes so far, in clock ticks.
    var cpuTicks: Int { daemons.reduce(0) { $0 + $1.cpuTicks } }

    /// How often threads of all processes went to sleep so far.
    var sleeps: Int { daemons.reduce(0) { $0 + $1.sleeps } }

    /// The sum of a metric over its series.
    func metric(_ name: String, of gateway: HTTPClient? = nil) throws -> Double {
        let page = try (gateway ?? http).get("/metrics").text
        return page.split(separator: "\n").filter {
            $0.hasPrefix(name + "{") || $0.hasPrefix(name + " ")
        }.reduce(0) { $0 + (Double($1.split(separator: " ").last ?? "") ?? 0) }
    }

    /// Asks until `condition` holds; every try is a request, so nothing spins.
    func wait(_ what: String, within seconds: Double = 30, for condition: () throws -> Bool) throws
    {
        let deadline = Date(timeIntervalSinceNow: seconds)
        while try !condition() {
            guard Date() < deadline else {
                throw CellError(description: "\(what) did not come:\n\(logs)")
            }
        }
    }

    /// Stops everything in order and returns the exit codes of gateway, workers and coordinator.
    func stop() -> [Int32?] {
        var codes: [Int32?] = []
        for group in [[gateway], workers, [coordinator]] {
            for daemon in group { daemon.send(SIGTERM) }
            codes += group.map { $0.exitCode(within: 60) }
        }
        return codes
    }
}
