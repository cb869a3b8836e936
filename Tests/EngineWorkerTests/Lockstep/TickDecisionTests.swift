import Testing

@testable import EngineWorker

@Suite struct TickDecisionTests {
    /// (tokens, hasWork) a rank, the tick and the interval of judgement, and what follows.
    struct Row: Sendable {
        let ranks: [(tokens: UInt32, hasWork: Bool)]
        var tick: UInt64 = 8
        var syncInterval: UInt64 = 1
        let runsModel: Bool
        let goesIdle: Bool
        let totalTokens: Int
        let tokensMax: Int
    }

    static let table: [Row] = [
        Row(ranks: [(0, false)], runsModel: false, goesIdle: true, totalTokens: 0, tokensMax: 0),
        Row(ranks: [(3, true)], runsModel: true, goesIdle: false, totalTokens: 3, tokensMax: 3),
        // A rank that waits for memory has work and no tokens: nobody sleeps.
        Row(
            ranks: [(0, true), (0, false)], runsModel: false, goesIdle: false, totalTokens: 0,
            tokensMax: 0),
        // One rank's tokens make all others run a dummy batch.
        Row(
            ranks: [(0, false), (5, true), (2, true)], runsModel: true, goesIdle: false,
            totalTokens: 7, tokensMax: 5),
        // Tokens without work left: the last step of a sequence.
        Row(
            ranks: [(1, false), (0, false)], runsModel: true, goesIdle: false, totalTokens: 1,
            tokensMax: 1),
        Row(
            ranks: [(0, false), (0, false)], tick: 7, syncInterval: 4, runsModel: false,
            goesIdle: false, totalTokens: 0, tokensMax: 0),
        Row(
            ranks: [(0, false), (0, false)], tick: 8, syncInterval: 4, runsModel: false,
            goesIdle: true, totalTokens: 0, tokensMax: 0),
        Row(
            ranks: [(.max, true), (.max, true)], runsModel: true, goesIdle: false,
            totalTokens: 2 * Int(UInt32.max), tokensMax: Int(UInt32.max)),
    ]

    @Test(arguments: table)
    func theVectorDecides(row: Row) {
        let entries = row.ranks.map {
            TickEntry(
                view: 1, tick: row.tick, tokens: $0.tokens, prefillTokens: 0, kvUsage: 0,
                hasWork: $0.hasWork, failed: false)
        }
        let decision = TickDecision(entries, tick: row.tick, syncInterval: row.syncInterval)
        #expect(decision.runsModel == row.runsModel)
        #expect(decision.goesIdle == row.goesIdle)
        #expect(decision.totalTokens == row.totalTokens)
        #expect(decision.tokensMax == row.tokensMax)
        #expect(decision.failedRanks.isEmpty)
    }

    @Test func failedRanksAreNamedInOrder() {
        let entries = [true, false, true].map {
            TickEntry(
                view: 1, tick: 1, tokens: 0, prefillTokens: 0, kvUsage: 0, hasWork: false,
                failed: $0)
        }
        #expect(TickDecision(entries, tick: 1, syncInterval: 1).failedRanks == [0, 2])
    }
}
