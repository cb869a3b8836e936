import Protocol
import Testing

@testable import Gateway

@Suite struct RankRouterTests {
    private func router(ranks: Int, capacity: Int = 100) -> RankRouter {
        var router = RankRouter()
        for rank in 0..<ranks { router.onRankOpened(rank, capacity: capacity) }
        return router
    }

    @Test func equalRanksTakeTurns() {
        var router = router(ranks: 4)
        var counts = [0, 0, 0, 0]
        for _ in 0..<40 {
            guard let rank = router.choose(promptTokens: 10) else { break }
            router.onSubmitted(to: rank, promptTokens: 10)
            counts[rank] += 1
        }
        #expect(counts == [10, 10, 10, 10])
    }

    @Test func aLongPromptCountsByItsTokens() {
        var router = router(ranks: 2)
        router.onSubmitted(to: 0, promptTokens: 10_000)
        for _ in 0..<20 {
            #expect(router.choose(promptTokens: 100) == 1)
            router.onSubmitted(to: 1, promptTokens: 100)
        }
        // Its first token has come: now rank 0 has one sequence and rank 1 twenty.
        router.onPrefilled(on: 0, promptTokens: 10_000)
        #expect(router.choose(promptTokens: 100) == 0)
    }

    @Test func whatOtherGatewaysSentCountsToo() {
        var router = router(ranks: 2)
        var load = RankLoad()
        load.dpRank = 1
        load.running = 10
        router.onLoad(load)
        for _ in 0..<5 { #expect(router.choose(promptTokens: 1) == 0) }
    }

    @Test func aFullRankIsLeftOutAndAFullDeploymentSaysSo() {
        var router = router(ranks: 2, capacity: 1)
        #expect(router.freeCapacity == 2)
        router.onSubmitted(to: 0, promptTokens: 1)
        #expect(router.choose(promptTokens: 1) == 1)
        #expect(router.choose(promptTokens: 1, forced: 0) == nil)
        router.onSubmitted(to: 1, promptTokens: 1)
        #expect(router.choose(promptTokens: 1) == nil)
        #expect(router.freeCapacity == 0)
        router.onEnded(on: 0, promptTokens: 1, prefilled: false)
        #expect(router.choose(promptTokens: 1) == 0)
    }

    @Test func aClosedRankKeepsItsSequencesInMind() {
        var router = router(ranks: 2, capacity: 2)
        router.onSubmitted(to: 0, promptTokens: 5)
        router.onRankClosed(0)
        #expect(router.dpRanks == [1])
        #expect(router.freeCapacity == 2 && router.sequenceCount == 1)
        for _ in 0..<4 { #expect(router.choose(promptTokens: 1) == 1) }
        router.onRankOpened(0, capacity: 2)
        #expect(router.freeCapacity == 3 && router.dpRanks == [0, 1])
        router.onEnded(on: 0, promptTokens: 5, prefilled: false)
        #expect(router.sequenceCount == 0)
    }

    @Test func aLostRankIsChosenNoMoreAndLateEndsOfItDoNothing() {
        var router = router(ranks: 2)
        router.onSubmitted(to: 0, promptTokens: 5)
        router.onRankLost(0)
        #expect(router.dpRanks == [1])
        router.onEnded(on: 0, promptTokens: 5, prefilled: true)
        for _ in 0..<4 { #expect(router.choose(promptTokens: 1) == 1) }
        router.onRankLost(1)
        #expect(router.choose(promptTokens: 1) == nil)
    }
}
