import Protocol
import Testing

@testable import Gateway

@Suite struct TickImbalanceTests {
    private func load(_ rank: UInt32, own: UInt64, max: UInt64, group: UInt64) -> RankLoad {
        var load = RankLoad()
        load.dpRank = rank
        load.tickTokens = own
        load.tickTokensMax = max
        load.tickTokensGroup = group
        return load
    }

    private func at(_ milliseconds: Int) -> Instant {
        Instant(nanoseconds: 0) + .milliseconds(milliseconds)
    }

    @Test func aWindowIsReadWhenItIsOver() {
        var imbalance = TickImbalance()
        let first = imbalance.onLoad(load(0, own: 0, max: 0, group: 0), ranks: 2, at: at(0))
        let early = imbalance.onLoad(load(0, own: 9, max: 9, group: 9), ranks: 2, at: at(999))
        let due = imbalance.onLoad(load(0, own: 10, max: 30, group: 40), ranks: 2, at: at(1000))
        #expect(first == nil && early == nil)
        #expect(due == TickImbalance.Reading(group: 1.5, rank: 0.5))
        let next = imbalance.onLoad(load(0, own: 30, max: 50, group: 80), ranks: 2, at: at(2000))
        #expect(next == TickImbalance.Reading(group: 1, rank: 1))
    }

    @Test func ranksHaveWindowsOfTheirOwn() {
        var imbalance = TickImbalance()
        _ = imbalance.onLoad(load(0, own: 0, max: 0, group: 0), ranks: 2, at: at(0))
        let other = imbalance.onLoad(load(1, own: 8, max: 8, group: 8), ranks: 2, at: at(5000))
        #expect(other == nil)
    }

    @Test func aWindowWithoutRowsAndARestartedWorkerSayNothing() {
        var imbalance = TickImbalance()
        _ = imbalance.onLoad(load(0, own: 5, max: 5, group: 5), ranks: 1, at: at(0))
        let idle = imbalance.onLoad(load(0, own: 5, max: 5, group: 5), ranks: 1, at: at(1000))
        let restarted = imbalance.onLoad(load(0, own: 1, max: 1, group: 1), ranks: 1, at: at(2000))
        #expect(idle == nil && restarted == nil)
        let after = imbalance.onLoad(load(0, own: 2, max: 2, group: 2), ranks: 1, at: at(3000))
        #expect(after == TickImbalance.Reading(group: 1, rank: 1))
    }
}
