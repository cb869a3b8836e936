internal import Protocol

/// Decides what one DP rank computes in each tick: continuous batching with chunked prefill over a
/// paged KV cache, and preemption by recomputing.
///
/// Pure: the plans are a function of the sequence of calls. It must never see a tensor, read a
/// clock, or let the order of a dictionary decide anything.
///
/// A tick is ``schedule(into:allowPrefill:)``, the forward pass, ``complete(_:results:)`` (or
/// ``abandon(_:)`` where the pass failed). In between, sequences may be submitted and cancelled.
/// A step costs O(running + admitted), besides O(log waiting) for each admission and preemption.
///
/// Rules, after vLLM V1's scheduler:
/// 1. Running sequences come first, best first: a row for each that decodes, then prefill chunks
///    while the budget lasts.
/// 2. Where a decode step finds no block, the worst running sequence is preempted (the last come,
///    or under the priority policy the last of the lowest priority): its blocks are freed, and it
///    waits to be computed again, output included.
/// 3. Waiting sequences are admitted in order while slots, budget and blocks last, but not in a
///    step that preempted. The first that does not fit ends admission: none overtakes.
/// 4. Admission takes the blocks of all known tokens at once. So prefill chunks never lack a
///    block, and two prompts cannot each be admitted into the same free blocks.
///
/// The best running sequence is never preempted, and alone it fits (``SubmitRejection/neverFits``);
/// so some sequence always gets further.
public struct Scheduler: Sendable {
    public let limits: SchedulerLimits

    var pool: BlockPool
    var sequences = SequenceTable()
    /// Best first, by `ScheduledSequence.key`.
    var running: [SequenceID] = []
    var waiting = WaitingQueue()
    /// Cancelled sequences that the step being executed still holds.
    var cancelledInStep: [SequenceID] = []
    var stepInProgress = false
    private var arrivals: UInt64 = 0
    var counters = SchedulerStatistics()

    public init(limits: SchedulerLimits) {
        self.limits = limits
        pool = BlockPool(blockCount: limits.blockCount, blockSize: limits.blockSize)
        running.reserveCapacity(limits.maxSequencesRunning)
    }

    public var statistics: SchedulerStatistics {
        var statistics = counters
        statistics.running = running.count
        statistics.waiting = waiting.count
        statistics.kvUsage = pool.usage
        return statistics
    }

    /// Whether any sequence is not ended, or a step not completed.
    public var hasWork: Bool { !sequences.isEmpty || stepInProgress }

    /// Whether a step with prefill allowed could have rows that a decode-only step has not.
    public var hasPrefillWork: Bool {
        !waiting.isEmpty || running.contains { sequences[$0]?.isDecoding == false }
    }

    // MARK: Submit and cancel

    /// Accepts a sequence into the waiting queue, or says why not. A reused id traps.
    public mutating func submit(_ new: NewSequence) -> SubmitAction {
        precondition(!sequences.contains(new.id), "sequence \(new.id) exists already")
        if let rejection = rejection(of: new) { return .rejected(rejection) }
        let priority = limits.policy == .priority ? new.priority : 0
        let key = WaitingQueue.Key(priority: priority, arrival: arrivals)
        arrivals += 1
        sequences.insert(ScheduledSequence(new, key: key))
        waiting.insert(new.id, key: key)
        return .accepted
    }

