internal import Protocol

/// What a rank counts of its ticks for its reports, from the vector that all ranks have. Counters
/// only rise, from the start of the worker, so that reports may be lost.
struct TickCounters {
    private(set) var tokens: UInt64 = 0
    /// Of each tick's busiest rank.
    private(set) var tokensMax: UInt64 = 0
    /// Of all ranks.
    private(set) var tokensGroup: UInt64 = 0
    private(set) var padded: UInt64 = 0
    private(set) var exchangeWait = Interval.zero

    /// - Parameter padding: rows with which this rank fills its own up.
    mutating func onTick(rows: Int, padding: Int, _ decision: TickDecision, waited: Interval) {
        tokens += UInt64(rows)
        tokensMax += UInt64(decision.tokensMax)
        tokensGroup += UInt64(decision.totalTokens)
        padded += UInt64(padding)
        exchangeWait = Interval(nanoseconds: exchangeWait.nanoseconds &+ waited.nanoseconds)
    }

    func write(to load: inout RankLoad) {
        load.tickTokens = tokens
        load.tickTokensMax = tokensMax
        load.tickTokensGroup = tokensGroup
        load.paddedTokens = padded
        load.exchangeWait = exchangeWait
    }
}
