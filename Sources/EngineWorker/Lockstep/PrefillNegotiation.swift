/// How many rows a rank may fill its next tick up to with prompts, so that one rank's long prompt
/// does not stretch every rank's decode step.
///
/// A pure function of the vector of a tick, which all ranks have just received: they agree without
/// asking. It says a *level* of rows, not a number of prompt rows: a rank that decodes little may
/// compute more of its prompts than one that decodes much, and ranks whose prompts wait compute
/// them in the same ticks, side by side. While nobody decodes nothing is limited.
///
/// The level is the highest at which the busiest rank has at most 13/12 of the mean rank's rows, so
/// where prompts wait everywhere, ticks are filled evenly; prompts of few ranks are computed in
/// small pieces, until others have some too. It is never so low that a waiting prompt gets fewer
/// than an eighth of the bound, and never so high that prompts lengthen a tick by more than it.
///
/// The cadence, ticks without prompts, is vLLM's `--prefill-schedule-interval` (pull request
/// 44558), kept by all ranks in the same ticks because they count the same ticks.
struct PrefillNegotiation: Hashable, Sendable {
    /// What a tick's busiest rank may have, as a multiple of the mean rank's rows.
    static let imbalanceMax = (numerator: 13, denominator: 12)
    /// Part of ``tokensMax`` that a waiting prompt gets in any case.
    static let leastPart = 8
    static let unlimited = Int.max

    /// `--max-prefill-tokens-per-tick`: prompt rows by which a tick may be longer than its busiest
    /// rank's decoding; 0 for no bound.
    let tokensMax: Int
    /// `--prefill-schedule-interval`: while somebody decodes, prompts are computed in ticks whose
    /// number it divides.
    let interval: UInt64

    static let off = PrefillNegotiation(tokensMax: 0, interval: 1)

    init(tokensMax: Int, interval: UInt64) {
        precondition(tokensMax >= 0 && interval > 0, "\(tokensMax) tokens every \(interval) ticks")
        self.tokensMax = tokensMax
        self.interval = interval
    }

    /// Rows of tick `next` beyond which no rank plans rows of prompts, after `entries` of the one
    /// before it.
    func rowLevel(after entries: [TickEntry], next: UInt64) -> Int {
        let busiest = entries.reduce(0) { max($0, Int($1.nextDecodes)) }
        if busiest == 0 { return Self.unlimited }
        if next % interval != 0 && !isSaturated(entries) { return 0 }
        if tokensMax == 0 { return Self.unlimited }
        var (low, high) = (
            busiest + max(tokensMax / Self.leastPart, 1), busiest + tokensMax
        )
        while low < high {
            let middle = (low + high + 1) / 2
            if isEven(entries, level: middle) { low = middle } else { high = middle - 1 }
        }
        return low
    }

    /// Whether the mean rank has more prompt rows waiting than a tick may have: leaving ticks out
    /// would then only make the queues longer.
    private func isSaturated(_ entries: [TickEntry]) -> Bool {
        let waiting = entries.reduce(0) { $0 + Int($1.wishedPrefillTokens) }
        return tokensMax > 0 && waiting >= tokensMax * entries.count
    }

    /// Whether the busiest rank is within the bound if all fill their ticks up to a level.
    private func isEven(_ entries: [TickEntry], level: Int) -> Bool {
        var (total, largest) = (0, 0)
        for entry in entries {
            let decodes = Int(entry.nextDecodes)
            let rows = max(decodes, min(decodes + Int(entry.wishedPrefillTokens), level))
            total += rows
            largest = max(largest, rows)
        }
        return largest * entries.count * Self.imbalanceMax.denominator
            <= total * Self.imbalanceMax.numerator
    }
}
