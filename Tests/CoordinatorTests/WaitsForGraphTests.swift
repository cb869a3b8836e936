import Testing

@testable import Coordinator

/// Who is to blame when all wait.
@Suite struct WaitsForGraphTests {
    typealias Verdict = WaitsForGraph.Verdict

    struct Row: Sendable, CustomTestStringConvertible {
        let name: String
        /// By worker: whom it waits for.
        let waits: [[UInt32]]
        var silent: Set<Int> = []
        let verdict: Verdict
        var testDescription: String { name }
    }

    static let table: [Row] = [
        Row(name: "nobody waits", waits: [[], [], []], verdict: .nothing),
        Row(name: "all wait for one", waits: [[2], [2], []], verdict: .suspects([2])),
        Row(name: "a chain", waits: [[1], [2], [3], []], verdict: .suspects([3])),
        // A TP peer of the one that hangs cannot send either.
        Row(
            name: "who waits for it is missed too", waits: [[2, 3], [2, 3], [3], []],
            verdict: .suspects([3])),
        Row(name: "two hang", waits: [[1, 2], [], []], verdict: .suspects([1, 2])),
        Row(name: "a circle", waits: [[1], [0], []], verdict: .circle([0, 1])),
        Row(name: "a circle beside a root", waits: [[1], [0, 2], []], verdict: .suspects([2])),
        // It waited when it was last heard.
        Row(
            name: "a silent one that said that it waits", waits: [[1], [0], [1]], silent: [1],
            verdict: .suspects([1])),
        Row(
            name: "a silent one that nobody misses", waits: [[], [], []], silent: [1],
            verdict: .nothing),
        Row(name: "somebody of another view", waits: [[7], []], verdict: .nothing),
    ]

    private func graph(_ row: Row) -> WaitsForGraph {
        WaitsForGraph(
            row.waits.enumerated().map { index, waits in
                WaitsForGraph.Worker(
                    worker: UInt32(index), waitsFor: waits, isSilent: row.silent.contains(index))
            })
    }

    @Test(arguments: table)
    func theRootIsTheSuspect(row: Row) {
        #expect(graph(row).verdict == row.verdict)
    }

    @Test func thoseWhoWaitForWaitersCount() {
        let graph = graph(Row(name: "", waits: [[1], [2], [], [0, 1], []], verdict: .nothing))
        #expect(graph.waitingCount(for: 2) == 3)
        #expect(graph.waitingCount(for: 1) == 2)
        #expect(graph.waitingCount(for: 4) == 0)
    }
}
