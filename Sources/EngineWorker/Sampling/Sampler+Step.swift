internal import Protocol

/// What a step owes, a job a row of logits, kept between steps for its memory.
final class StepRows: RowWork {
    struct Job {
        /// Row of the step's logits.
        let row: Int
        /// Place of the plan's entry, and of its request in `requests`.
        let entry: Int
        let request: Int
        /// The prompt token to score; nil where a token is to be sampled.
        let scored: Int32?
    }

    enum Outcome {
        case none
        case scored(TokenLogprobs)
        case sampled(SampledToken)
        case failed(SamplingError)
    }

    var requests: [SamplingRequest] = []
    var jobs: [Job] = []
    var outcomes: [Outcome] = []

    private let width: Int
    private let rowSamplers: [RowSampler]
    /// Of the arrays above, while the threads run.
    private var logits = UnsafeBufferPointer<Float>(start: nil, count: 0)
    private var results = UnsafeMutableBufferPointer<Outcome>(start: nil, count: 0)

    init(width: Int, rowSamplers: [RowSampler]) {
        self.width = width
        self.rowSamplers = rowSamplers
    }

    func run(_ logits: UnsafeBufferPointer<Float>, by runner: any RowRunner) {
        var outcomes: [Outcome] = []
        swap(&outcomes, &self.outcomes)
        outcomes.append(contentsOf: repeatElement(.none, count: jobs.count))
        outcomes.withUnsafeMutableBufferPointer { results in
            self.logits = logits
            self.results = results
            runner.run(results.count, self)
            self.results = UnsafeMutableBufferPointer(start: nil, count: 0)
        }
        swap(&outcomes, &self.outcomes)
    }

    override func perform(item: Int, thread: Int) {
        let job = jobs[item]
        let row = logits[(job.row * width)..<((job.row + 1) * width)]
        results[item] = rowSamplers[thread].outcome(
            of: job, request: requests[job.request], logits: UnsafeBufferPointer(rebasing: row))
    }

    func removeAll() {
        requests.removeAll(keepingCapacity: true)
        jobs.removeAll(keepingCapacity: true)
        outcomes.removeAll(keepingCapacity: true)
    }
}

extension Sampler {
    /// Samples and scores everything that a step owes, from the logits of `plan.logitRows`, with
    /// the rows spread over the runner's threads.
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
        for (place, entry) in plan.entries.enumerated() {
            let end = Int32(entry.firstRow + entry.rowCount)
            let first = next
            while next < rows.count && rows[next] < end { next += 1 }
            addJobs(entry, at: place, rows: first..<next, scheduler: scheduler)
            results.append(EntryResult(outcome: .notSampled))
        }
        precondition(next == rows.count, "\(rows.count - next) rows of logits belong to no entry")
        steps.run(logits, by: runner)
        collect(into: &results)
        // Arrays that are shared with the scheduler would be copied when it changes them.
        steps.removeAll()
    }

    /// `rows`: those of the step's logits that belong to the entry.
    private func addJobs(
        _ entry: StepPlan.Entry, at place: Int, rows: Range<Int>,
        scheduler: borrowing Scheduler
    ) {
        guard let request = scheduler.samplingRequest(of: entry.sequence) else { return }
        steps.requests.append(request)
        let last = steps.requests.count - 1
        for (row, tokenID) in scheduler.scoredPromptTokens(of: entry).enumerated() {
            steps.jobs.append(
                StepRows.Job(
                    row: rows.lowerBound + row, entry: place, request: last, scored: tokenID))
        }
        if entry.samples {
            steps.jobs.append(
                StepRows.Job(
                    row: rows.upperBound - 1, entry: place, request: last, scored: nil))
        }
    }

    /// The jobs of an entry stand in its order. Its first failure is its outcome; what comes
    /// after it is dropped.
    private func collect(into results: inout [EntryResult]) {
        for (job, outcome) in zip(steps.jobs, steps.outcomes) {
            if case .failed = results[job.entry].outcome { continue }
            switch outcome {
            case .none: preconditionFailure("row \(job.row) was left out")
            case .scored(let logprobs): results[job.entry].promptLogprobs.append(logprobs)
            case .sampled(let token): results[job.entry].outcome = .sampled(token)
            case .failed(let error): results[job.entry].outcome = .failed(error)
            }
        }
    }
}

extension RowSampler {
    func outcome(
        of job: StepRows.Job, request: SamplingRequest, logits: UnsafeBufferPointer<Float>
    ) -> StepRows.Outcome {
        do throws(SamplingError) {
            guard let tokenID = job.scored else {
                return .sampled(try sample(logits: logits, request: request))
            }
            let topCount = Int(request.parameters.promptLogprobs ?? 0)
            return .scored(
                try logprobs(logits: logits, tokenID: tokenID, topCount: topCount))
        } catch {
            return .failed(error)
        }
    }
}
