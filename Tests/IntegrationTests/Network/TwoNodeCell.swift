import Foundation

/// One deployment on two nodes, by the options that operators give `vllm serve` on each: DP ranks
/// of TP workers, half of the ranks on node b, everything else on node a.
final class TwoNodeCell {
    let network: NodeNetwork
    let coordinator: RunningDaemon
    private(set) var workers: [RunningDaemon] = []
    private(set) var gateway: RunningDaemon?
    let http: HTTPClient

    static let httpPort: UInt16 = 8004
    static let rpcPort = "13389"

    struct Shape {
        var dp = 4
        var tp = 4
        var ranksOnA: Int { dp / 2 }
    }

    let shape: Shape
    /// All links are encrypted: they leave their hosts.
    private let folder: DeploymentKeys
    var keys: String { folder.folder }

    /// Starts the coordinator on node a alone.
    init(
        _ network: NodeNetwork, model: String, shape: Shape = Shape(), options: [String] = []
    ) throws {
        self.network = network
        self.shape = shape
        folder = try DeploymentKeys()
        http = HTTPClient(port: Self.httpPort, node: network.a)
        coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            [
                RunningCell.model(model), "--served-model-name", "deepseek_v3",
                "--data-parallel-size", "\(shape.dp)", "--tensor-parallel-size", "\(shape.tp)",
                "--enable-expert-parallel", "--seed", "1024", "--max-num-seqs", "16",
                "--max-num-batched-tokens", "4096", "--trust-remote-code",
                "--no-enable-prefix-caching",
                // Both nodes have one kernel, which would be one host for `auto`.
                "--collectives", "ucx", "--keys", folder.folder, "--data-parallel-address",
                network.a.address,
                "--data-parallel-rpc-port", Self.rpcPort,
            ] + options, on: network.a)
        guard coordinator.value(of: "endpoint") != nil else {
            throw CellError(description: "no coordinator:\n\(coordinator.log)")
        }
    }

    /// The workers of a node, with the first DP rank that the operator gives it.
    func startWorkers(on node: NodeNetwork.Node, options: [String] = []) throws {
        let isFirst = node.name == network.a.name
        let ranks = isFirst ? shape.ranksOnA : shape.dp - shape.ranksOnA
        for device in 0..<(ranks * shape.tp) {
            try startWorker(
                device, on: node,
                ["--data-parallel-start-rank", isFirst ? "0" : "\(shape.ranksOnA)"] + options)
        }
    }

    func startWorker(
        _ device: Int, on node: NodeNetwork.Node, _ options: [String] = []
    ) throws {
        workers.append(
            try RunningDaemon(
                "worker-\(node.name)-\(device)", "phalanx-engine-worker",
                [
                    "--data-parallel-address", network.a.address, "--data-parallel-rpc-port",
                    Self.rpcPort, "--device-index", "\(device)", "--node-name", node.name,
                    "--worker-address", node.address, "--worker-threads", "1", "--keys", keys,
                ]
                    + (options.contains("--collectives-device")
                        ? [] : ["--collectives-device", NodeNetwork.device]) + options,
                on: node))
    }

    func startGateway() throws {
        gateway = try RunningDaemon(
            "gateway", "phalanx-gateway",
            [
                "--data-parallel-address", network.a.address, "--data-parallel-rpc-port",
                Self.rpcPort, "--keys", keys, "--node-name", network.a.name, "--host", "0.0.0.0",
                "--port",
                "\(Self.httpPort)",
            ], on: network.a)
    }

    func waitUntilServing(within seconds: Double = 120) throws {
        guard gateway?.line(containing: "serving", within: seconds) != nil else {
            throw CellError(description: "not serving:\n\(logs)")
        }
    }

    var daemons: [RunningDaemon] { [coordinator] + workers + (gateway.map { [$0] } ?? []) }
    var logs: String { daemons.map { "--- \($0.name)\n\($0.log)" }.joined(separator: "\n") }

    /// Stops everything in order and returns the exit codes of gateway, workers and coordinator.
    func stop() -> [Int32?] {
        var codes: [Int32?] = []
        for group in [gateway.map { [$0] } ?? [], workers, [coordinator]] {
            for daemon in group { daemon.send(SIGTERM) }
            codes += group.map { $0.exitCode(within: 60) }
        }
        return codes
    }
}