    private func rejection(of new: NewSequence) -> SubmitRejection? {
        guard waiting.count < limits.maxSequencesWaiting else {
            return .queueFull(limit: limits.maxSequencesWaiting)
        }
        guard !new.promptTokens.isEmpty else { return .emptyPrompt }
        let tokens = new.promptTokens + new.deliveredTokens
        let maxTokens = new.parameters.maxTokens
        let left = Int(maxTokens) - new.deliveredTokens.count
        let onlyScores = maxTokens == 0 && new.parameters.promptLogprobs != nil
        guard left > 0 || (onlyScores && left == 0) else {
            return .nothingToGenerate(maxTokens: maxTokens, delivered: new.deliveredTokens.count)
        }
        guard tokens.count + (onlyScores ? 0 : 1) <= limits.maxModelLength else {
            return .promptTooLong(tokenCount: tokens.count, modelLength: limits.maxModelLength)
        }
        let vocabulary = 0..<Int32(limits.vocabularyCount)
        if let index = tokens.firstIndex(where: { !vocabulary.contains($0) }) {
            return .tokenOutOfVocabulary(
                tokenID: tokens[index], index: index, vocabularyCount: limits.vocabularyCount)
        }
        // The last token is never computed, only delivered.
        let longest = min(tokens.count + left, limits.maxModelLength)
        let needed = pool.blocksNeeded(positionCount: max(tokens.count, longest - 1))
        guard needed <= limits.blockCount else {
            return .neverFits(blocksNeeded: needed, blockCount: limits.blockCount)
        }
        return nil
    }

    /// Ends a sequence without an update. The caller answers whoever waits for it.
    public mutating func cancel(_ id: SequenceID) -> CancelAction {
        guard let sequence = sequences[id] else { return .unknown }
        switch sequence.stage {
        case .cancelled:
            return .unknown
        case .waiting:
            waiting.remove(id)
        case .running:
            running.removeAll { $0 == id }
        }
        // A preempted sequence cannot be in the step, since a step ends before the next begins.
        if sequence.isInStep {
            sequences.update(id) { $0.stage = .cancelled }
            cancelledInStep.append(id)
            return .freedAtStepEnd
        }
        remove(id)
        return .freed
    }

    /// Cancels everything and says what was cancelled, best first: running, then waiting.
    public mutating func abortAll() -> [SequenceID] {
        var ended = running
        while let id = waiting.first {
            waiting.remove(id)
            ended.append(id)
            remove(id)
        }
        while let id = running.last {
            let action = cancel(id)
            precondition(action != .unknown, "running sequence \(id) is unknown")
        }
        return ended
    }

    /// What the sampler needs for one entry; nil where its sequence was cancelled meanwhile.
    public func samplingRequest(of id: SequenceID) -> SamplingRequest? {
        guard let sequence = sequences[id], sequence.stage == .running else { return nil }
        return SamplingRequest(
            parameters: sequence.parameters,
            position: sequence.tokens.count,
            outputCount: sequence.outputCount,
            occurrences: sequence.occurrences)
    }

    /// The prompt tokens that the rows of `entry` score, one a row from the first on; empty where
    /// none is owed or the sequence was cancelled meanwhile.
    public func scoredPromptTokens(of entry: StepPlan.Entry) -> ArraySlice<Int32> {
        guard let sequence = sequences[entry.sequence], sequence.stage == .running,
            sequence.scoresPrompt(rowCount: entry.rowCount)
        else { return [] }
        return sequence.scoredPromptTokens(
            firstPosition: entry.firstPosition, rowCount: entry.rowCount)
    }

    // MARK: Shared by the extensions

    func sequence(_ id: SequenceID) -> ScheduledSequence {
        guard let sequence = sequences[id] else { preconditionFailure("no sequence \(id)") }
        return sequence
    }

    /// Forgets a sequence and frees its blocks. It must be in neither queue.
    mutating func remove(_ id: SequenceID) {
        var sequence = sequences.remove(id)
        pool.release(&sequence.blocks)
    }

    /// Takes blocks for positions `0 ..< positionCount`; false, and nothing taken, if too few.
    mutating func extend(_ id: SequenceID, positionCount: Int) -> Bool {
        guard var blocks = sequences[id]?.blocks else { preconditionFailure("no sequence \(id)") }
        sequences.update(id) { $0.blocks = BlockTable() }
        let extended = pool.extend(&blocks, positionCount: positionCount)
        sequences.update(id) { $0.blocks = blocks }
        return extended
    }
}
