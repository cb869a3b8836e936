import Protocol
import Testing

@testable import EngineWorker

@Suite struct SchedulerTests {
    @Test func aLongPromptIsSpreadOverStepsBehindDecodes() throws {
        var harness = try SchedulerHarness(sequences: 4, batch: 6)
        harness.submit(1, prompt: 3)
        harness.submit(2, prompt: 10)
        #expect(harness.step() == "1:3 2:3")
        #expect(harness.step() == "1:d 2:5")
        harness.submit(3, prompt: 5)
        #expect(harness.step() == "1:d 2:2 3:3")
        #expect(harness.step() == "1:d 2:d 3:2")
        #expect(harness.step() == "1:d 2:d 3:d")
        #expect(harness.scheduler.statistics.promptTokensTotal == 18)
        #expect(harness.scheduler.statistics.generationTokensTotal == 5 + 3 + 2)
    }

    @Test func withoutChunkingAPromptWaitsUntilItFitsWhole() throws {
        var harness = try SchedulerHarness(batch: 10, modelLength: 10, chunked: false)
        harness.submit(1, prompt: 6)
        harness.submit(2, prompt: 5)
        harness.submit(3, prompt: 2)
        #expect(harness.step() == "1:6")
        #expect(harness.step() == "1:d 2:5 3:2")
    }

    @Test func prefillFirstComputesPromptsWholeOrElseDecodes() throws {
        var harness = try SchedulerHarness(
            sequences: 4, batch: 10, modelLength: 10, chunked: false, prefillFirst: true)
        harness.submit(1, prompt: 6, maxTokens: 4)
        harness.submit(2, prompt: 5, maxTokens: 4)
        harness.submit(3, prompt: 2, maxTokens: 4)
        #expect(harness.step() == "1:6")
        #expect(harness.step() == "2:5 3:2")
        #expect(harness.step() == "1:d 2:d 3:d")
        harness.submit(4, prompt: 1)
        harness.submit(5, prompt: 1)
        #expect(harness.step(allowPrefill: false) == "1:d 2:d 3:d")
        #expect(harness.step() == "4:1")
        // 5 waits for a place, and nobody waits for it.
        #expect(harness.schedule() == "1:d 2:d 3:d 4:d")
        #expect(harness.scheduler.statistics.waiting == 1)
        harness.complete()
        #expect(harness.step() == "5:1")
    }

    @Test func prefillFirstLeavesABlockToThoseWhoRun() throws {
        var harness = try SchedulerHarness(
            batch: 64, blocks: 4, chunked: false, prefillFirst: true)
        harness.submit(1, prompt: 8, maxTokens: 2)
        harness.submit(2, prompt: 5, maxTokens: 2)
        // 2 would take the last two of four blocks.
        #expect(harness.step() == "1:8")
        #expect(harness.step() == "1:d")
        // Alone it may have them all.
        harness.submit(3, prompt: 13, maxTokens: 2)
        #expect(harness.step() == "2:5")
        #expect(harness.step() == "2:d")
        #expect(harness.step() == "3:13")
    }

    @Test func theFirstThatDoesNotFitEndsAdmission() throws {
        var harness = try SchedulerHarness(blocks: 4)
        harness.submit(1, prompt: 7, maxTokens: 2)
        harness.submit(2, prompt: 12, maxTokens: 1)
        harness.submit(3, prompt: 1, maxTokens: 1)
        #expect(harness.step() == "1:7")
        #expect(harness.step() == "1:d")
        #expect(harness.step() == "2:12 3:1")
    }

    @Test func slotsBoundAdmission() throws {
        var harness = try SchedulerHarness(sequences: 2)
        for id in 1...3 as ClosedRange<UInt64> { harness.submit(id, prompt: 2, maxTokens: 2) }
        #expect(harness.step() == "1:2 2:2")
        #expect(harness.scheduler.statistics.waiting == 1)
        #expect(harness.step() == "1:d 2:d")
        #expect(harness.step() == "3:2")
    }

    @Test func aDecodeOnlyStepHasNoPrefillRow() throws {
        var harness = try SchedulerHarness(batch: 8)
        harness.submit(1, prompt: 2)
        harness.submit(2, prompt: 12)
        #expect(harness.scheduler.hasWork && harness.scheduler.hasPrefillWork)
        #expect(harness.step(allowPrefill: false) == "")
        #expect(harness.step() == "1:2 2:6")
        harness.submit(3, prompt: 1)
        #expect(harness.step(allowPrefill: false) == "1:d")
        #expect(harness.step() == "1:d 2:6 3:1")
        #expect(!harness.scheduler.hasPrefillWork)
    }

