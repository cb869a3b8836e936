internal import Protocol

/// What `phalanxctl top` knows: of each worker the last two different reports, and what has
/// happened. Pure: time is a parameter.
///
/// Rates are differences of counters over the time between the heartbeats that brought them, not
/// over the time between two questions: a heartbeat comes five times a lease, whenever one asks.
struct TopState {
    static let eventsMax = 8
    /// Two reports that lie closer together are one.
    static let apartMin = Interval.milliseconds(50)

    struct Rates: Hashable {
        var ticks = 0.0
        var promptTokens = 0.0
        var generationTokens = 0.0
        /// Parts of the ticks, and of the time.
        var dummies = 0.0
        var waited = 0.0
        /// Rows of this rank as a multiple of the mean rank's; nil when nobody had rows.
        var relative: Double?
        /// Rows of the busiest rank likewise.
        var imbalance: Double?
    }

    private struct Entry {
        let incarnation: Incarnation
        var load: RankLoad
        var heard: Instant
        var view: UInt32
        var rates: Rates?
    }

    private(set) var report: StatusReport?
    private(set) var events: [String] = []
    private var entries: [UInt32: Entry] = [:]
    private var silenceTold = false

    /// Every worker of the last report has been heard of twice, so that it has rates.
    var isComplete: Bool {
        guard let report else { return false }
        return report.workers.allSatisfy { entries[$0.worker]?.rates != nil }
    }

    func rates(of worker: UInt32) -> Rates? { entries[worker]?.rates }

    /// - Returns: what has happened since the report before, a line each.
    mutating func onReport(_ report: StatusReport, at now: Instant) -> [String] {
        let time = Self.clock(report.wallClockMicroseconds)
        let happened = changes(to: report).map { "\(time) \($0)" }
        silenceTold = false
        events = (events + happened).suffix(Self.eventsMax)
        let ranks = Int(report.worldSize / report.tensorParallelSize)
        var kept: [UInt32: Entry] = [:]
        for peer in report.workers {
            kept[peer.worker] = Self.entry(
                peer, after: entries[peer.worker], view: report.view, ranks: ranks, at: now)
        }
        entries = kept
        self.report = report
        return happened
    }

    /// - Returns: a line, once for each silence.
    mutating func onSilence(of endpoint: String) -> [String] {
        guard !silenceTold else { return [] }
        silenceTold = true
        let line = "no answer from the coordinator at \(endpoint)"
        events = (events + [line]).suffix(Self.eventsMax)
        return [line]
    }

    private static func entry(
        _ peer: PeerStatus, after old: Entry?, view: UInt32, ranks: Int, at now: Instant
    ) -> Entry {
        let heard = Instant(nanoseconds: now.nanoseconds - peer.silence.nanoseconds)
        guard var entry = old, entry.incarnation == peer.incarnation else {
            return Entry(
                incarnation: peer.incarnation, load: peer.load, heard: heard, view: view, rates: nil
            )
        }
        guard heard - entry.heard >= apartMin else { return entry }
        entry.rates = rates(
            from: entry.load, to: peer.load, sameView: entry.view == view,
            in: heard - entry.heard, ranks: ranks)
        entry.load = peer.load
        entry.heard = heard
        entry.view = view
        return entry
    }

    static func rates(
        from old: RankLoad, to new: RankLoad, sameView: Bool, in time: Interval, ranks: Int
    ) -> Rates {
        func difference(_ path: KeyPath<RankLoad, UInt64>) -> Double {
            new[keyPath: path] >= old[keyPath: path]
                ? Double(new[keyPath: path] - old[keyPath: path]) : 0
        }
        let seconds = max(time.seconds, 1e-9)
        var rates = Rates()
        // Ticks are counted from the beginning of a view.
        let ticks = sameView ? difference(\.tick) : Double(new.tick)
        rates.ticks = ticks / seconds
        rates.promptTokens = difference(\.promptTokens) / seconds
        rates.generationTokens = difference(\.generationTokens) / seconds
        rates.dummies = ticks > 0 ? min(difference(\.dummyTicks) / ticks, 1) : 0
        let waited = (new.exchangeWait.seconds - old.exchangeWait.seconds) / seconds
        rates.waited = min(max(waited, 0), 1)
        rates.imbalance = new.imbalance(since: old, ranks: ranks)
        let group = difference(\.tickTokensGroup)
        if group > 0 { rates.relative = difference(\.tickTokens) * Double(ranks) / group }
        return rates
    }

    private func changes(to next: StatusReport) -> [String] {
        guard let last = report else {
            return ["view \(next.view) is \(next.viewState.word)"]
        }
        var lines: [String] = []
        if next.view != last.view || next.viewState != last.viewState {
            let reason =
                next.view == last.view || next.viewReason.isEmpty
                    || next.viewReason == last.viewReason
                ? "" : " (the last one ended: \(next.viewReason))"
            lines.append("view \(next.view) is \(next.viewState.word)\(reason)")
        }
        for peer in last.peers where !next.peers.contains(where: { Self.same($0, peer) }) {
            lines.append("\(DeploymentHealth.name(peer)) is gone")
        }
        for peer in next.peers {
            guard let before = last.peers.first(where: { Self.same($0, peer) }) else {
                lines.append("\(DeploymentHealth.name(peer)) is here")
                continue
            }
            if peer.stage == .draining && before.stage != .draining {
                lines.append("\(DeploymentHealth.name(peer)) drains")
            }
        }
        return lines
    }

    private static func same(_ left: PeerStatus, _ right: PeerStatus) -> Bool {
        left.role == right.role && left.incarnation == right.incarnation
    }

    /// Hours, minutes and seconds of a day in UTC.
    static func clock(_ microseconds: Int64) -> String {
        let seconds = max(microseconds, 0) / 1_000_000 % 86_400
        func two(_ value: Int64) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(two(seconds / 3600)):\(two(seconds / 60 % 60)):\(two(seconds % 60))"
    }
}
