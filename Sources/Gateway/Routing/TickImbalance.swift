import Protocol

/// How unevenly the ticks of the last seconds were spread over the ranks, from the ranks' counters.
///
/// All ranks wait for a tick's busiest one, so `max / mean` of the rows is the factor by which
/// imbalance makes ticks longer. Weighted by rows, and exact whatever reports were lost: it is made
/// of the differences of counters that only rise. Pure: time is a parameter.
struct TickImbalance {
    /// What is shown covers at least this.
    static let windowMin = Interval.seconds(1)

    struct Reading: Equatable {
        /// Rows of the ticks' busiest ranks, as a multiple of the mean rank's.
        let group: Double
        /// This rank's rows, as a multiple of the mean rank's.
        let rank: Double
    }

    private struct Baseline {
        let at: Instant
        let load: RankLoad
    }

    private var baselines: [UInt32: Baseline] = [:]

    /// - Parameter ranks: DP ranks of the view.
    /// - Returns: the reading of a window that this report ends; nil while one lasts, and for one
    ///   in which nobody had rows.
    mutating func onLoad(_ load: RankLoad, ranks: Int, at now: Instant) -> Reading? {
        guard let baseline = baselines[load.dpRank] else {
            baselines[load.dpRank] = Baseline(at: now, load: load)
            return nil
        }
        let old = baseline.load
        // A worker that was restarted counts from 0 again.
        let isSameLife =
            load.tickTokens >= old.tickTokens && load.tickTokensMax >= old.tickTokensMax
            && load.tickTokensGroup >= old.tickTokensGroup
        if isSameLife && now - baseline.at < Self.windowMin { return nil }
        baselines[load.dpRank] = Baseline(at: now, load: load)
        guard isSameLife, load.tickTokensGroup > old.tickTokensGroup else { return nil }
        let mean = Double(load.tickTokensGroup - old.tickTokensGroup) / Double(max(ranks, 1))
        return Reading(
            group: Double(load.tickTokensMax - old.tickTokensMax) / mean,
            rank: Double(load.tickTokens - old.tickTokens) / mean)
    }

    /// Another view has other ranks.
    mutating func onView() { baselines = [:] }
}
