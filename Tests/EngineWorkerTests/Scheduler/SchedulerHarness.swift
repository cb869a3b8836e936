import Protocol

@testable import EngineWorker

/// A scheduler for table tests, with greedy results that the test chooses.
struct SchedulerHarness {
    var scheduler: Scheduler
    var plan = StepPlan()

    init(
        sequences: Int = 8,
        batch: Int = 64,
        logitRows: Int? = nil,
        modelLength: Int = 64,
        waiting: Int = 16,
        blocks: Int = 64,
        blockSize: Int = 4,
        chunked: Bool = true,
        prefillFirst: Bool = false,
        caching: Bool = false,
        policy: SchedulerLimits.Policy = .firstComeFirstServed
    ) throws {
        scheduler = Scheduler(
            limits: try SchedulerLimits(
                maxSequencesRunning: sequences, maxBatchedTokens: batch,
                maxLogitRows: logitRows,
                maxModelLength: modelLength, maxSequencesWaiting: waiting, blockCount: blocks,
                blockSize: blockSize, chunkedPrefill: chunked, prefillFirst: prefillFirst,
                prefixCaching: caching,
                policy: policy,
                eosTokenIDs: [1, 2], vocabularyCount: 100))
    }

    @discardableResult
    mutating func submit(
        _ id: UInt64,
        prompt: Int,
        maxTokens: Int32 = 16,
        priority: Int32 = 0,
        change: (inout SamplingParameters) -> Void = { _ in }
    ) -> SubmitAction {
        var parameters = SamplingParameters()
        parameters.maxTokens = maxTokens
        change(&parameters)
        return scheduler.submit(
            NewSequence(
                id: SequenceID(rawValue: id),
                promptTokens: Array(repeating: 50, count: prompt), parameters: parameters,
                priority: priority))
    }

    /// Schedules and gives each entry as "id:rows", decodes with a "d".
    mutating func schedule(allowPrefill: Bool = true) -> String {
        scheduler.schedule(into: &plan, allowPrefill: allowPrefill)
        return plan.entries.map { entry in
            "\(entry.sequence.rawValue):\(entry.isDecode ? "d" : String(entry.rowCount))"
        }.joined(separator: " ")
    }

    /// Completes the step with `token` wherever a token is due.
    @discardableResult
    mutating func complete(token: Int32 = 60) -> [SequenceUpdate] {
        let results = plan.entries.map { entry in
            let score = TokenLogprobs(tokenID: 50, logprob: -1, rank: 1, top: [])
            let scored = scheduler.scoredPromptTokens(of: entry)
            return EntryResult(
                outcome: entry.samples
                    ? .sampled(SampledToken(tokenID: token, logprobs: nil)) : .notSampled,
                promptLogprobs: Array(repeating: score, count: scored.count))
        }
        return scheduler.complete(plan, results: results)
    }

    mutating func step(allowPrefill: Bool = true) -> String {
        let summary = schedule(allowPrefill: allowPrefill)
        complete()
        return summary
    }
}

extension Scheduler {
    /// The updates as a new array.
    mutating func complete(
        _ plan: borrowing StepPlan, results: [EntryResult]
    ) -> [SequenceUpdate] {
        var updates: [SequenceUpdate] = []
        complete(plan, results: results, into: &updates)
        return updates
    }
}

/// The sequence that a test calls `number`.
func sequence(_ number: UInt64) -> SequenceID { SequenceID(rawValue: number) }
