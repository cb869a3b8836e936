internal import Protocol

/// Decides what one DP rank computes in each tick: continuous batching with chunked prefill over a
/// paged KV cache, and preemption by recomputing.
///
/// Pure: the plans are a function of the sequence of calls. It must never see a tensor, read a
/// clock, or let the order of a dictionary decide anything.
///
/// A tick is ``schedule(into:allowPrefill:)``, the forward pass, ``complete(_:results:)`` (or
/// ``abandon(_:)`` where the pass failed). In between, sequences may be submitted and cancelled.
/// A step costs O(running + admitted), besides O(log waiting) for each admission and preemption,
/// and allocates nothing while all that it does is decode.
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
/// 5. With prefix caching, a block is cached when it is full and computed, and a sequence begins
///    behind the cached blocks of its tokens, also after a preemption. One token at least is always
///    computed, and everything that is owed prompt scores.
/// 6. With `prefillFirst`, a step that can compute prompts computes nothing else, and it looks for
///    them before it decodes.
///
/// The best running sequence is never preempted, and alone it fits (``SubmitRejection/neverFits``);
/// so some sequence always gets further.
public struct Scheduler: Sendable {
    public private(set) var limits: SchedulerLimits

    var pool: BlockPool
    var sequences = SequenceTable()
    /// Places in `sequences`, best first by `ScheduledSequence.key`.
    var running: [Int] = []
    var waiting = WaitingQueue()
    /// Tokens of the sequences in `waiting`.
    var waitingTokens = 0
    /// Admission ended for want of blocks, when it was last tried.
    var lacksBlocks = false
    /// Places of the sequences in the step being executed, in plan order.
    var stepPlaces: [Int] = []
    /// Places of cancelled sequences that the step being executed still holds.
    var cancelledInStep: [Int] = []
    var stepInProgress = false
    /// What the first block of a sequence without a salt is chained to.
    private let rootHash: BlockHash
    private var arrivals: UInt64 = 0
    var counters = SchedulerStatistics()

    public init(limits: SchedulerLimits) {
        self.limits = limits
        pool = BlockPool(
            blockCount: limits.blockCount, blockSize: limits.blockSize,
            caches: limits.prefixCaching)
        rootHash = BlockHash.root(blockSize: limits.blockSize)
        running.reserveCapacity(limits.maxSequencesRunning)
        stepPlaces.reserveCapacity(limits.maxSequencesRunning)
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
        !waiting.isEmpty || running.contains { !sequences[$0].isDecoding }
    }

    /// Rows of prompts that a step behind `plan`, just scheduled, could have: those of running
    /// sequences, and of waiting ones where they could be admitted. Blocks that the prefix cache
    /// has of the latter count too, because they are not looked for before.
    public func prefillRowsLeft(behind plan: borrowing StepPlan) -> Int {
        var rows = -plan.prefillRowCount
        for place in running where !sequences[place].isDecoding {
            rows += sequences[place].remainingCount
        }
        if running.count < limits.maxSequencesRunning && !lacksBlocks { rows += waitingTokens }
        return rows
    }

    // MARK: Submit and cancel

    /// Accepts a sequence into the waiting queue, or says why not. A reused id traps.
    public mutating func submit(_ new: NewSequence) -> SubmitAction {
        precondition(sequences.place(of: new.id) == nil, "sequence \(new.id) exists already")
        if let rejection = rejection(of: new) { return .rejected(rejection) }
        let priority = limits.policy == .priority ? new.priority : 0
        let key = WaitingQueue.Key(priority: priority, arrival: arrivals)
        arrivals += 1
        let isSalted = limits.prefixCaching && !new.cacheSalt.isEmpty
        let root =
            isSalted
            ? BlockHash.root(blockSize: limits.blockSize, salt: new.cacheSalt) : rootHash
        sequences.insert(ScheduledSequence(new, key: key, rootHash: root))
        waiting.insert(new.id, key: key)
        waitingTokens += new.promptTokens.count + new.deliveredTokens.count
        return .accepted
    }

    /// So many sequences may wait from now on. Those that wait already stay.
    public mutating func limitWaiting(to most: Int) {
        precondition(most > 0, "\(most) waiting sequences")
        limits.maxSequencesWaiting = most
    }

    private func rejection(of new: NewSequence) -> SubmitRejection? {
        guard waiting.count < limits.maxSequencesWaiting else {
            return .queueFull(limit: limits.maxSequencesWaiting)
        }
        guard !new.promptTokens.isEmpty else { return .emptyPrompt }
        let tokens = new.allTokens
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
        guard let place = sequences.place(of: id) else { return .unknown }
        switch sequences[place].stage {
        case .cancelled, .ended:
            return .unknown
        case .waiting:
            waiting.remove(id)
            waitingTokens -= sequences[place].tokens.count
        case .running:
            running.removeAll { $0 == place }
        }
        // A preempted sequence cannot be in the step, since a step ends before the next begins.
        if sequences[place].isInStep {
            sequences[place].stage = .cancelled
            cancelledInStep.append(place)
            return .freedAtStepEnd
        }
        remove(at: place)
        return .freed
    }

    /// Cancels everything and says what was cancelled, best first: running, then waiting.
    public mutating func abortAll() -> [SequenceID] {
        var ended = running.map { sequences[$0].id }
        for id in ended.reversed() {
            let action = cancel(id)
            precondition(action != .unknown, "running sequence \(id) is unknown")
        }
        while let id = waiting.first {
            ended.append(id)
            _ = cancel(id)
        }
        return ended
    }

    /// The cache's memory is not what it was: nothing is found in it any more. For a scheduler
    /// without sequences.
    public mutating func forgetCached() {
        precondition(sequences.isEmpty, "sequences have blocks in the cache")
        pool.forgetAll()
    }

    /// What the sampler needs for one entry; nil where its sequence was cancelled meanwhile.
    public func samplingRequest(of id: SequenceID) -> SamplingRequest? {
        guard let place = sequences.place(of: id), sequences[place].stage == .running else {
            return nil
        }
        return SamplingRequest(
            parameters: sequences[place].parameters,
            position: sequences[place].tokens.count,
            outputCount: sequences[place].outputCount,
            occurrences: sequences[place].occurrences)
    }

    /// The prompt tokens that the rows of `entry` score, one a row from the first on; empty where
    /// none is owed or the sequence was cancelled meanwhile.
    public func scoredPromptTokens(of entry: StepPlan.Entry) -> ArraySlice<Int32> {
        guard let place = sequences.place(of: entry.sequence),
            sequences[place].stage == .running,
            sequences[place].scoresPrompt(rowCount: entry.rowCount)
        else { return [] }
        return sequences[place].scoredPromptTokens(
            firstPosition: entry.firstPosition, rowCount: entry.rowCount)
    }

    // MARK: Shared by the extensions

    /// Forgets a sequence and frees its blocks. It must be in neither queue.
    mutating func remove(at place: Int) {
        pool.release(&sequences[place].blocks)
        _ = sequences.remove(at: place)
    }
}
