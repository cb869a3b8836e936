internal import Protocol

extension Sampler {
    /// Samples and scores everything that a step owes, from the logits of `plan.logitRows`.
    ///
    /// - Parameters:
    ///   - plan: the step in progress of `scheduler`.
    ///   - logits: `[plan.logitRows.count, vocabularyCount]`, float32, row-major, in the order of
    ///     `plan.logitRows`; read only.
    ///   - results: emptied, then one an entry, for ``Scheduler/complete(_:results:)``.
    public func sample(
        plan: borrowing StepPlan,
        logits: UnsafeBufferPointer<Float>,
        scheduler: borrowing Scheduler,
        into results: inout [EntryResult]
    ) {
        let rows = plan.logitRows
        precondition(
            logits.count == rows.count * vocabularyCount,
            "\(logits.count) logits for \(rows.count) rows of \(vocabularyCount)")
        results.removeAll(keepingCapacity: true)
        var next = 0
        for entry in plan.entries {
            let end = Int32(entry.firstRow + entry.rowCount)
            let first = next
            while next < rows.count && rows[next] < end { next += 1 }
            let part = logits[(first * vocabularyCount)..<(next * vocabularyCount)]
            results.append(
                result(entry, logits: UnsafeBufferPointer(rebasing: part), scheduler: scheduler))
        }
        precondition(next == rows.count, "\(rows.count - next) rows of logits belong to no entry")
    }

    /// `logits`: `[rows of the entry with logits, vocabularyCount]`.
    private func result(
        _ entry: StepPlan.Entry,
        logits: UnsafeBufferPointer<Float>,
        scheduler: borrowing Scheduler
    ) -> EntryResult {
        guard let request = scheduler.samplingRequest(of: entry.sequence) else {
            return EntryResult(outcome: .notSampled)
        }
        let width = vocabularyCount
        var result = EntryResult(outcome: .notSampled)
        do throws(SamplingError) {
            for (row, tokenID) in scheduler.scoredPromptTokens(of: entry).enumerated() {
                let part = logits[(row * width)..<((row + 1) * width)]
                let topCount = Int(request.parameters.promptLogprobs ?? 0)
                result.promptLogprobs.append(
                    try logprobs(
                        logits: UnsafeBufferPointer(rebasing: part), tokenID: tokenID,
                        topCount: topCount))
            }
            if entry.samples {
                let last = UnsafeBufferPointer(rebasing: logits[(logits.count - width)...])
                result.outcome = .sampled(try sample(logits: last, request: request))
            }
        } catch {
            result.outcome = .failed(error)
        }
        return result
    }
}
