internal import Protocol

/// Whether a deployment serves, judged from the coordinator's report alone: what must be mended,
/// the reason for an exit code of 1, and what somebody should know. Pure.
///
/// A process that hangs still sends heartbeats, because another thread does; so the age of the
/// running tick is judged too, who keeps others waiting, and the silence of peers well before their
/// lease ends.
struct DeploymentHealth: Hashable {
    /// A tick that takes longer is suspicious, unless `--exchange-timeout` is shorter still.
    static let tickAgeMax = Interval.seconds(10)
    /// Less silence than this is a scheduler's whim, however short the lease.
    static let silenceMin = Interval.milliseconds(500)

    /// Empty when the deployment serves; the first one is the reason.
    let problems: [String]
    let notes: [String]

    var serves: Bool { problems.isEmpty }

    init(_ report: StatusReport) {
        var problems: [String] = []
        var notes: [String] = []
        switch report.viewState {
        case .active: break
        case .forming: problems.append("view \(report.view) is forming: the workers connect")
        case .retired: problems.append(Self.missing(report))
        }
        if report.gateways.isEmpty {
            problems.append("no gateway is here: start phalanx-gateway")
        }
        let tickAgeMax = Self.tickAgeMax(report)
        let causeIsKnown = report.peers.contains { $0.isSuspected && $0.waitingWorkers > 0 }
        for peer in report.peers {
            let name = Self.name(peer)
            // Five heartbeats a lease: two are missing.
            let two = Interval(nanoseconds: report.lease.nanoseconds / 5 * 2)
            if peer.silence > max(two, Self.silenceMin) {
                problems.append(
                    "\(name) has been silent for \(Readable.time(peer.silence)); it counts as lost "
                        + "after \(Readable.time(report.lease))")
            }
            if peer.isSuspected {
                let text = Self.suspicion(peer, report)
                if Self.longestWait(report) > tickAgeMax {
                    problems.append(text)
                } else {
                    notes.append(text)
                }
            } else if peer.tickAge > tickAgeMax, !causeIsKnown || peer.waited == .zero {
                problems.append(
                    "\(name) has been in the tick after \(peer.load.tick) for "
                        + "\(Readable.time(peer.tickAge)): it hangs, or waits for one that does")
            }
            if peer.stage == .draining {
                notes.append("\(name) drains: the view ends for all when it leaves")
            }
            if peer.softwareVersion != report.softwareVersion {
                notes.append(
                    "\(name) runs version \(peer.softwareVersion), the coordinator "
                        + "\(report.softwareVersion): install one release everywhere")
            }
        }
        notes += Self.protocols(report)
        if let left = report.readyDeadline, report.viewState != .active {
            notes.append(
                "the coordinator gives up in \(Readable.time(left)) unless all workers are ready")
        }
        if !report.viewReason.isEmpty, report.view > 0, report.viewState != .active {
            notes.append("the last view ended: \(report.viewReason)")
        }
        self.problems = problems.map(TextTable.printable)
        self.notes = notes.map(TextTable.printable)
    }

    private static func longestWait(_ report: StatusReport) -> Interval {
        report.peers.reduce(.zero) { max($0, $1.waited) }
    }

    /// Of the one that all wait for, or have waited for.
    private static func suspicion(_ peer: PeerStatus, _ report: StatusReport) -> String {
        guard peer.waitingWorkers > 0 else {
            return "\(name(peer)) hung, and the others do without it until it is ready again"
        }
        let waiting = Readable.plural(Int(peer.waitingWorkers), "worker")
        return "\(name(peer)) keeps \(waiting) waiting, "
            + "for \(Readable.time(longestWait(report))): it hangs, or its host is slow"
    }

    /// What is left to be upgraded, by what is spoken.
    private static func protocols(_ report: StatusReport) -> [String] {
        let older = report.peers.filter { $0.protocolVersion < report.protocolVersion }
        guard let first = older.first else { return [] }
        let rest = older.count > 1 ? " and \(Readable.plural(older.count - 1, "other"))" : ""
        let view =
            report.viewState == .active
            ? "; the workers of view \(report.view) speak \(report.viewProtocolVersion)" : ""
        return [
            "\(name(first))\(rest) and the coordinator speak protocol \(first.protocolVersion), "
                + "not \(report.protocolVersion) yet\(view)"
        ]
    }

    private static func missing(_ report: StatusReport) -> String {
        guard !report.missing.isEmpty else {
            return "no view is active: the next one is about to form"
        }
        let more = Int(report.missingCount) - report.missing.count
        return report.missing.joined(separator: "; ") + (more > 0 ? "; and \(more) more" : "")
    }

    private static func tickAgeMax(_ report: StatusReport) -> Interval {
        guard let limit = report.option("exchange-timeout").flatMap({ Int($0) }) else {
            return tickAgeMax
        }
        return min(tickAgeMax, Interval.milliseconds(limit))
    }

    static func name(_ peer: PeerStatus) -> String {
        switch peer.role {
        case .worker: "worker \(peer.worker) (node \(peer.node), device \(peer.device))"
        case .gateway: "the gateway on \(peer.node)"
        }
    }
}

extension RankLoad {
    /// Rows of the busiest ranks as a multiple of the mean rank's, over the ticks since `earlier`;
    /// nil when nobody had rows.
    func imbalance(since earlier: RankLoad = RankLoad(), ranks: Int) -> Double? {
        guard tickTokensGroup > earlier.tickTokensGroup, tickTokensMax >= earlier.tickTokensMax
        else {
            return nil
        }
        let mean = Double(tickTokensGroup - earlier.tickTokensGroup) / Double(max(ranks, 1))
        return Double(tickTokensMax - earlier.tickTokensMax) / mean
    }
}

extension WorkerStage {
    var word: String {
        switch self {
        case .joining: "joining"
        case .loading: "loading"
        case .standby: "standby"
        case .connecting: "connecting"
        case .idle: "idle"
        case .running: "running"
        case .draining: "draining"
        }
    }
}

extension View.State {
    var word: String {
        switch self {
        case .forming: "forming"
        case .active: "active"
        case .retired: "retired"
        }
    }
}
