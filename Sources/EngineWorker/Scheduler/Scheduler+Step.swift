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
        var budget = limits.maxBatchedTokens
        let preempted = scheduleDecodes(into: &plan, budget: &budget)
        if allowPrefill {
            scheduleChunks(into: &plan, budget: &budget)
            if !preempted { admit(into: &plan, budget: &budget) }
        }
        stepInProgress = !plan.isDummy
    }

    /// Whether it preempted.
    private mutating func scheduleDecodes(into plan: inout StepPlan, budget: inout Int) -> Bool {
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

    private mutating func scheduleChunks(into plan: inout StepPlan, budget: inout Int) {
        for id in running {
            guard budget > 0 else { return }
            let sequence = sequence(id)
            guard !sequence.isInStep else { continue }
            guard limits.chunkedPrefill || sequence.remainingCount <= budget else { return }
            append(id, rowCount: min(sequence.remainingCount, budget), to: &plan, budget: &budget)
        }
    }

    private mutating func admit(into plan: inout StepPlan, budget: inout Int) {
        while budget > 0, running.count < limits.maxSequencesRunning, let id = waiting.first {
            let sequence = sequence(id)
            let count = sequence.tokens.count
            guard limits.chunkedPrefill || count <= budget,
                extend(id, positionCount: count)
            else { return }
            waiting.remove(id)
            sequences[id]?.stage = .running
            insertRunning(id, key: sequence.key)
            append(id, rowCount: min(count, budget), to: &plan, budget: &budget)
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
        sequences[id]?.blocks = blocks
        sequences[id]?.computedCount = 0
        sequences[id]?.stage = .waiting
        waiting.insert(id, key: key)
        counters.preemptionsTotal += 1
    }

    private mutating func append(
        _ id: SequenceID,
        rowCount: Int,
        to plan: inout StepPlan,
        budget: inout Int
    ) {
        precondition(rowCount <= budget, "\(rowCount) rows in a budget of \(budget)")
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
        sequences[id]?.isInStep = true
        budget -= rowCount
    }
}
