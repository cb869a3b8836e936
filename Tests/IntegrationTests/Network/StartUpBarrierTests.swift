import Foundation
import Testing

/// Every step of the start has a deadline, and what is missing then is named: which peer, at which
/// address, tried from where.
@Suite(
    .serialized,
    .enabled(
        if: NodeNetwork.obstacle == nil, "needs network namespaces: \(NodeNetwork.obstacle ?? "")"))
struct StartUpBarrierTests {
    private static let shape = TwoNodeCell.Shape(dp: 2, tp: 1)

    private static func cell(
        _ link: NodeNetwork.Link = .direct, readyTimeout: Int = 60, options: [String] = []
    ) throws -> TwoNodeCell {
        try TwoNodeCell(
            NodeNetwork(link), model: "tiny-random", shape: shape,
            options: ["--dtype", "float32", "--ready-timeout", "\(readyTimeout)"] + options)
    }

    /// The coordinator has given up: its last words.
    private static func lastWords(_ cell: TwoNodeCell) -> String {
        #expect(cell.coordinator.exitCode(within: 60) == 1)
        return cell.coordinator.line(containing: "is not ready after") ?? cell.coordinator.log
    }

    @Test func aSecondNodeThatIsLateStillJoins() throws {
        let cell = try Self.cell()
        try cell.startWorkers(on: cell.network.a)
        try cell.startGateway()
        #expect(
            cell.gateway?.line(containing: "worker 1 has not said HELLO", within: 20) != nil
                || cell.coordinator.line(containing: "worker 0 (node node-a", within: 20) != nil)
        try cell.startWorkers(on: cell.network.b)
        try cell.waitUntilServing()
        let prompt = try Goldens("tiny-random").cases[3]
        #expect(try cell.http.greedy(prompt.prompt, 8).tokens() == Array(prompt.tokens.prefix(8)))
    }

    @Test func aSecondNodeThatDoesNotComeIsNamed() throws {
        let cell = try Self.cell(readyTimeout: 3)
        try cell.startWorkers(on: cell.network.a)
        let text = Self.lastWords(cell)
        #expect(text.contains("after 3 s: worker 1 has not said HELLO"), "\(text)")
        #expect(cell.workers[0].exitCode(within: 30) == 1)
        #expect(cell.workers[0].log.contains("worker 1 has not said HELLO"))
    }

    /// The coordinator's port is closed between the nodes.
    @Test func aFirewallBeforeTheCoordinatorIsSaidByTheWorker() throws {
        let cell = try Self.cell(
            .relay(delayMilliseconds: 0.1, lossPercent: 0, blockedPorts: [13389]))
        try cell.startWorkers(on: cell.network.b, options: ["--ready-timeout", "2"])
        #expect(cell.workers[0].exitCode(within: 60) == 1)
        let log = cell.workers[0].log
        #expect(
            log.contains(
                "no coordinator at tcp://10.77.0.1:13389 has answered for 2 s, tried from "
                    + "10.77.0.2 on phalanx0"), "\(log)")
    }

    /// A worker whose collectives are on another network than the others'.
    @Test func aWrongInterfaceIsSaidByTheWorkerThatTried() throws {
        let cell = try Self.cell(readyTimeout: 12, options: ["--exchange-timeout", "3000"])
        try cell.startWorkers(on: cell.network.a)
        try cell.startWorkers(on: cell.network.b, options: ["--collectives-device", "lo"])
        let text = Self.lastWords(cell)
        // The first of the two that tried: what it says of the other one.
        let byA = [
            "worker 1 on node-b, tcp://10.77.0.2:",
            "tried from 10.77.0.1 on phalanx0, UCX uses phalanx0",
        ]
        let byB = [
            "worker 0 on node-a, tcp://10.77.0.1:", "tried from 10.77.0.2 on phalanx0, UCX uses lo",
        ]
        let isNamed = [byA, byB].contains { $0.allSatisfy { text.contains($0) } }
        #expect(isNamed, "\(text)")
    }

    @Test func aDeviceThatIsNotThereIsRefusedAtOnce() throws {
        let cell = try Self.cell()
        try cell.startWorkers(on: cell.network.b, options: ["--collectives-device", "eth9"])
        #expect(cell.workers[0].exitCode(within: 30) == 1)
        #expect(cell.workers[0].log.contains("eth9"), "\(cell.workers[0].log)")
    }

    @Test func anAddressThatTheNodeDoesNotHaveIsRefusedAtOnce() throws {
        let cell = try Self.cell()
        try cell.startWorkers(on: cell.network.b, options: ["--worker-address", "10.99.0.9"])
        #expect(cell.workers[0].exitCode(within: 30) == 1)
        #expect(cell.workers[0].log.contains("10.99.0.9"), "\(cell.workers[0].log)")
    }

    @Test func anotherOptionOnTheSecondNodeIsNamedWithBothValues() throws {
        let cell = try Self.cell()
        try cell.startWorkers(on: cell.network.b, options: ["--max-num-seqs", "8"])
        #expect(cell.workers[0].exitCode(within: 30) == 1)
        let expected = "max-num-seqs: the coordinator has \"16\", this node has \"8\""
        #expect(cell.workers[0].log.contains(expected), "\(cell.workers[0].log)")
        #expect(cell.coordinator.line(containing: "refused the worker on node-b") != nil)
    }

    @Test func anotherVersionOnTheSecondNodeIsNamedWithTheRemedy() throws {
        let cell = try Self.cell(options: ["--protocol-min", "2"])
        try cell.startWorkers(on: cell.network.b, options: ["--protocol-max", "1"])
        #expect(cell.workers[0].exitCode(within: 30) == 1)
        let log = cell.workers[0].log
        #expect(log.contains("on node-b speaks protocol 1, the coordinator (version "), "\(log)")
        #expect(log.contains("install a newer release there, one that speaks 2"), "\(log)")
        #expect(cell.coordinator.line(containing: "refused the worker on node-b") != nil)
    }

    /// The same path on the second node holds other weights.
    @Test func anotherModelOnTheSecondNodeIsNamed() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "phalanx-model-\(getpid())-\(UInt32.random(in: 0...UInt32.max))")
        defer { try? FileManager.default.removeItem(at: folder) }
        func put(_ name: String) throws {
            try? FileManager.default.removeItem(at: folder)
            try FileManager.default.createSymbolicLink(
                atPath: folder.path, withDestinationPath: RunningCell.model(name))
        }
        try put("tiny-random")
        let cell = try TwoNodeCell(
            NodeNetwork(), model: folder.path, shape: Self.shape, options: ["--dtype", "float32"])
        try cell.startWorkers(on: cell.network.a)
        _ = try #require(cell.workers[0].line(containing: "loaded"))
        try put("tiny-fp8")
        try cell.startWorkers(on: cell.network.b)
        #expect(cell.workers[1].exitCode(within: 30) == 1)
        let log = cell.workers[1].log
        #expect(log.contains("worker 1 (node node-b) has a checkpoint with digest"), "\(log)")
        #expect(log.contains("copy the same model to all nodes"), "\(log)")
    }
}
