internal import Protocol

extension Scheduler {
    /// Takes in what the step computed, and says what is new for each sequence, in plan order.
    ///
    /// - Parameters:
    ///   - plan: as written by ``schedule(into:allowPrefill:)``, without a schedule since.
    ///   - results: one an entry, in the same order; those of cancelled sequences are ignored.
    ///   - updates: emptied first.
    public mutating func complete(
        _ plan: borrowing StepPlan,
        results: [EntryResult],
        into updates: inout [SequenceUpdate]
    ) {
        let entries = plan.entries
        precondition(
            results.count == entries.count, "\(results.count) results, \(entries.count) entries")
        precondition(stepInProgress == !plan.isDummy, "the plan is not the step in progress")
        updates.removeAll(keepingCapacity: true)
        var someFinished = false
        for index in entries.indices {
            let place = leaveStep(entries[index], index: index)
            guard sequences[place].stage == .running else { continue }
            guard let update = apply(results[index], of: entries[index], at: place) else {
                continue
            }
            if update.finish != nil {
                remove(at: place)
                someFinished = true
            }
            updates.append(update)
        }
        // No sequence takes a place between the removals and this.
        if someFinished { running.removeAll { sequences[$0].stage == .ended } }
        endStep()
    }

    /// Forgets a step that failed: nothing of it counts as computed, and its rows are scheduled
    /// again. (What it wrote into the KV cache is overwritten then.)
    public mutating func abandon(_ plan: borrowing StepPlan) {
        precondition(stepInProgress == !plan.isDummy, "the plan is not the step in progress")
        let entries = plan.entries
        for index in entries.indices { _ = leaveStep(entries[index], index: index) }
        endStep()
    }

    /// The place of an entry's sequence, which is in the step no more.
    @inline(__always)
    private mutating func leaveStep(_ entry: StepPlan.Entry, index: Int) -> Int {
        let place = stepPlaces[index]
        precondition(
            sequences[place].isInStep && sequences[place].id == entry.sequence,
            "sequence \(entry.sequence) is not in the step")
        sequences[place].isInStep = false
        return place
    }

    private mutating func endStep() {
        for place in cancelledInStep { remove(at: place) }
        cancelledInStep.removeAll(keepingCapacity: true)
        stepInProgress = false
    }

    /// The update of one running sequence; nil where nothing is new for its reader.
    private mutating func apply(
        _ result: EntryResult,
        of entry: StepPlan.Entry,
        at place: Int
    ) -> SequenceUpdate? {
        let known = sequences[place].computedCount
        precondition(
            known == entry.firstPosition,
            "sequence \(entry.sequence) has \(known) positions, not \(entry.firstPosition)")
        let computedCount = entry.firstPosition + entry.rowCount
        sequences[place].computedCount = computedCount
        countPrompt(place, computedCount: computedCount)
        collectPromptLogprobs(place, result: result, entry: entry)

        if case .failed(let error) = result.outcome {
            // What made it fail may be in its part of the KV cache.
            pool.forget(sequences[place].blocks)
            let finish = SequenceUpdate.Finish(reason: .error, error: error)
            return update(of: place, token: nil, promptLogprobs: nil, finish: finish)
        }
        cacheFullBlocks(place, computedCount: computedCount)
        let promptLogprobs = takePromptLogprobs(place, computedCount: computedCount)
        switch result.outcome {
        case .sampled(let token):
            precondition(
                entry.samples, "a token for an entry of \(entry.sequence) that does not sample")
            sequences[place].append(token.tokenID)
            counters.generationTokensTotal += 1
            let finish = sequences[place].finishAfterLastToken(limits: limits)
            return update(
                of: place, token: token, promptLogprobs: promptLogprobs, finish: finish)
        case .notSampled, .failed:
            precondition(
                !entry.samples, "no token for an entry of \(entry.sequence) that samples")
            // max_tokens 0: the prompt's scores are all that was asked for.
            let wantsNoToken = sequences[place].parameters.maxTokens == 0
            let isDone = wantsNoToken && sequences[place].remainingCount == 0
            guard isDone || promptLogprobs != nil else { return nil }
            let finish = isDone ? SequenceUpdate.Finish(reason: .length) : nil
            return update(of: place, token: nil, promptLogprobs: promptLogprobs, finish: finish)
        }
    }

    private func update(
        of place: Int, token: SampledToken?, promptLogprobs: [TokenLogprobs]?,
        finish: SequenceUpdate.Finish?
    ) -> SequenceUpdate {
        SequenceUpdate(
            sequence: sequences[place].id, token: token, promptLogprobs: promptLogprobs,
            finish: finish, cachedPromptTokens: sequences[place].prefixHitCount ?? 0)
    }

    /// Lets others find the blocks that this step has filled.
    @inline(__always)
    private mutating func cacheFullBlocks(_ place: Int, computedCount: Int) {
        guard limits.prefixCaching else { return }
        let fullCount = computedCount / limits.blockSize
        while sequences[place].cachedBlockCount < fullCount {
            let index = sequences[place].cachedBlockCount
            sequences[place].hashBlocks(upTo: index, blockSize: limits.blockSize)
            pool.cache(
                sequences[place].blocks.blocks[index], as: sequences[place].hashes[index])
            sequences[place].cachedBlockCount = index + 1
        }
    }

    @inline(__always)
    private mutating func countPrompt(_ place: Int, computedCount: Int) {
        let counted = min(computedCount, sequences[place].promptCount)
        let before = sequences[place].promptCountedCount
        guard counted > before else { return }
        counters.promptTokensTotal += counted - before
        sequences[place].promptCountedCount = counted
    }

    /// Appends the scores that are not collected yet; a recomputed row's are dropped.
    private mutating func collectPromptLogprobs(
        _ place: Int,
        result: EntryResult,
        entry: StepPlan.Entry
    ) {
        guard sequences[place].owesPromptLogprobs else { return }
        let known = sequences[place].promptLogprobs.count
        guard entry.firstPosition + result.promptLogprobs.count > known else { return }
        precondition(
            entry.firstPosition <= known, "prompt scores \(known) ..< \(entry.firstPosition) lack")
        let new = result.promptLogprobs.dropFirst(known - entry.firstPosition)
        sequences[place].promptLogprobs.append(contentsOf: new)
    }

    /// The prompt's scores, once: when its last position is computed.
    private mutating func takePromptLogprobs(
        _ place: Int,
        computedCount: Int
    ) -> [TokenLogprobs]? {
        let promptCount = sequences[place].promptCount
        guard sequences[place].owesPromptLogprobs, computedCount >= promptCount else {
            return nil
        }
        var scores: [TokenLogprobs] = []
        swap(&scores, &sequences[place].promptLogprobs)
        precondition(
            scores.count == promptCount - 1,
            "\(scores.count) scores of \(promptCount) prompt tokens")
        sequences[place].owesPromptLogprobs = false
        return scores
    }
}
