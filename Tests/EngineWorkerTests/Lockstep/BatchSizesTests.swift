import Protocol
import Testing

@testable import EngineWorker

@Suite struct BatchSizesTests {
    private static func entry(_ tokens: UInt32, prompts: UInt32 = 0) -> TickEntry {
        TickEntry(
            view: 1, tick: 0, tokens: tokens, prefillTokens: prompts, kvUsage: 0,
            hasWork: tokens > 0, failed: false, protocolVersion: 2)
    }

    /// Rows of the ranks, rows of prompts among those of the last, and the size of the tick.
    static let table: [(rows: [UInt32], prompts: UInt32, size: Int?)] = [
        ([1, 0], 0, 2),
        ([2, 1], 0, 2),
        ([0, 3], 0, 6),
        ([6, 6, 6], 0, 6),
        ([5], 0, 6),
        // Nobody has rows, so that no model runs.
        ([0, 0], 0, nil),
        // A rank has more than the largest size.
        ([1, 7], 0, nil),
        ([.max], 0, nil),
        // One row of a prompt anywhere.
        ([1, 1], 1, nil),
        ([1, 40], 39, nil),
    ]

    @Test(arguments: table)
    func theBusiestRankDecides(rows: [UInt32], prompts: UInt32, size: Int?) {
        var entries = rows.map { Self.entry($0) }
        entries[entries.count - 1].prefillTokens = prompts
        let decision = TickDecision(
            entries, tick: 0, syncInterval: 1, batchSizes: BatchSizes([2, 6]))
        #expect(decision.batchSize == size)
        for count in rows where size != nil {
            #expect(decision.padding(behind: Int(count)) == (size ?? 0) - Int(count))
        }
        let eager = TickDecision(entries, tick: 0, syncInterval: 1)
        #expect(eager.batchSize == nil)
        #expect(eager.padding(behind: 1) == 0)
    }

    /// Routing and idleness are those of the rows without padding.
    @Test func paddingChangesNothingElseOfTheDecision() {
        let entries = [Self.entry(5), Self.entry(3)]
        let decision = TickDecision(entries, tick: 0, syncInterval: 1, batchSizes: BatchSizes([8]))
        let eager = TickDecision(entries, tick: 0, syncInterval: 1)
        #expect(decision.exchange == .allGather && eager.exchange == .allGather)
        #expect(decision.totalTokens == 8 && decision.tokensMax == 5)
        #expect(decision.goesIdle == eager.goesIdle)
    }

    @Test(arguments: [(1, nil), (2, 4)] as [(UInt32, Int?)])
    func aViewOfTheFirstVersionHasNoSizes(version: UInt32, size: Int?) {
        var machine = LockstepStateMachine(syncInterval: 1, batchSizes: BatchSizes([4]))
        machine.onViewActive(1, worldSize: 1, protocolVersion: version)
        _ = machine.onWork(at: Instant(nanoseconds: 0))
        var entry = Self.entry(3)
        entry.protocolVersion = version
        guard case .decided(let decision) = machine.onVector([entry]) else {
            Issue.record("no decision")
            return
        }
        #expect(decision.batchSize == size)
    }
}
