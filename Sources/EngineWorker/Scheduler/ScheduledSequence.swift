internal import Protocol

/// One accepted sequence inside the scheduler.
///
/// `tokens[0 ..< computedCount]` are in the KV cache. What remains is computed next: one token of a
/// decoding sequence, or a prompt, or, after a preemption, prompt and output once more. The three
/// are the same case; there are no phases (after vLLM V1's scheduler).
struct ScheduledSequence: Sendable {
    enum Stage: Sendable {
        /// In the waiting queue, without blocks.
        case waiting
        /// Owns blocks for all its tokens but perhaps the last.
        case running
        /// Cancelled while in the step being executed; keeps its blocks until that step ends.
        case cancelled
        /// Removed; nothing names it any more.
        case ended
    }

    /// What stands at a place of the table that no sequence has.
    static let vacant = {
        let nobody = NewSequence(
            id: SequenceID(rawValue: .max), promptTokens: [], parameters: SamplingParameters())
        var sequence = ScheduledSequence(
            nobody, key: .init(priority: 0, arrival: 0), rootHash: .root(blockSize: 0))
        sequence.stage = .ended
        return sequence
    }()

    /// Room for this many further tokens is made on admission; beyond, arrays double.
    static let reserveMax = 16_384

    let id: SequenceID
    let key: WaitingQueue.Key
    let promptCount: Int
    let parameters: SamplingParameters

    var stage = Stage.waiting
    var isInStep = false
    /// Prompt, then output.
    var tokens: [Int32]
    var computedCount = 0
    /// Prompt positions computed at least once.
    var promptCountedCount = 0
    var blocks = BlockTable()
    /// What its first block's name is chained to.
    let rootHash: BlockHash
    /// Names of its first full blocks, as far as they were asked for; kept over a preemption.
    var hashes: [BlockHash] = []
    /// How many of its blocks, from the first on, are done with: cached, or a copy of a cached one.
    var cachedBlockCount = 0
    /// Prompt tokens that the prefix cache had when it was first admitted; nil before.
    var prefixHitCount: Int?
    /// Scores of `tokens[1 ..< 1 + count]`; kept over a preemption, emptied when delivered.
    var promptLogprobs: [TokenLogprobs] = []
    /// Whether prompt logprobs are still owed.
    var owesPromptLogprobs: Bool
    var occurrences: TokenOccurrences?

    init(_ new: NewSequence, key: WaitingQueue.Key, rootHash: BlockHash) {
        self.rootHash = rootHash
        id = new.id
        self.key = key
        promptCount = new.promptTokens.count
        parameters = new.parameters
        tokens = new.allTokens
        owesPromptLogprobs = new.parameters.promptLogprobs != nil && new.deliveredTokens.isEmpty
        if new.parameters.usesPenalties {
            var occurrences = TokenOccurrences(prompt: new.promptTokens)
            for tokenID in new.deliveredTokens { occurrences.appendOutput(tokenID) }
            self.occurrences = occurrences
        }
    }

    var outputCount: Int { tokens.count - promptCount }
    /// Tokens known and not in the KV cache; at least 1.
    var remainingCount: Int { tokens.count - computedCount }
    /// Whether its next row is a decode step: the prompt is complete, one token remains.
    var isDecoding: Bool { remainingCount == 1 && computedCount >= promptCount }

    /// Whether completing `rowCount` further rows yields a token.
    func samples(afterRows rowCount: Int) -> Bool {
        rowCount == remainingCount && parameters.maxTokens > 0
    }

    /// Whether its next rows score prompt tokens that are not scored yet.
    func scoresPrompt(rowCount: Int) -> Bool {
        guard owesPromptLogprobs else { return false }
        let firstUnscored = promptLogprobs.count
        return firstUnscored < promptCount - 1 && computedCount + rowCount > firstUnscored
    }

    /// The tokens that `rowCount` rows from `firstPosition` on score, in row order.
    func scoredPromptTokens(firstPosition: Int, rowCount: Int) -> ArraySlice<Int32> {
        let first = min(firstPosition + 1, promptCount)
        let end = min(firstPosition + 1 + rowCount, promptCount)
        return tokens[first..<end]
    }

    /// Makes room for what it may grow to, so that decoding allocates nothing.
    mutating func reserve(limits: SchedulerLimits) {
        let left = max(0, Int(parameters.maxTokens) - outputCount)
        let further = min(left, limits.maxModelLength - tokens.count, Self.reserveMax)
        let count = tokens.count + max(0, further)
        let blockCount = (count + limits.blockSize - 1) / limits.blockSize
        tokens.reserveCapacity(count)
        blocks.reserve(blockCount)
        if limits.prefixCaching { hashes.reserveCapacity(blockCount) }
    }

    /// Makes sure that the name of block `index`, whose tokens are all known, is in ``hashes``.
    mutating func hashBlocks(upTo index: Int, blockSize: Int) {
        while hashes.count <= index {
            let first = hashes.count * blockSize
            let next = (hashes.last ?? rootHash).next(tokens: tokens[first..<(first + blockSize)])
            hashes.append(next)
        }
    }

    mutating func append(_ tokenID: Int32) {
        tokens.append(tokenID)
        occurrences?.appendOutput(tokenID)
    }

    /// Whether its last token ends it.
    ///
    /// The order is vLLM's: below min_tokens no token stops; then end of sequence; then the
    /// request's stop tokens; then length. Unlike there, the model's length ends a sequence below
    /// min_tokens too, since nothing can be computed beyond it.
    func finishAfterLastToken(limits: SchedulerLimits) -> SequenceUpdate.Finish? {
        if let last = tokens.last, outputCount >= Int(parameters.minTokens) {
            if !parameters.ignoreEOS, limits.eosTokenIDs.contains(last) {
                return SequenceUpdate.Finish(reason: .stop)
            }
            if parameters.stopTokenIDs.contains(last) {
                return SequenceUpdate.Finish(reason: .stop, stopTokenID: last)
            }
        }
        if tokens.count >= limits.maxModelLength || outputCount >= Int(parameters.maxTokens) {
            return SequenceUpdate.Finish(reason: .length)
        }
        return nil
    }
}
