import Protocol
import Testing

@testable import EngineWorker

/// How a sequence begins and ends: rejections, stopping, prompt logprobs.
@Suite struct SchedulerEndsTests {
    struct StopCase: Sendable {
        let name: String
        let tokens: [Int32]
        let finish: SequenceUpdate.Finish
        var change: @Sendable (inout SamplingParameters) -> Void = { _ in }
    }

    @Test(arguments: [
        StopCase(name: "end of sequence", tokens: [9, 2], finish: .init(reason: .stop)),
        StopCase(
            name: "end of sequence before stop token", tokens: [1], finish: .init(reason: .stop),
            change: { $0.stopTokenIDs = [1] }),
        StopCase(
            name: "ignored end of sequence", tokens: [1, 2, 9, 9], finish: .init(reason: .length),
            change: { $0.ignoreEOS = true }),
        StopCase(
            name: "ignored, but a stop token", tokens: [1, 2],
            finish: .init(reason: .stop, stopTokenID: 2),
            change: { ($0.ignoreEOS, $0.stopTokenIDs) = (true, [2]) }),
        StopCase(
            name: "stop token", tokens: [9, 30], finish: .init(reason: .stop, stopTokenID: 30),
            change: { $0.stopTokenIDs = [31, 30] }),
        StopCase(
            name: "stop token as the last of max_tokens", tokens: [9, 9, 9, 30],
            finish: .init(reason: .stop, stopTokenID: 30), change: { $0.stopTokenIDs = [30] }),
        StopCase(
            name: "no stop below min_tokens", tokens: [1, 30, 1], finish: .init(reason: .stop),
            change: { ($0.minTokens, $0.stopTokenIDs) = (3, [30]) }),
        StopCase(name: "max_tokens", tokens: [9, 9, 9, 9], finish: .init(reason: .length)),
        StopCase(
            name: "model length, even below min_tokens", tokens: [9, 9, 9, 9, 9, 9],
            finish: .init(reason: .length), change: { ($0.maxTokens, $0.minTokens) = (50, 40) }),
    ])
    func sequencesStopInOrder(stop: StopCase) throws {
        var harness = try SchedulerHarness(modelLength: 10)
        harness.submit(1, prompt: 4, maxTokens: 4, change: stop.change)
        for (index, token) in stop.tokens.enumerated() {
            _ = harness.schedule()
            let updates = harness.complete(token: token)
            let isLast = index == stop.tokens.count - 1
            #expect(updates.map(\.token?.tokenID) == [token], "\(stop.name)")
            #expect(updates.first?.finish == (isLast ? stop.finish : nil), "\(stop.name) \(index)")
        }
        #expect(!harness.scheduler.hasWork, "\(stop.name)")
        #expect(harness.scheduler.statistics.kvUsage == 0, "\(stop.name)")
    }

