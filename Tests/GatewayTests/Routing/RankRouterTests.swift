import Protocol
import Testing

@testable import Gateway

@Suite struct RankRouterTests {
    private func router(ranks: Int, capacity: Int = 100, cache: Int = 0) -> RankRouter {
        var router = RankRouter()
        for rank in 0..<ranks {
            router.onRankOpened(rank, capacity: capacity, cacheCapacity: cache)
        }
        return router
    }

    private func candidate(_ tokens: Int, forced: Int? = nil) -> RankRouter.Candidate {
        RankRouter.Candidate(tokens: tokens, forced: forced)
    }

    private func load(
        _ rank: UInt32, running: UInt32 = 0, waiting: UInt32 = 0, pending: UInt64 = 0,
        cache: Float = 0, submissions: UInt64 = 0
    ) -> RankLoad {
        var load = RankLoad()
        load.dpRank = rank
        load.running = running
        load.waiting = waiting
        load.pendingPrefillTokens = pending
        load.kvCacheUsage = cache
        load.submissions = submissions
        return load
    }

    private func submit(
        _ router: inout RankRouter, _ candidate: RankRouter.Candidate, to rank: Int
    ) throws -> RankRouter.Ticket {
        let ticket = router.onSubmitted(candidate, to: rank)
        return try #require(ticket)
    }

    /// Chooses and submits; the rank, or -1.
    @discardableResult
    private func send(_ router: inout RankRouter, _ candidate: RankRouter.Candidate) -> Int {
        guard let rank = router.choose(candidate) else { return -1 }
        _ = router.onSubmitted(candidate, to: rank)
        return rank
    }

    @Test func equalRanksTakeTurns() {
        var router = router(ranks: 4)
        var counts = [0, 0, 0, 0]
        for _ in 0..<40 { counts[send(&router, candidate(10))] += 1 }
        #expect(counts == [10, 10, 10, 10])
    }

