import Protocol

/// What workers say of whom they wait for, and what the coordinator makes of it: it names the one
/// that hangs, and when the others have given it up, forms the next view without it.
extension CoordinatorCore {
    /// All begin to wait at the same time, but not all have said so in the first moment.
    static let judgedAfter = Interval.seconds(2)

    /// What was said of the waits of a view.
    struct WaitWatch: Equatable {
        /// As it was logged last.
        var told = WaitsForGraph.Verdict.nothing
        /// Workers whose last heartbeat said that they wait.
        var waiters: WorkerSet
        /// A view of which is known who hung; what others say of its end counts no more.
        var judgedView: UInt32 = 0
    }

    // MARK: While they wait

    mutating func noteWait(_ heartbeat: Heartbeat, of peer: Peer) {
        guard peer.role == .worker else { return }
        if heartbeat.wait == nil {
            waits.waiters.remove(peer.worker)
        } else {
            waits.waiters.insert(peer.worker)
        }
    }

    /// A line in the log when somebody begins to keep the others waiting, and when that is over.
    mutating func judgeWaits(at now: Instant) -> [Action] {
        guard !waits.waiters.isEmpty || waits.told != .nothing else { return [] }
        let longest = longestWait(at: now)
        let graph = waitsForGraph(at: now)
        let verdict = longest >= Self.judgedAfter ? graph.verdict : .nothing
        guard verdict != waits.told else { return [] }
        waits.told = verdict
        switch verdict {
        case .nothing:
            return [.log("no worker waits for another any more")]
        case .suspects(let workers):
            return workers.compactMap { membership.worker($0) }.map { peer in
                let count = graph.waitingCount(for: peer.worker)
                return .warn(
                    "\(peer.description) keeps \(count) of the others waiting for "
                        + "\(longest.milliseconds) ms in view \(view.number): it hangs, or its "
                        + "host is slow")
            }
        case .circle(let workers):
            return [
                .warn(
                    "\(Self.names(workers)) wait for each other in view \(view.number): messages "
                        + "between them are lost; look at the network between their nodes")
            ]
        }
    }

    private func longestWait(at now: Instant) -> Interval {
        waits.waiters.members.reduce(.zero) { longest, worker in
            max(longest, membership.worker(worker)?.waitingSince.map { now - $0 } ?? .zero)
        }
    }

    /// - Parameters:
    ///   - reporter: a worker that says more than its last heartbeat did,
    ///   - missed: namely that it waits for these.
    func waitsForGraph(
        at now: Instant, of members: [Member]? = nil, reporter: UInt32? = nil,
        missed: [UInt32] = []
    ) -> WaitsForGraph {
        // Five heartbeats a lease: two are missing.
        let heardWithin = Interval(nanoseconds: settings.lease.nanoseconds / 5 * 2)
        return WaitsForGraph(
            (members ?? view.members).map { member in
                let peer = membership.worker(member.worker)
                var worker = WaitsForGraph.Worker(worker: member.worker)
                worker.waitsFor = peer?.reported?.wait?.workers ?? []
                worker.isSilent = peer.map { now - $0.lastHeard > heardWithin } ?? true
                if member.worker == reporter { worker.waitsFor = missed }
                return worker
            })
    }

    static func names(_ workers: [UInt32]) -> String {
        workers.prefix(namedMax).map { "worker \($0)" }.joined(separator: ", ")
            + (workers.count > namedMax ? " and \(workers.count - namedMax) more" : "")
    }

    // MARK: When they give up

    /// An operation of a worker has failed: the view ends. Where others were late for it, those at
    /// the root of all waits are not waited for until they are ready again.
    mutating func onPeerSilent(
        _ number: UInt32, _ tick: UInt64, _ workers: [UInt32], _ reason: String, isTimeout: Bool,
        _ peer: Peer, at now: Instant
    ) -> [Action] {
        guard view.state != .retired else {
            return onLateReport(number, workers, isTimeout: isTimeout, peer, at: now)
        }
        guard number == view.number else { return [] }
        let about = workers.isEmpty ? "" : " with \(Self.names(workers))"
        let text = "worker \(peer.worker) cannot go on\(about) in tick \(tick): \(reason)"
        let suspects = isTimeout ? suspects(workers, view.members, peer, at: now) : []
        let hung = suspects.compactMap { membership.worker($0)?.description }
        let verdict = hung.isEmpty ? "" : "; \(hung.joined(separator: ", ")) hangs"
        endedMembers = view.members
        if !suspects.isEmpty { waits.judgedView = number }
        return holdBackNewcomers(among: workers + [peer.worker], at: now)
            + retire(text + verdict, without: suspects, at: now) + review(at: now)
    }

    /// Who gives up closes its connections, and a peer of it may say so before it does.
    private mutating func onLateReport(
        _ number: UInt32, _ workers: [UInt32], isTimeout: Bool, _ peer: Peer, at now: Instant
    ) -> [Action] {
        guard isTimeout, number < view.number, view.number - number == 1,
            number != waits.judgedView,
            !peer.isHung
        else { return [] }
        // Who is ready again hangs no more.
        let hung = suspects(workers, endedMembers, peer, at: now)
            .compactMap { membership.worker($0) }.filter { $0.ready == nil }
        guard !hung.isEmpty else { return [] }
        waits.judgedView = number
        for suspect in hung { membership.doWithout(suspect.worker) }
        return hung.map { .warn("\($0.description) hung in view \(number)") } + review(at: now)
            + statusIfChanged()
    }

    /// None where nobody would be left, and before the deployment has served, when all are needed.
    private func suspects(
        _ missed: [UInt32], _ members: [Member], _ reporter: Peer, at now: Instant
    ) -> [UInt32] {
        let graph = waitsForGraph(
            at: now, of: members, reporter: reporter.worker, missed: missed)
        guard !membership.isFirst, case .suspects(let workers) = graph.verdict,
            workers.count < members.count, !workers.contains(reporter.worker)
        else { return [] }
        return workers
    }
}

extension Heartbeat.Wait {
    /// No operation has a later deadline.
    private static let timeMax = Interval.seconds(3_600)

    /// When it began, if it was told at `now`.
    func began(at now: Instant) -> Instant {
        Instant(nanoseconds: now.nanoseconds - min(time, Self.timeMax).nanoseconds)
    }
}