    @Test func theLastComeIsPreemptedAndNothingIsAdmittedInThatStep() throws {
        var harness = try SchedulerHarness(blocks: 4)
        harness.submit(1, prompt: 8, maxTokens: 8)
        harness.submit(2, prompt: 4, maxTokens: 9)
        #expect(harness.step() == "1:8 2:4")
        // 1 takes the last block; 2 finds none and is itself the last.
        harness.submit(3, prompt: 1)
        #expect(harness.step() == "1:d")
        #expect(harness.scheduler.statistics.preemptionsTotal == 1)
        #expect(harness.scheduler.statistics.waiting == 2)
        // 2 has 5 tokens now and one block is free: 3 does not overtake it.
        for _ in 0..<6 { #expect(harness.step() == "1:d") }
        // 1 ended; 2 computes prompt and output once more, without sampling anything twice.
        #expect(harness.schedule() == "2:5 3:1")
        #expect(harness.complete().map(\.sequence.rawValue) == [2, 3])
        #expect(harness.scheduler.statistics.promptTokensTotal == 8 + 4 + 1)
    }

    @Test func priorityDecidesAdmissionAndVictim() throws {
        var harness = try SchedulerHarness(sequences: 3, blocks: 3, policy: .priority)
        harness.submit(1, prompt: 4, maxTokens: 5, priority: 5)
        harness.submit(2, prompt: 4, maxTokens: 5, priority: 0)
        harness.submit(3, prompt: 4, maxTokens: 5, priority: 5)
        #expect(harness.schedule() == "2:4 1:4 3:4")
        harness.complete()
        // 2 takes the block of 3; then 1 finds none, and is the worst that is left.
        #expect(harness.schedule() == "2:d")
        #expect(harness.scheduler.statistics.preemptionsTotal == 2)
        harness.submit(4, prompt: 1, maxTokens: 2, priority: -1)
        harness.complete()
        #expect(harness.step() == "2:d 4:1")
        #expect(harness.schedule() == "4:d 2:d")
    }

    @Test func aStepThatPreemptedAdmitsNobodyEvenWhereBlocksAreLeft() throws {
        var harness = try SchedulerHarness(blocks: 3, policy: .priority)
        harness.submit(1, prompt: 4, maxTokens: 4, priority: 0)
        harness.submit(2, prompt: 7, maxTokens: 2, priority: 5)
        #expect(harness.step() == "1:4 2:7")
        harness.submit(3, prompt: 1, maxTokens: 1, priority: -1)
        // Two blocks of 2 are freed and 1 takes one of them; 3 needs one, and still waits.
        #expect(harness.step() == "1:d")
        #expect(harness.scheduler.statistics.preemptionsTotal == 1)
        #expect(harness.step() == "1:d 3:1")
    }

    @Test func withoutThePolicyPrioritiesAreIgnored() throws {
        var harness = try SchedulerHarness()
        harness.submit(1, prompt: 1, priority: 5)
        harness.submit(2, prompt: 1, priority: -5)
        #expect(harness.schedule() == "1:1 2:1")
    }

    @Test func aCancelDuringTheStepFreesAtItsEnd() throws {
        var harness = try SchedulerHarness()
        harness.submit(1, prompt: 4)
        harness.submit(2, prompt: 4)
        _ = harness.schedule()
        let actions = [
            harness.scheduler.cancel(sequence(1)), harness.scheduler.cancel(sequence(1)),
        ]
        #expect(actions == [.freedAtStepEnd, .unknown])
        #expect(harness.scheduler.statistics.kvUsage == 2.0 / 64)
        #expect(harness.scheduler.samplingRequest(of: sequence(1)) == nil)
        try harness.scheduler.checkInvariants()
        #expect(harness.complete().map(\.sequence.rawValue) == [2])
        #expect(harness.scheduler.statistics.kvUsage == 1.0 / 64)
        let between = harness.scheduler.cancel(sequence(2))
        #expect(between == .freed)
        #expect(harness.scheduler.statistics.kvUsage == 0)
        #expect(!harness.scheduler.hasWork)
    }

    @Test func anAbandonedStepIsScheduledAgain() throws {
        var harness = try SchedulerHarness(batch: 8)
        harness.submit(1, prompt: 10)
        harness.submit(2, prompt: 2)
        #expect(harness.schedule() == "1:8")
        harness.scheduler.abandon(harness.plan)
        #expect(harness.step() == "1:8")
        #expect(harness.schedule() == "1:2 2:2")
        _ = harness.scheduler.cancel(sequence(1))
        harness.scheduler.abandon(harness.plan)
        try harness.scheduler.checkInvariants()
        #expect(harness.step() == "2:2")
        #expect(harness.step() == "2:d")
    }

    @Test func abortAllNamesEverySequenceOnce() throws {
        var harness = try SchedulerHarness(sequences: 2)
        for id in 1...4 as ClosedRange<UInt64> { harness.submit(id, prompt: 2) }
        _ = harness.step()
        _ = harness.schedule()
        _ = harness.scheduler.cancel(sequence(2))
        let ended = harness.scheduler.abortAll()
        #expect(ended.map(\.rawValue) == [1, 3, 4])
        #expect(harness.complete().isEmpty)
        #expect(!harness.scheduler.hasWork && harness.scheduler.statistics.kvUsage == 0)
        try harness.scheduler.checkInvariants()
    }

    @Test func aFailedRowEndsItsSequenceAlone() throws {
        var harness = try SchedulerHarness()
        harness.submit(1, prompt: 2)
        harness.submit(2, prompt: 2)
        _ = harness.schedule()
        let good = SampledToken(tokenID: 9, logprobs: nil)
        let updates = harness.scheduler.complete(
            harness.plan,
            results: [
                EntryResult(outcome: .failed(.noFiniteLogit)),
                EntryResult(outcome: .sampled(good)),
            ])
        #expect(updates.map(\.sequence.rawValue) == [1, 2])
        #expect(updates[0].finish == .init(reason: .error, error: .noFiniteLogit))
        #expect(updates[1].token == good && updates[1].finish == nil)
        #expect(harness.step() == "2:d")
    }
}
