import Foundation
import Testing

/// `phalanxctl doctor` on one node sees the ways between all nodes, because workers try them.
@Suite(
    .serialized,
    .enabled(
        if: NodeNetwork.obstacle == nil, "needs network namespaces: \(NodeNetwork.obstacle ?? "")"))
struct TwoNodeDoctorTests {
    private func run(_ program: String, _ arguments: [String]) throws -> (Int32, String) {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    private func doctor(_ cell: TwoNodeCell, on node: NodeNetwork.Node) throws -> String {
        let program = RunningDaemon.binaries.appendingPathComponent("phalanxctl").path
        return try run(
            NodeNetwork.program,
            [
                "netns", "exec", node.space, program, "doctor", "--node-name", node.name,
                "--data-parallel-address", cell.network.a.address, "--data-parallel-rpc-port",
                TwoNodeCell.rpcPort, "--keys", cell.keys, "--worker-address", node.address,
            ]
        ).1
    }

    @Test func everyWayIsTriedByTheWorkerWhereItBegins() throws {
        let network = try NodeNetwork()
        let cell = try TwoNodeCell(
            network, model: "demo-w8a8", shape: .init(dp: 2, tp: 1),
            options: ["--ready-timeout", "120"])
        for node in [network.a, network.b] { try cell.startWorkers(on: node) }
        for worker in cell.workers {
            #expect(worker.line(containing: "view is active", within: 120) != nil, "\(cell.logs)")
        }
        let text = try doctor(cell, on: network.a)
        #expect(text.contains("2 ways between workers tried by them, all connected"), "\(text)")
        let row = text.split(separator: "\n").first { $0.hasPrefix("worker 1  ") } ?? ""
        #expect(row.contains(" ms") && !row.contains("view"), "\(text)")
        #expect(cell.stop() == [0, 0, 0])
    }

    /// Node b's worker listens on an address that node a has no route to. Seen from node b, all is
    /// well; the way that is missing begins on node a.
    @Test func aWayThatIsMissingElsewhereIsSeenFromHere() throws {
        let network = try NodeNetwork()
        let hidden = "10.88.0.2"
        _ = try run(
            NodeNetwork.program,
            ["-n", network.b.space, "address", "add", "\(hidden)/32", "dev", "lo"])
        let cell = try TwoNodeCell(
            network, model: "demo-w8a8", shape: .init(dp: 2, tp: 1),
            options: ["--ready-timeout", "120"])
        try cell.startWorkers(on: network.a)
        try cell.startWorker(
            0, on: network.b,
            ["--data-parallel-start-rank", "1", "--worker-address", hidden])
        for worker in cell.workers {
            #expect(worker.line(containing: "view is active", within: 120) != nil, "\(cell.logs)")
        }
        let text = try doctor(cell, on: network.b)
        #expect(
            text.contains(
                "error   pairs         worker 0 (node node-a, device 0) to worker 1 (node node-b, "
                    + "device 0): not connected"), "\(text)")
        let rows = text.split(separator: "\n").filter { $0.hasPrefix("worker ") }
        #expect(rows.first { $0.hasPrefix("worker 0 ") }?.contains("FAILED") == true, "\(text)")
        #expect(rows.first { $0.hasPrefix("worker 1 ") }?.contains(" ms") == true, "\(text)")
        #expect(cell.stop() == [0, 0, 0])
    }
}
