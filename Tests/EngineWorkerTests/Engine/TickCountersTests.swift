import Protocol
import Testing

@testable import EngineWorker

@Suite struct TickCountersTests {
    private func entry(_ tokens: UInt32) -> TickEntry {
        TickEntry(
            view: 1, tick: 1, tokens: tokens, prefillTokens: 0, kvUsage: 0, hasWork: true,
            failed: false)
    }

    @Test func rowsAreThoseOfThisRankOfTheBusiestAndOfAll() {
        var counters = TickCounters()
        for rows in [[3, 5, 1], [0, 0, 7]] as [[UInt32]] {
            let decision = TickDecision(rows.map(entry), tick: 1, syncInterval: 1)
            counters.onTick(
                rows: Int(rows[0]), padding: Int(rows[1]), decision, waited: .milliseconds(2))
        }
        var load = RankLoad()
        counters.write(to: &load)
        #expect(load.tickTokens == 3)
        #expect(load.tickTokensMax == 12)
        #expect(load.tickTokensGroup == 16)
        #expect(load.exchangeWait == .milliseconds(4))
        #expect(load.paddedTokens == 5)
    }

    /// Collectives that say what they were made to wait, as a transport does.
    private final class LateCollectives: Collectives {
        let rank = 0
        let worldSize = 3
        var statistics = CollectiveStatistics(worldSize: 3)
        var late: [UInt64] = [0, 0, 0]

        func allGather(
            _ send: UnsafeRawBufferPointer, into receive: UnsafeMutableRawBufferPointer,
            tag: OperationTag, deadline: Instant
        ) throws(CollectiveError) {
            for peer in 0..<worldSize { statistics.waitedNanoseconds[peer] += late[peer] }
        }

        func allToAll(
            outgoing: PeerBuffers, incoming: PeerBuffers, tag: OperationTag, deadline: Instant
        ) throws(CollectiveError) {
            for peer in 0..<worldSize { statistics.waitedNanoseconds[peer] += 1_000_000 }
        }
    }

    @Test func theWaitOfAnExchangeIsThatForTheSlowestPeerInIt() throws {
        let collectives = LateCollectives()
        let group = ViewGroup(view: 1, collectives: collectives)
        for late in [[0, 40, 7], [0, 3, 90]] as [[UInt64]] {
            collectives.late = late
            _ = try group.exchange(entry(1), tick: 1, deadline: Instant(nanoseconds: .max))
            #expect(group.waited.nanoseconds == Int64(late.max() ?? 0))
            // What the layers' exchanges wait for is another matter.
            collectives.statistics.waitedNanoseconds[1] += 5_000
        }
    }
}
