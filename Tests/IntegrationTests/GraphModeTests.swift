import Foundation
import Testing

/// Graph mode with real processes.
@Suite(.serialized) struct GraphModeTests {
    private static func option(_ members: String) -> [String] {
        ["--additional-config", #"{"torchair_graph_config":{"enabled":true\#(members)}}"#]
    }

    private static func tokens(_ cell: RunningCell) throws -> [[Int]] {
        try (0..<2).map { try cell.http.greedy([0, 9, 8 + $0], 12).tokens() }
    }

    /// One sequence after the other: in each of its eleven ticks of decoding its rank has three
    /// rows of padding, and the rank without rows has four.
    @Test(arguments: [1, 2])
    func theGatewayShowsThePaddingAndTheTokensAreTheSame(tp: Int) throws {
        let eager = try RunningCell(dp: 2, tp: tp)
        let expected = try Self.tokens(eager)
        #expect(try eager.metric("phalanx:padded_tokens_total") == 0)
        let cell = try RunningCell(
            dp: 2, tp: tp, options: Self.option(#","graph_batch_sizes":[4,8]"#))
        #expect(try Self.tokens(cell) == expected)
        try cell.wait("the last reports") {
            try cell.metric("phalanx:padded_tokens_total") == Double(2 * 11 * (3 + 4))
        }
        #expect(cell.coordinator.log.contains("the CPU has no graph to capture"))
        #expect(cell.stop() == Array(repeating: 0, count: 2 * tp + 2))
    }

    @Test func sizesThatNoTickOfDecodingHasAreRefused() throws {
        let coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            [
                RunningCell.model("demo-w8a8"), "--data-parallel-rpc-port", "0",
                "--max-num-seqs", "16",
            ] + Self.option(#","graph_batch_sizes":[8,32]"#))
        #expect(coordinator.exitCode() == 1)
        #expect(
            coordinator.log.contains("has 32, more than --max-num-seqs 16"), "\(coordinator.log)")
    }
}
