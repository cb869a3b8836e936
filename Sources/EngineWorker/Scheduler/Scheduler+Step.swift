extension Scheduler {
    /// Writes the next step into `plan`, which is emptied first. An empty plan is a dummy batch
    /// and is not completed.
    ///
    /// - Parameter allowPrefill: false makes it a decode-only step: no prompt is begun and no
    ///   prefill chunk goes on, so that a tick in which the group forbids prefill is short
    ///   everywhere.
    /// - Parameter rowLevel: rows of the step beyond which no rows of prompts are planned; 0 is as
    ///   if prefill were not allowed. Where prompts are computed whole it says no more than that.
    public mutating func schedule(
        into plan: inout StepPlan, allowPrefill isAllowed: Bool, rowLevel: Int = .max
    ) {
        precondition(!stepInProgress, "the step before this one is not completed")
        let allowPrefill = isAllowed && rowLevel > 0
        plan.removeAll()
        stepPlaces.removeAll(keepingCapacity: true)
        var budget = StepBudget(
            rows: limits.maxBatchedTokens, logitRows: limits.maxLogitRows)
        if limits.prefillFirst && allowPrefill {
            scheduleChunks(into: &plan, budget: &budget)
            admit(into: &plan, budget: &budget)
            guard plan.isDummy else {
                stepInProgress = true
                return
            }
        }
        let preempted = scheduleDecodes(into: &plan, budget: &budget)
        if allowPrefill && !limits.prefillFirst {
            if limits.chunkedPrefill {
                budget.rows = min(budget.rows, max(rowLevel - plan.rowCount, 0))
            }
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
            let place = running[index]
            index += 1
            guard sequences[place].isDecoding else { continue }
            var extended = extend(place)
            // Victims come from the end, so none of them is in the plan already.
            while !extended && running.count > index {
                preemptLast()
                preempted = true
                extended = extend(place)
            }
            guard extended else {
                precondition(
                    index > 1, "sequence \(sequences[place].id) does not fit alone: \(pool.usage)")
                preemptLast()
                return true
            }
            append(place, rowCount: 1, isDecode: true, to: &plan, budget: &budget)
        }
        return preempted
    }

    /// Takes the blocks that all known tokens need; false, and nothing taken, if too few.
    @inline(__always)
    private mutating func extend(_ place: Int) -> Bool {
        let count = sequences[place].tokens.count
        if count <= sequences[place].blocks.blocks.count * limits.blockSize { return true }
        return pool.extend(&sequences[place].blocks, positionCount: count)
    }

    private mutating func scheduleChunks(into plan: inout StepPlan, budget: inout StepBudget) {
        for place in running {
            guard !budget.isSpent else { return }
            guard !sequences[place].isInStep, !sequences[place].isDecoding else { continue }
            let remaining = sequences[place].remainingCount
            let rowCount = chunkRowCount(of: place, remaining: remaining, budget: budget)
            guard rowCount > 0 else { return }
            append(place, rowCount: rowCount, isDecode: false, to: &plan, budget: &budget)
        }
    }

    /// Rows of a sequence's next prefill chunk; 0 where it has to wait for a step of its own.
    private func chunkRowCount(of place: Int, remaining: Int, budget: StepBudget) -> Int {
        guard limits.chunkedPrefill || remaining <= budget.rows else { return 0 }
        let rowCount = min(remaining, budget.rows)
        let isScored = sequences[place].scoresPrompt(rowCount: rowCount)
        return isScored ? min(rowCount, budget.logitRows) : rowCount
    }

    private mutating func admit(into plan: inout StepPlan, budget: inout StepBudget) {
        lacksBlocks = false
        while !budget.isSpent, running.count < limits.maxSequencesRunning, let id = waiting.first {
            guard let place = sequences.place(of: id) else { preconditionFailure("no \(id)") }
            let hitBlocks = prefixHits(of: place)
            let hits = hitBlocks * limits.blockSize
            let count = sequences[place].tokens.count
            let rowCount = chunkRowCount(of: place, remaining: count - hits, budget: budget)
            guard rowCount > 0 else { return }
            let filled = pool.fill(
                &sequences[place].blocks, cached: sequences[place].hashes[0..<hitBlocks],
                positionCount: count, reserve: running.isEmpty ? 0 : limits.reservedBlockCount)
            guard filled else {
                lacksBlocks = true
                return
            }
            waiting.remove(id)
            waitingTokens -= count
            begin(place, hitBlocks: hitBlocks)
            append(place, rowCount: rowCount, isDecode: false, to: &plan, budget: &budget)
        }
    }

    /// Leading blocks of a waiting sequence that are cached, so that one token at least remains.
    private mutating func prefixHits(of place: Int) -> Int {
        guard limits.prefixCaching, !sequences[place].owesPromptLogprobs else { return 0 }
        let blockCount = (sequences[place].tokens.count - 1) / limits.blockSize
        var hits = 0
        while hits < blockCount {
            sequences[place].hashBlocks(upTo: hits, blockSize: limits.blockSize)
            guard pool.isCached(sequences[place].hashes[hits]) else { break }
            hits += 1
        }
        return hits
    }

    private mutating func begin(_ place: Int, hitBlocks: Int) {
        let hits = hitBlocks * limits.blockSize
        if sequences[place].prefixHitCount == nil {
            sequences[place].prefixHitCount = min(hits, sequences[place].promptCount)
            if limits.prefixCaching, !sequences[place].owesPromptLogprobs {
                counters.prefixQueriesTotal += sequences[place].tokens.count
                counters.prefixHitsTotal += hits
            }
        }
        sequences[place].computedCount = hits
        sequences[place].cachedBlockCount = hitBlocks
        sequences[place].stage = .running
        sequences[place].reserve(limits: limits)
        insertRunning(place)
    }

    /// Keeps `running` best first. A newcomer belongs at or near the end.
    private mutating func insertRunning(_ place: Int) {
        let key = sequences[place].key
        var index = running.count
        while index > 0, key < sequences[running[index - 1]].key { index -= 1 }
        running.insert(place, at: index)
    }

    private mutating func preemptLast() {
        let place = running.removeLast()
        precondition(!sequences[place].isInStep, "sequence \(sequences[place].id) is in the plan")
        pool.release(&sequences[place].blocks)
        sequences[place].computedCount = 0
        sequences[place].cachedBlockCount = 0
        sequences[place].stage = .waiting
        waiting.insert(sequences[place].id, key: sequences[place].key)
        waitingTokens += sequences[place].tokens.count
        counters.preemptionsTotal += 1
    }

    @inline(__always)
    private mutating func append(
        _ place: Int,
        rowCount: Int,
        isDecode: Bool,
        to plan: inout StepPlan,
        budget: inout StepBudget
    ) {
        let logitRowCount = plan.logitRows.count
        let first = sequences[place].computedCount
        plan.append(
            sequence: sequences[place].id,
            tokens: sequences[place].tokens[first..<(first + rowCount)],
            firstPosition: first,
            blocks: sequences[place].blocks.blocks,
            blockSize: limits.blockSize,
            samples: sequences[place].samples(afterRows: rowCount),
            isDecode: isDecode,
            allLogits: sequences[place].scoresPrompt(rowCount: rowCount))
        sequences[place].isInStep = true
        stepPlaces.append(place)
        budget.rows -= rowCount
        budget.logitRows -= plan.logitRows.count - logitRowCount
        precondition(
            budget.rows >= 0 && budget.logitRows >= 0, "\(budget) after \(sequences[place].id)")
    }
}

/// What is left of a step.
private struct StepBudget {
    var rows: Int
    var logitRows: Int

    var isSpent: Bool { rows == 0 || logitRows == 0 }
}
