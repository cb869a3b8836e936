internal import Protocol

extension Scheduler {
    /// Takes in what the step computed, and says what is new for each sequence, in plan order.
    ///
    /// - Parameters:
    ///   - plan: as written by ``schedule(into:allowPrefill:)``, without a schedule since.
    ///   - results: one an entry, in the same order; those of cancelled sequences are ignored.
    public mutating func complete(
        _ plan: borrowing StepPlan,
        results: [EntryResult]
    ) -> [SequenceUpdate] {
        let entries = plan.entries
        precondition(
            results.count == entries.count, "\(results.count) results, \(entries.count) entries")
        precondition(stepInProgress == !plan.isDummy, "the plan is not the step in progress")
        var updates: [SequenceUpdate] = []
        updates.reserveCapacity(entries.count)
        var someFinished = false
        for (entry, result) in zip(entries, results) {
            precondition(
                sequence(entry.sequence).isInStep, "sequence \(entry.sequence) is not in the step")
            sequences.update(entry.sequence) { $0.isInStep = false }
            guard sequence(entry.sequence).stage == .running else { continue }
            guard let update = apply(result, of: entry) else { continue }
            updates.append(update)
            if update.finish != nil {
                remove(entry.sequence)
                someFinished = true
            }
        }
        if someFinished { running.removeAll { !sequences.contains($0) } }
        endStep()
        return updates
    }

    /// Forgets a step that failed: nothing of it counts as computed, and its rows are scheduled
    /// again. (What it wrote into the KV cache is overwritten then.)
    public mutating func abandon(_ plan: borrowing StepPlan) {
        precondition(stepInProgress == !plan.isDummy, "the plan is not the step in progress")
        for entry in plan.entries {
            sequences.update(entry.sequence) { $0.isInStep = false }
        }
        endStep()
    }

    private mutating func endStep() {
        for id in cancelledInStep { remove(id) }
        cancelledInStep.removeAll(keepingCapacity: true)
        stepInProgress = false
    }

    /// The update of one running sequence; nil where nothing is new for its reader.
    private mutating func apply(
        _ result: EntryResult,
        of entry: StepPlan.Entry
    ) -> SequenceUpdate? {
        let id = entry.sequence
        // No copy of the record may live here: appending a token would copy all tokens.
        let known = sequence(id).computedCount
        precondition(
            known == entry.firstPosition,
            "sequence \(id) has \(known) positions, not \(entry.firstPosition)")
        let computedCount = entry.firstPosition + entry.rowCount
        sequences.update(id) { $0.computedCount = computedCount }
        countPrompt(id, computedCount: computedCount)
        collectPromptLogprobs(id, result: result, entry: entry)

        if case .failed(let error) = result.outcome {
            let finish = SequenceUpdate.Finish(reason: .error, error: error)
            return SequenceUpdate(sequence: id, token: nil, promptLogprobs: nil, finish: finish)
        }
        let promptLogprobs = takePromptLogprobs(id, computedCount: computedCount)
        switch result.outcome {
        case .sampled(let token):
            precondition(entry.samples, "a token for an entry of \(id) that does not sample")
            sequences.update(id) { $0.append(token.tokenID) }
            counters.generationTokensTotal += 1
            let finish = sequence(id).finishAfterLastToken(limits: limits)
            return SequenceUpdate(
                sequence: id, token: token, promptLogprobs: promptLogprobs, finish: finish)
        case .notSampled, .failed:
            precondition(!entry.samples, "no token for an entry of \(id) that samples")
            // max_tokens 0: the prompt's scores are all that was asked for.
            let sequence = sequence(id)
            let isDone = sequence.parameters.maxTokens == 0 && sequence.remainingCount == 0
            guard isDone || promptLogprobs != nil else { return nil }
            let finish = isDone ? SequenceUpdate.Finish(reason: .length) : nil
            return SequenceUpdate(
                sequence: id, token: nil, promptLogprobs: promptLogprobs, finish: finish)
        }
    }

    private mutating func countPrompt(_ id: SequenceID, computedCount: Int) {
        let sequence = sequence(id)
        let counted = min(computedCount, sequence.promptCount)
        guard counted > sequence.promptCountedCount else { return }
        counters.promptTokensTotal += counted - sequence.promptCountedCount
        sequences.update(id) { $0.promptCountedCount = counted }
    }

    /// Appends the scores that are not collected yet; a recomputed row's are dropped.
    private mutating func collectPromptLogprobs(
        _ id: SequenceID,
        result: EntryResult,
        entry: StepPlan.Entry
    ) {
        guard sequence(id).owesPromptLogprobs else { return }
        let known = sequence(id).promptLogprobs.count
        guard entry.firstPosition + result.promptLogprobs.count > known else { return }
        precondition(
            entry.firstPosition <= known, "prompt scores \(known) ..< \(entry.firstPosition) lack")
        let new = result.promptLogprobs.dropFirst(known - entry.firstPosition)
        sequences.update(id) { $0.promptLogprobs.append(contentsOf: new) }
    }

    /// The prompt's scores, once: when its last position is computed.
    private mutating func takePromptLogprobs(
        _ id: SequenceID,
        computedCount: Int
    ) -> [TokenLogprobs]? {
        let sequence = sequence(id)
        guard sequence.owesPromptLogprobs, computedCount >= sequence.promptCount else {
            return nil
        }
        precondition(
            sequence.promptLogprobs.count == sequence.promptCount - 1,
            "\(sequence.promptLogprobs.count) scores of \(sequence.promptCount) prompt tokens")
        sequences.update(id) { $0.owesPromptLogprobs = false }
        sequences.update(id) { $0.promptLogprobs = [] }
        return sequence.promptLogprobs
    }

    /// Checks the block pool against all block tables, and the queues against each other.
    ///
    /// Tests call it after every operation, the worker when it is idle. A disagreement of the
    /// queues traps; one of the pool is thrown, with the block.
    public func checkInvariants() throws(BlockPoolInvariantError) {
        waiting.checkInvariants()
        let holders = running + cancelledInStep
        precondition(
            holders.count + waiting.count == sequences.count,
            "\(holders.count) + \(waiting.count) places for \(sequences.count) sequences")
        precondition(
            running.count <= limits.maxSequencesRunning, "\(running.count) sequences run")
        for id in waiting.sequences {
            let sequence = sequence(id)
            precondition(sequence.stage == .waiting, "waiting \(id) is \(sequence.stage)")
            precondition(sequence.blocks.blocks.isEmpty, "waiting \(id) owns blocks")
            precondition(!sequence.isInStep, "waiting \(id) is in the step")
        }
        for (index, id) in running.enumerated() {
            let sequence = sequence(id)
            precondition(sequence.stage == .running, "running \(id) is \(sequence.stage)")
            precondition(sequence.remainingCount >= 1, "running \(id) has nothing to compute")
            let needed = pool.blocksNeeded(positionCount: sequence.tokens.count - 1)
            precondition(
                sequence.blocks.blocks.count >= needed, "running \(id) lacks blocks of \(needed)")
            if index > 0 {
                let better = self.sequence(running[index - 1])
                precondition(better.key < sequence.key, "running \(id) is before its better")
            }
        }
        for id in cancelledInStep {
            precondition(sequence(id).stage == .cancelled, "\(id) is not cancelled")
        }
        try pool.checkInvariants(tables: holders.map { sequence($0).blocks })
    }
}