    @Test func aLongPromptCountsByItsTokensUntilItIsComputed() throws {
        var router = router(ranks: 2)
        let long = candidate(10_000)
        var ticket = try submit(&router, long, to: 0)
        for _ in 0..<20 { #expect(send(&router, candidate(100)) == 1) }
        // Its first token has come: now rank 0 has one sequence and rank 1 twenty.
        router.onReport(load(0, running: 1), known: 1)
        router.onPrefilled(&ticket)
        #expect(router.choose(candidate(100)) == 0)
    }

    @Test func whatOtherGatewaysSentCountsToo() {
        var router = router(ranks: 2)
        router.onReport(load(1, running: 10), known: 0)
        for _ in 0..<5 { #expect(router.choose(candidate(1)) == 0) }
    }

    @Test func aFullRankIsLeftOutAndAFullDeploymentSaysSo() throws {
        var router = router(ranks: 2, capacity: 1)
        #expect(router.freeCapacity == 2)
        let ticket = try submit(&router, candidate(1), to: 0)
        #expect(router.choose(candidate(1)) == 1)
        #expect(router.choose(candidate(1, forced: 0)) == nil)
        send(&router, candidate(1))
        #expect(router.choose(candidate(1)) == nil)
        #expect(router.freeCapacity == 0)
        router.onReport(load(0), known: 1)
        router.onEnded(ticket)
        #expect(router.choose(candidate(1)) == 0)
    }

    @Test func roomThatAnotherGatewayTookIsNoRoom() {
        var router = router(ranks: 1, capacity: 3)
        router.onReport(load(0, running: 1, waiting: 1), known: 0)
        #expect(router.freeCapacity == 1)
        #expect(send(&router, candidate(1)) == 0)
        #expect(router.freeCapacity == 0)
        #expect(router.choose(candidate(1)) == nil)
    }

    @Test func aClosedRankKeepsItsSequencesInMind() throws {
        var router = router(ranks: 2, capacity: 2)
        let ticket = try submit(&router, candidate(5), to: 0)
        router.onRankClosed(0)
        #expect(router.dpRanks == [1])
        #expect(router.freeCapacity == 2 && router.sequenceCount == 1)
        for _ in 0..<4 { #expect(router.choose(candidate(1)) == 1) }
        router.onRankOpened(0, capacity: 2)
        #expect(router.freeCapacity == 3 && router.dpRanks == [0, 1])
        router.onCancelled(ticket)
        #expect(router.sequenceCount == 0)
    }

    @Test func aTicketOfALostRankDoesNothingToTheOneThatCameBack() throws {
        var router = router(ranks: 2)
        let ticket = try submit(&router, candidate(5), to: 0)
        router.onRankLost(0)
        #expect(router.dpRanks == [1])
        router.onEnded(ticket)
        for _ in 0..<4 { #expect(router.choose(candidate(1)) == 1) }
        router.onRankOpened(0, capacity: 100)
        #expect(send(&router, candidate(7, forced: 0)) == 0)
        router.onEnded(ticket)
        router.onCancelled(ticket)
        #expect(router.sequenceCount == 1 && router.pendingTokens(of: 0) == 7)
        router.onRankLost(0)
        router.onRankLost(1)
        #expect(!router.hasOpenRank)
        #expect(router.choose(candidate(1)) == nil)
    }

    @Test func aRankThatRefusesIsLeftAloneUntilItReports() throws {
        var router = router(ranks: 2)
        router.onReport(load(1, running: 50), known: 0)
        let ticket = try submit(&router, candidate(5), to: 0)
        router.onRefused(ticket, isFull: true)
        #expect(router.refusals == 1 && router.pendingTokens(of: 0) == 0)
        for _ in 0..<4 { #expect(router.choose(candidate(1)) == 1) }
        #expect(router.choose(candidate(1, forced: 0)) == nil)
        router.onReport(load(0), known: 1)
        #expect(router.choose(candidate(1)) == 0)
    }

    @Test func aFullCacheIsAvoidedAsLongAsThereIsAnother() {
        var router = router(ranks: 2, cache: 1000)
        router.onReport(load(0, running: 1, waiting: 1, cache: 0.99), known: 0)
        router.onReport(load(1, running: 40, cache: 0.5), known: 0)
        for _ in 0..<4 { #expect(router.choose(candidate(1)) == 1) }
        router.onReport(load(1, running: 40, waiting: 1, cache: 1), known: 0)
        #expect(router.choose(candidate(1)) == 0)
    }

    @Test func aNearlyFullCacheCostsMoreThanRows() {
        var router = router(ranks: 2, cache: 1000)
        router.onReport(load(0, running: 1, cache: 0.9), known: 0)
        router.onReport(load(1, running: 8, cache: 0.1), known: 0)
        // 100 tokens over the limit may preempt somebody; seven rows cost less.
        #expect(router.choose(candidate(100)) == 1)
        router.onReport(load(0, running: 1, cache: 0.5), known: 0)
        #expect(router.choose(candidate(100)) == 0)
    }

    @Test func gatewaysWithOtherRotationsSpreadOverEqualRanks() {
        var first = RankRouter(rotation: 0)
        var second = RankRouter(rotation: 2)
        for rank in 0..<4 {
            first.onRankOpened(rank, capacity: 9)
            second.onRankOpened(rank, capacity: 9)
        }
        let ones = (0..<4).map { _ in first.choose(candidate(1)) }
        #expect(ones == [1, 2, 3, 0])
        let others = (0..<4).map { _ in second.choose(candidate(1)) }
        #expect(others == [3, 0, 1, 2])
    }

    @Test func whatOthersSendMakesComparisonsCoarser() {
        var router = router(ranks: 2, capacity: 100_000)
        for number in 1...400 as ClosedRange<UInt64> {
            let rank = send(&router, candidate(1000))
            router.onReport(load(UInt32(rank), submissions: number), known: number)
        }
        #expect(router.others.grain == RoutingCost.grain, "alone")
        var others = OthersShare()
        for _ in 0..<400 { others.onChosen(tokens: 1000) }
        // Of four submissions three are not ours.
        for _ in 0..<100 { others.onReport(own: 1, all: 4) }
        #expect((700...750).contains(others.grain), "\(others.grain)")
        for _ in 0..<40_000 { others.onReport(own: 1, all: 1) }
        #expect(others.grain < 50, "they have gone: \(others.grain)")
        others.onReport(own: 5, all: 0)
        #expect(others.grain < 50)
    }

    // MARK: What ranks have cached

    private let blocks: [UInt64] = (1...64).map { $0 * 1000 }

    private func prompt(_ tail: UInt64) -> RankRouter.Candidate {
        // 64 common blocks and one of its own.
        RankRouter.Candidate(tokens: 65 * 16, blocks: blocks + [tail])
    }

    @Test func aPromptGoesWhereItsBeginningIs() throws {
        var router = router(ranks: 4)
        let first = send(&router, prompt(1))
        router.onReport(load(UInt32(first), running: 1), known: 1)
        for tail in 2..<10 {
            #expect(send(&router, prompt(UInt64(tail))) == first)
        }
        #expect(router.affinityTokens == 8 * 64 * 16)
        #expect(router.pendingTokens(of: first) == 8 * 16)
        router.onRankLost(first)
        router.onRankOpened(first, capacity: 100)
        let ticket = try submit(&router, prompt(99), to: first)
        #expect(ticket.cachedTokens == 0, "a rank that was away has nothing")
    }

    @Test func aCommonBeginningDoesNotGatherEverybodyAtOneRank() {
        var router = router(ranks: 4, capacity: 1000)
        var counts = [0, 0, 0, 0]
        var sent = [0, 0, 0, 0]
        for tail in 0..<400 {
            let rank = send(&router, prompt(UInt64(tail)))
            counts[rank] += 1
            sent[rank] += 1
            // All prompts are computed at once, so that rows alone make ranks busy.
            router.onReport(
                load(UInt32(rank), running: UInt32(counts[rank])), known: UInt64(sent[rank]))
        }
        let mean = 100
        let limit =
            mean + mean / RoutingCost.affinityDivisor + RoutingCost.affinitySequences + 2
        #expect(counts.allSatisfy { $0 <= limit }, "\(counts)")
        #expect(counts.allSatisfy { $0 > 0 }, "\(counts)")
    }
}
