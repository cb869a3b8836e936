/// What a rank's work costs, in prompt tokens: a tick lasts as long as its busiest rank, so these
/// are the weights by which ranks are compared. Integers, so that every gateway computes the same.
enum RoutingCost {
    /// A sequence that decodes has a row in every tick, a prompt's tokens have one once: a sequence
    /// weighs as many prompt tokens as the rows that it will roughly have while they are computed.
    static let tokensPerSequence = 32
    /// A row that attends to so many cached tokens costs as much for that as for all the rest
    /// (DeepSeek-V3: 128 heads, latent of 512 + 64, 61 layers against 37 G active parameters).
    static let contextOfARow = 4096
    /// Part of the cache above which its use costs more: what is left is for sequences to grow in.
    static let cacheNearlyFull = (numerator: 9, denominator: 10)
    /// A token above that may preempt a sequence, whose tokens are all computed again.
    static let tokensPerOverflow = 4
    /// Part of the cache in use, with sequences waiting, that counts as full.
    static let cacheFull: Float = 0.98
    /// A sequence is expected to generate so many tokens, if it may.
    static let outputReserve = 256
    /// Costs that differ by less are alike, and ranks take turns; with other gateways by more, see
    /// ``OthersShare``.
    static let grain = 32
    /// By how much a rank may be above the mean and still be preferred for what it has cached: an
    /// eighth of the mean, and so many sequences.
    static let affinityDivisor = 8
    static let affinitySequences = 16

    /// - Parameters:
    ///   - pendingTokens: prompt tokens that are not computed yet.
    ///   - sequences: that run or wait.
    ///   - cacheTokens: cached tokens of sequences.
    ///   - cacheLimit: number of them above which they cost more.
    @inline(__always)
    static func of(
        pendingTokens: Int, sequences: Int, cacheTokens: Int, cacheLimit: Int
    ) -> Int {
        pendingTokens + sequences * tokensPerSequence
            + cacheTokens * tokensPerSequence / contextOfARow
            + max(cacheTokens - cacheLimit, 0) * tokensPerOverflow
    }

    /// - Parameter capacity: tokens that a cache holds; 0 where that is not known.
    static func cacheLimit(capacity: Int) -> Int {
        capacity > 0
            ? capacity / cacheNearlyFull.denominator * cacheNearlyFull.numerator : .max
    }
}
