import Protocol
import Testing

@testable import EngineWorker

/// What sequences get out of the prefix cache. Blocks hold 4 tokens; prompts are of one token, so
/// each begins like all others.
@Suite struct SchedulerPrefixTests {
    @Test func aPromptThatIsKnownBeginsBehindItsFullBlocks() throws {
        var harness = try SchedulerHarness(caching: true)
        harness.submit(1, prompt: 10)
        #expect(harness.step() == "1:10")
        harness.submit(2, prompt: 10)
        harness.submit(3, prompt: 20)
        harness.submit(4, prompt: 3)
        // Two blocks are full.
        #expect(harness.schedule() == "1:d 2:2 3:12 4:3")
        #expect(harness.plan.entries.map(\.firstPosition) == [10, 8, 8, 0])
        try harness.scheduler.checkInvariants()
        let updates = harness.complete()
        #expect(updates.map(\.cachedPromptTokens) == [0, 8, 8, 0])
        let statistics = harness.scheduler.statistics
        #expect(statistics.prefixQueriesTotal == 43 && statistics.prefixHitsTotal == 16)
        #expect(statistics.promptTokensTotal == 43)
    }

    @Test func anotherSaltIsAnotherCache() throws {
        var harness = try SchedulerHarness(caching: true)
        let salts: [[UInt8]] = [[], [1], [1], [2], []]
        for (id, salt) in salts.enumerated() {
            let new = NewSequence(
                id: sequence(UInt64(id)), promptTokens: Array(repeating: 50, count: 9),
                parameters: SamplingParameters(), cacheSalt: salt)
            #expect(harness.scheduler.submit(new) == .accepted)
            let last = harness.schedule().split(separator: " ").last
            #expect(last == (id == 2 || id == 4 ? "\(id):1" : "\(id):9"))
            try harness.scheduler.checkInvariants()
            harness.complete()
        }
    }

    @Test func oneTokenAtLeastIsComputed() throws {
        var harness = try SchedulerHarness(caching: true)
        harness.submit(1, prompt: 8, maxTokens: 1)
        #expect(harness.step() == "1:8")
        #expect(harness.scheduler.statistics.kvUsage == 0)
        harness.submit(2, prompt: 8, maxTokens: 1)
        harness.submit(3, prompt: 9, maxTokens: 1)
        #expect(harness.schedule() == "2:4 3:1")
        // A prompt of which one token is left is no decode step.
        #expect(harness.plan.entries.map(\.firstPosition) == [4, 8])
        #expect(harness.plan.entries.allSatisfy { !$0.isDecode && $0.samples })
        try harness.scheduler.checkInvariants()
    }

    @Test func generatedTokensAreCachedToo() throws {
        var harness = try SchedulerHarness(caching: true)
        harness.submit(1, prompt: 6, maxTokens: 7)
        while harness.scheduler.hasWork { _ = harness.step() }
        // 6 + 6 computed tokens are 3 blocks, as the answer comes back in the next prompt.
        let next = NewSequence(
            id: sequence(2),
            promptTokens: Array(repeating: 50, count: 6) + Array(repeating: 60, count: 7) + [3],
            parameters: SamplingParameters())
        #expect(harness.scheduler.submit(next) == .accepted)
        #expect(harness.schedule() == "2:2")
        #expect(harness.plan.entries[0].firstPosition == 12)
    }

    @Test func aPreemptedSequenceFindsItsOwnBlocks() throws {
        var harness = try SchedulerHarness(blocks: 4, caching: true)
        harness.submit(1, prompt: 8, maxTokens: 3) { $0.seed = 1 }
        var parameters = SamplingParameters()
        parameters.maxTokens = 4
        let other = NewSequence(
            id: sequence(2), promptTokens: [9, 8, 7, 6], parameters: parameters)
        #expect(harness.scheduler.submit(other) == .accepted)
        #expect(harness.step() == "1:8 2:4")
        #expect(harness.step() == "1:d")
        #expect(harness.scheduler.statistics.preemptionsTotal == 1)
        #expect(harness.step() == "1:d")
        #expect(harness.schedule() == "2:1")
        #expect(harness.plan.entries[0].firstPosition == 4 && !harness.plan.entries[0].isDecode)
        // The counters are of the first admission.
        #expect(harness.complete().map(\.cachedPromptTokens) == [0])
        #expect(harness.scheduler.statistics.prefixQueriesTotal == 12)
        #expect(harness.scheduler.statistics.prefixHitsTotal == 0)
    }

    @Test func scoredPromptsAreComputedWhole() throws {
        var harness = try SchedulerHarness(caching: true)
        harness.submit(1, prompt: 9)
        #expect(harness.step() == "1:9")
        harness.submit(2, prompt: 9, maxTokens: 2) { $0.promptLogprobs = 0 }
        #expect(harness.schedule() == "1:d 2:9")
        #expect(harness.complete().last?.promptLogprobs?.count == 8)
        #expect(harness.scheduler.statistics.prefixQueriesTotal == 9)
    }

    @Test func whatFailedIsNotFoundByOthers() throws {
        var harness = try SchedulerHarness(batch: 8, caching: true)
        harness.submit(1, prompt: 10)
        #expect(harness.step() == "1:8")
        #expect(harness.schedule() == "1:2")
        _ = harness.scheduler.complete(
            harness.plan, results: [EntryResult(outcome: .failed(.noFiniteLogit))])
        harness.submit(2, prompt: 10)
        #expect(harness.step() == "2:8")
        try harness.scheduler.checkInvariants()
    }

    @Test func anAbandonedOrCancelledStepLeavesNothingToFind() throws {
        var harness = try SchedulerHarness(caching: true)
        harness.submit(1, prompt: 9)
        _ = harness.schedule()
        harness.scheduler.abandon(harness.plan)
        harness.submit(2, prompt: 9)
        #expect(harness.schedule() == "1:9 2:9")
        _ = harness.scheduler.cancel(sequence(1))
        _ = harness.scheduler.cancel(sequence(2))
        #expect(harness.complete().isEmpty)
        harness.submit(3, prompt: 9)
        #expect(harness.step() == "3:9")
        try harness.scheduler.checkInvariants()
    }

    @Test func withoutCachingNothingIsFound() throws {
        var harness = try SchedulerHarness()
        harness.submit(1, prompt: 9, maxTokens: 1)
        _ = harness.step()
        harness.submit(2, prompt: 9)
        #expect(harness.step() == "2:9")
        #expect(harness.scheduler.statistics.prefixQueriesTotal == 0)
        #expect(harness.scheduler.pool.cachedCount == 0)
    }
}
