internal import Protocol

extension Scheduler {
    /// Checks the block pool against all block tables, and the queues against each other.
    ///
    /// Tests call it after every operation. A disagreement of the queues traps; one of the pool is
    /// thrown, with the block.
    public func checkInvariants() throws(BlockPoolInvariantError) {
        waiting.checkInvariants()
        let holders = running + cancelledInStep
        precondition(
            holders.count + waiting.count == sequences.count,
            "\(holders.count) + \(waiting.count) places for \(sequences.count) sequences")
        precondition(
            running.count <= limits.maxSequencesRunning, "\(running.count) sequences run")
        var tokens = 0
        for id in waiting.sequences {
            guard let place = sequences.place(of: id) else { preconditionFailure("no \(id)") }
            let sequence = sequences[place]
            precondition(sequence.stage == .waiting, "waiting \(id) is \(sequence.stage)")
            precondition(sequence.blocks.blocks.isEmpty, "waiting \(id) owns blocks")
            precondition(!sequence.isInStep, "waiting \(id) is in the step")
            tokens += sequence.tokens.count
        }
        precondition(tokens == waitingTokens, "\(waitingTokens) tokens wait, not \(tokens)")
        for index in running.indices {
            let sequence = sequences[running[index]]
            let id = sequence.id
            precondition(sequence.stage == .running, "running \(id) is \(sequence.stage)")
            precondition(sequence.remainingCount >= 1, "running \(id) has nothing to compute")
            let needed = pool.blocksNeeded(positionCount: sequence.tokens.count - 1)
            precondition(
                sequence.blocks.blocks.count >= needed, "running \(id) lacks blocks of \(needed)")
            if index > 0 {
                let better = sequences[running[index - 1]]
                precondition(better.key < sequence.key, "running \(id) is before its better")
            }
        }
        for place in cancelledInStep {
            precondition(sequences[place].stage == .cancelled, "\(place) is not cancelled")
        }
        for place in holders { checkSharing(sequences[place]) }
        try pool.checkInvariants(tables: holders.map { sequences[$0].blocks })
    }

    /// A block that others hold too is full and computed, and its content is what this sequence
    /// means, computed from its tokens here.
    private func checkSharing(_ sequence: ScheduledSequence) {
        var hash = sequence.rootHash
        for (index, block) in sequence.blocks.blocks.enumerated() {
            let first = index * limits.blockSize
            guard first + limits.blockSize <= sequence.computedCount else {
                precondition(
                    pool.ownerCount(of: block) == 1,
                    "\(sequence.id) shares block \(block), which is not full")
                continue
            }
            guard limits.prefixCaching else { continue }
            hash = hash.next(tokens: sequence.tokens[first..<(first + limits.blockSize)])
            precondition(
                pool.lastHash(of: block) == hash,
                "block \(block) is not cached as what \(sequence.id) has in it")
        }
    }
}