    @Test func whatCannotRunIsRejectedWithTheReason() throws {
        var harness = try SchedulerHarness(modelLength: 40, waiting: 2, blocks: 8)
        func rejected(_ reason: SubmitRejection) -> SubmitAction { .rejected(reason) }
        var actions = [
            harness.submit(1, prompt: 0),
            harness.submit(2, prompt: 40),
            harness.submit(3, prompt: 30, maxTokens: 4),
            harness.submit(4, prompt: 5, maxTokens: 0),
        ]
        #expect(
            actions == [
                rejected(.emptyPrompt),
                rejected(.promptTooLong(tokenCount: 40, modelLength: 40)),
                rejected(.neverFits(blocksNeeded: 9, blockCount: 8)),
                rejected(.nothingToGenerate(maxTokens: 0, delivered: 0)),
            ])
        for token in [-1, 100] as [Int32] {
            let action = harness.scheduler.submit(
                NewSequence(
                    id: sequence(5), promptTokens: [7, token], parameters: SamplingParameters()))
            let reason = SubmitRejection.tokenOutOfVocabulary(
                tokenID: token, index: 1, vocabularyCount: 100)
            #expect(action == .rejected(reason))
        }
        var parameters = SamplingParameters()
        parameters.maxTokens = 2
        let done = harness.scheduler.submit(
            NewSequence(
                id: sequence(6), promptTokens: [7], deliveredTokens: [8, 9], parameters: parameters)
        )
        #expect(done == .rejected(.nothingToGenerate(maxTokens: 2, delivered: 2)))
        // 30 + 3 tokens need 32 positions: the last one is never computed.
        actions = [
            harness.submit(7, prompt: 30, maxTokens: 3),
            harness.submit(8, prompt: 1),
            harness.submit(9, prompt: 1),
        ]
        #expect(actions == [.accepted, .accepted, rejected(.queueFull(limit: 2))])
        // Another limit is for those who come; who waits is not sent away.
        harness.scheduler.limitWaiting(to: 3)
        actions = [harness.submit(9, prompt: 1), harness.submit(10, prompt: 1)]
        #expect(actions == [.accepted, rejected(.queueFull(limit: 3))])
        harness.scheduler.limitWaiting(to: 1)
        #expect(harness.scheduler.statistics.waiting == 3)
        #expect(harness.submit(10, prompt: 1) == rejected(.queueFull(limit: 1)))
        try harness.scheduler.checkInvariants()
    }

    @Test func maxTokensZeroEndsWithThePromptsScores() throws {
        var harness = try SchedulerHarness(batch: 8, modelLength: 10)
        let action = harness.submit(1, prompt: 10, maxTokens: 0) { $0.promptLogprobs = 0 }
        #expect(action == .accepted)
        #expect(harness.schedule() == "1:8")
        #expect(harness.plan.logitRows == Array(0..<8))
        #expect(harness.complete().isEmpty)
        #expect(harness.schedule() == "1:2")
        #expect(harness.plan.entries[0].samples == false)
        let updates = harness.complete()
        #expect(updates.count == 1 && updates[0].token == nil)
        #expect(updates[0].promptLogprobs?.count == 9)
        #expect(updates[0].finish == .init(reason: .length))
        #expect(!harness.scheduler.hasWork)
    }

    @Test func aRecomputedPromptIsNotScoredTwice() throws {
        var harness = try SchedulerHarness(batch: 8, blocks: 6, blockSize: 2)
        harness.submit(1, prompt: 4, maxTokens: 4)
        harness.submit(2, prompt: 8, maxTokens: 4) { $0.promptLogprobs = 0 }
        #expect(harness.step() == "1:4 2:4")
        // 1 needs a block: 2, half-way through its prompt and half scored, is preempted.
        #expect(harness.step() == "1:d")
        #expect(harness.step() == "1:d")
        #expect(harness.step() == "1:d")
        #expect(harness.schedule() == "2:8")
        #expect(harness.plan.logitRows == Array(0..<8))
        let update = try #require(harness.complete().first)
        #expect(update.promptLogprobs?.count == 7 && update.token != nil)
        #expect(harness.schedule() == "2:d")
        #expect(harness.plan.logitRows == [0])
        #expect(harness.complete().first?.promptLogprobs == nil)
    }

    @Test(arguments: [true, false])
    func aScoredPromptIsSpreadOverTheLogitRows(chunked: Bool) throws {
        var harness = try SchedulerHarness(sequences: 3, batch: 64, logitRows: 5, chunked: chunked)
        harness.submit(1, prompt: 3)
        harness.submit(2, prompt: 9) { $0.promptLogprobs = 0 }
        harness.submit(3, prompt: 4)
        #expect(harness.step() == "1:3 2:4")
        #expect(harness.step() == "1:d 2:4")
        #expect(harness.step() == "1:d 2:1 3:4")
        #expect(harness.step() == "1:d 2:d 3:d")
    }

    @Test func deliveredTokensCountAsOutput() throws {
        var harness = try SchedulerHarness()
        var parameters = SamplingParameters()
        (parameters.maxTokens, parameters.promptLogprobs) = (3, 1)
        parameters.frequencyPenalty = 1
        let new = NewSequence(
            id: sequence(1), promptTokens: [7, 8], deliveredTokens: [9], parameters: parameters)
        let action = harness.scheduler.submit(new)
        #expect(action == .accepted)
        #expect(harness.schedule() == "1:3")
        #expect(harness.plan.logitRows == [2])
        let request = try #require(harness.scheduler.samplingRequest(of: sequence(1)))
        #expect(request.position == 3 && request.outputCount == 1)
        #expect(request.occurrences?.tokenIDs == [7, 8, 9])
        #expect(request.occurrences?.outputCounts == [0, 0, 1])
        #expect(harness.complete().first?.finish == nil)
        _ = harness.schedule()
        #expect(harness.complete().first?.finish == .init(reason: .length))
    }

    @Test func boundsThatContradictEachOtherAreRefused() {
        func limits(
            sequences: Int = 4, batch: Int = 16, blocks: Int = 9, chunked: Bool = true
        ) throws(SchedulerLimitsError) -> SchedulerLimits {
            try SchedulerLimits(
                maxSequencesRunning: sequences, maxBatchedTokens: batch, maxModelLength: 32,
                maxSequencesWaiting: 1, blockCount: blocks, blockSize: 2, chunkedPrefill: chunked,
                eosTokenIDs: [], vocabularyCount: 10)
        }
        #expect(throws: SchedulerLimitsError.batchBelowSequences(batch: 16, sequences: 17)) {
            try limits(sequences: 17)
        }
        #expect(throws: SchedulerLimitsError.batchBelowModelLength(batch: 16, modelLength: 32)) {
            try limits(chunked: false)
        }
        #expect(throws: SchedulerLimitsError.logitRowsBelowSequences(rows: 3, sequences: 4)) {
            try SchedulerLimits(
                maxSequencesRunning: 4, maxBatchedTokens: 16, maxLogitRows: 3,
                maxModelLength: 32, maxSequencesWaiting: 1, blockCount: 9, blockSize: 2,
                eosTokenIDs: [], vocabularyCount: 10)
        }
        for blocks in [0, -1, Int.max, Int(Int32.max)] {
            #expect(throws: SchedulerLimitsError.self) { try limits(blocks: blocks) }
        }
        #expect((try? limits())?.longestSequence == 18)
    }
}
