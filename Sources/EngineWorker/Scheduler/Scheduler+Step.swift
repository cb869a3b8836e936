extension Scheduler {
    /// Writes the next step into `plan`, which is emptied first. An empty plan is a dummy batch
    /// and is not completed.
    ///
    /// - Parameter allowPrefill: false makes it a decode-only step: no prompt is begun and no
    ///   prefill chunk goes on, so that a tick in which the group forbids prefill is short
    ///   everywhere.
    public mutating func schedule(into plan: inout StepPlan, allowPrefill: Bool) {
        precondition(!stepInProgress, "the step before this one is not completed")
        plan.removeAll()
        var budget = StepBudget(
            rows: limits.maxBatchedTokens, logitRows: limits.maxLogitRows)
        let preempted = scheduleDecodes(into: &plan, budget: &budget)
        if allowPrefill {
            scheduleChunks(into: &plan, budget: &budget)
            if !preempted { admit(into: &plan, budget: &budget) }
        }
        stepInProgress = !plan.isDummy
    }

    /// Whether it preempted.
    private mutating func scheduleDecodes(into plan: inout StepPlan, budget: inout StepBudget)
        -> Bool
    {
        var preempted = false
        var index = 0
        while index < running.count {
            let id = running[index]
            index += 1
            let sequence = sequence(id)
            guard sequence.isDecoding else { continue }
            var extended = extend(id, positionCount: sequence.tokens.count)
            // Victims come from the end, so none of them is in the plan already.
            while !extended && running.count > index {
                preemptLast()
                preempted = true
                extended = extend(id, positionCount: sequence.tokens.count)
            }
            guard extended else {
                precondition(index > 1, "sequence \(id) does not fit alone: \(pool.usage)")
                preemptLast()
                return true
            }
            append(id, rowCount: 1, to: &plan, budget: &budget)
        }
        return preempted
    }

    private mutating func scheduleChunks(into plan: inout StepPlan, budget: inout StepBudget) {
        for id in running {
            guard !budget.isSpent else { return }
            let sequence = sequence(id)
            guard !sequence.isInStep else { continue }
            let rowCount = chunkRowCount(of: sequence, budget: budget)
            guard rowCount > 0 else { return }
            append(id, rowCount: rowCount, to: &plan, budget: &budget)
        }
    }

    /// Rows of a sequence's next prefill chunk; 0 where it has to wait for a step of its own.
    private func chunkRowCount(of sequence: ScheduledSequence, budget: StepBudget) -> Int {
        let remaining = sequence.remainingCount
        guard limits.chunkedPrefill || remaining <= budget.rows else { return 0 }
        let rowCount = min(remaining, budget.rows)
        let isScored = sequence.scoresPrompt(rowCount: rowCount)
        return isScored ? min(rowCount, budget.logitRows) : rowCount
    }

    private mutating func admit(into plan: inout StepPlan, budget: inout StepBudget) {
        while !budget.isSpent, running.count < limits.maxSequencesRunning, let id = waiting.first {
            let sequence = sequence(id)
            let rowCount = chunkRowCount(of: sequence, budget: budget)
            guard rowCount > 0, extend(id, positionCount: sequence.tokens.count) else { return }
            waiting.remove(id)
            sequences.update(id) { $0.stage = .running }
            insertRunning(id, key: sequence.key)
            append(id, rowCount: rowCount, to: &plan, budget: &budget)
        }
    }

    /// Keeps `running` best first. A newcomer belongs at or near the end.
    private mutating func insertRunning(_ id: SequenceID, key: WaitingQueue.Key) {
        var place = running.count
        while place > 0, key < sequence(running[place - 1]).key { place -= 1 }
        running.insert(id, at: place)
    }

    private mutating func preemptLast() {
        let id = running.removeLast()
        guard var blocks = sequences[id]?.blocks, let key = sequences[id]?.key else {
            preconditionFailure("no sequence \(id)")
        }
        precondition(sequences[id]?.isInStep == false, "sequence \(id) is in the plan")
        pool.release(&blocks)
        sequences.update(id) { $0.blocks = blocks }
        sequences.update(id) { $0.computedCount = 0 }
        sequences.update(id) { $0.stage = .waiting }
        waiting.insert(id, key: key)
        counters.preemptionsTotal += 1
    }

    private mutating func append(
        _ id: SequenceID,
        rowCount: Int,
        to plan: inout StepPlan,
        budget: inout StepBudget
    ) {
        let logitRowCount = plan.logitRows.count
        let sequence = sequence(id)
        let first = sequence.computedCount
        plan.append(
            sequence: id,
            tokens: sequence.tokens[first..<(first + rowCount)],
            firstPosition: first,
            blocks: sequence.blocks.blocks,
            blockSize: limits.blockSize,
            samples: sequence.samples(afterRows: rowCount),
            isDecode: sequence.isDecoding,
            allLogits: sequence.scoresPrompt(rowCount: rowCount))
        sequences.update(id) { $0.isInStep = true }
        budget.rows -= rowCount
        budget.logitRows -= plan.logitRows.count - logitRowCount
        precondition(budget.rows >= 0 && budget.logitRows >= 0, "\(budget) after \(id)")
    }
}

/// What is left of a step.
private struct StepBudget {
    var rows: Int
    var logitRows: Int

    var isSpent: Bool { rows == 0 || logitRows == 0 }
}
