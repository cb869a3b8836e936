import Protocol

/// Views come and go: a plan for the next one is made whenever other workers could be in it, its
/// workers load the experts that they will have there while the view before goes on, and the change
/// is made when all have them.
extension CoordinatorCore {
    /// Members stand in the order of their workers: each of them asks once a view.
    func isMember(_ peer: Peer) -> Bool {
        let members = view.members
        var (low, high) = (0, members.count)
        while low < high {
            let middle = (low + high) / 2
            if members[middle].worker < peer.worker { low = middle + 1 } else { high = middle }
        }
        return low < members.count && members[low].worker == peer.worker
            && members[low].incarnation == peer.incarnation
    }

    /// For a status, what a view has less than was configured.
    var lacking: String {
        let size = Int(settings.worldSize)
        return view.members.count < size ? " of \(size)" : ""
    }

    // MARK: Planning

    /// Makes, changes and carries out the plan.
    mutating func review(at now: Instant) -> [Action] {
        switch view.state {
        case .forming:
            return []
        case .retired:
            guard membership.isSettled else { return [] }
        case .active:
            break
        }
        var actions: [Action] = []
        if plan?.composition != membership.composition { actions += makePlan(at: now) }
        guard let plan, !plan.workers.isEmpty else { return actions + releaseTheLast(at: now) }
        guard plan.unprepared.isEmpty else { return actions }
        if view.state == .retired { return actions + form(plan, at: now) }
        if plan.workers == view.members.map(\.worker) {
            growsSince = nil
            return actions
        }
        if waitsForMore(than: plan, at: now) { return actions }
        return actions + change(to: plan, at: now)
    }

    /// Workers that were started together come in one view, and not in one each: who is ready waits
    /// for who still loads.
    private mutating func waitsForMore(than plan: ViewPlan, at now: Instant) -> Bool {
        guard membership.isSomebodyLoading,
            view.members.allSatisfy({ plan.position(of: $0.worker) != nil })
        else { return false }
        let since = growsSince ?? now
        growsSince = since
        return now - since < Self.gatherMax
    }

    private mutating func makePlan(at now: Instant) -> [Action] {
        var workers = membership.usableWorkers
        if workers.count < Int(settings.ranksMin * settings.tensorParallelSize) { workers = [] }
        var plan = ViewPlan(
            workers, composition: membership.composition, placesMax: membership.placesMax, at: now)
        var actions: [Action] = []
        for (rank, worker) in workers.enumerated() {
            let position = plan.position(at: rank)
            // What it was told for another plan takes the place of what it has.
            guard let peer = membership.worker(worker),
                peer.position != position || peer.asked != nil
            else { continue }
            guard peer.protocolVersion >= ProtocolVersion.negotiated else {
                return planNothing(because: peer, at: now)
            }
            plan.expect(worker)
            actions.append(.send(peer.identity, .prepare(position)))
        }
        for worker in plan.unprepared.members {
            guard let peer = membership.worker(worker) else { continue }
            membership.update(peer.identity) { $0.asked = plan.position(of: worker) }
        }
        self.plan = plan
        if actions.isEmpty { return [] }
        let text = "\(actions.count) of the \(workers.count) workers of the next view load experts"
        return [.log(text)] + actions
    }

    /// A worker of an older release stays at its position, and so do all.
    private mutating func planNothing(because peer: Peer, at now: Instant) -> [Action] {
        plan = ViewPlan(
            [], composition: membership.composition, placesMax: membership.placesMax, at: now)
        return [
            .log(
                "the group stays as it is: \(peer.description) speaks protocol "
                    + "\(peer.protocolVersion) and takes no other position")
        ]
    }

    mutating func repeatPreparations(at now: Instant) -> [Action] {
        guard var plan else { return [] }
        let workers = plan.repeats(at: now)
        self.plan = plan
        return workers.compactMap { worker in
            guard let peer = membership.worker(worker), let position = plan.position(of: worker)
            else { return nil }
            return .send(peer.identity, .prepare(position))
        }
    }

    mutating func onPrepared(
        _ peer: Peer, _ position: GroupPosition, failure: String, at now: Instant
    ) -> [Action] {
        // An answer to what is not wanted any more says nothing of what it has.
        guard peer.asked == position else { return [] }
        guard failure.isEmpty else {
            plan?.onFailed(at: now)
            return [.warn("\(peer.description) has no experts for \(position): \(failure)")]
        }
        membership.update(peer.identity) { ($0.position, $0.asked) = (position, nil) }
        plan?.onPrepared(peer.worker, position)
        return review(at: now)
    }

    /// The next view has everything. Those who leave have their last sequences first.
    private mutating func change(to plan: ViewPlan, at now: Instant) -> [Action] {
        let leaving = drainingMembers()
        guard leaving.allSatisfy({ $0.departure != nil }) else { return [] }
        let (before, after) = (view.members.count, plan.workers.count)
        let reason =
            leaving.isEmpty
            ? "the group changes from \(before) to \(after) workers" : Self.departures(leaving)
        return retire(reason, isPlanned: true, at: now) + release(leaving)
    }

    /// No view is possible without those who leave: they go when none of them has sequences.
    private mutating func releaseTheLast(at now: Instant) -> [Action] {
        guard view.state == .active else { return [] }
        let leaving = drainingMembers()
        guard !leaving.isEmpty, leaving.allSatisfy({ $0.departure != nil }) else { return [] }
        return retire(Self.departures(leaving), at: now) + release(leaving)
    }

    private static func departures(_ peers: [Peer]) -> String {
        peers.map { "\($0.description) left: \($0.departure ?? "")" }.joined(separator: ", ")
    }

    private mutating func drainingMembers() -> [Peer] {
        view.members.compactMap { membership.worker($0.worker) }.filter(\.isDraining)
    }

    private mutating func release(_ peers: [Peer]) -> [Action] {
        let refusal = Refusal(reason: .draining, text: "the others do without you")
        var actions: [Action] = []
        for peer in peers {
            _ = membership.remove(peer.identity)
            actions.append(.send(peer.identity, .refuse(refusal)))
        }
        return actions
    }

    // MARK: Forming

    /// The newer of two workers with different models is refused.
    mutating func refuseOtherModel(of newest: Peer) -> [Action]? {
        guard let newest = membership.peer(newest.identity),
            let other = membership.readyWorker(but: newest.worker),
            let refusal = Rendezvous.refusal(of: newest, beside: other)
        else { return nil }
        _ = membership.remove(newest.identity)
        return [.warn(refusal.text), .send(newest.identity, .refuse(refusal))]
    }

    private mutating func form(_ plan: ViewPlan, at now: Instant) -> [Action] {
        guard backoff.allowsForming(at: now) else { return statusIfChanged() }
        backoff.onFormed(at: now)
        let members = Rendezvous.members(
            of: plan.workers.compactMap { membership.worker($0) },
            tensorParallelSize: settings.tensorParallelSize)
        view = View(
            number: view.number + 1, state: .forming, members: members,
            configurationDigest: view.configurationDigest, reason: "",
            protocolVersion: membership.protocolVersion(of: plan.workers))
        viewChanged = now
        deadline = deadline ?? now + settings.readyTimeout
        return [.log("view \(view.number) forms with \(members.count) workers")]
            + publish(toGateways: false) + statusIfChanged()
    }

    mutating func onViewJoined(_ number: UInt32, _ peer: Peer, at now: Instant) -> [Action] {
        guard number == view.number, view.state == .forming, let ready = peer.ready,
            isMember(peer)
        else { return [] }
        membership.update(peer.identity) { $0.stage = .joined(ready, view: number) }
        guard membership.joinedCount == view.members.count else { return [] }
        view = View(
            number: number, state: .active, members: view.members,
            configurationDigest: view.configurationDigest, reason: "",
            protocolVersion: view.protocolVersion)
        viewChanged = now
        membership.onServing()
        noteMembers()
        wake = WakeStateMachine(
            view: number,
            workers: WorkerSet(
                worldSize: membership.placesMax, view.members.lazy.map(\.worker)))
        deadline = nil
        let size = "with \(view.members.count) workers\(lacking)"
        return [.log("view \(number) is active \(size)"), .serving] + publish(toGateways: true)
            + review(at: now) + statusIfChanged()
    }

    // MARK: Ending

    mutating func onLeave(_ peer: Peer, _ reason: String, at now: Instant) -> [Action] {
        _ = membership.remove(peer.identity)
        return onLost(peer, "\(peer.description) left: \(reason)", at: now)
    }

    /// A member of the view goes when the others do without it, another worker at once.
    mutating func onAskToLeave(_ peer: Peer, _ reason: String, at now: Instant) -> [Action] {
        guard view.state == .active, isMember(peer) else {
            return release([peer]) + onLost(peer, "\(peer.description) left: \(reason)", at: now)
        }
        membership.update(peer.identity) { ($0.isDraining, $0.departure) = (true, reason) }
        return review(at: now)
    }

    mutating func onLost(_ peer: Peer, _ text: String, at now: Instant) -> [Action] {
        guard peer.role == .worker else { return [.log(text)] }
        waits.waiters.remove(peer.worker)
        if view.state == .retired {
            return [.warn(text)] + republishWaiting() + review(at: now)
        }
        guard isMember(peer) else { return [.warn(text)] + review(at: now) }
        return retire(text, at: now) + review(at: now)
    }

    /// Ends the current view: everybody who is left says READY again.
    ///
    /// - Parameters:
    ///   - isPlanned: the next one is ready to be formed.
    ///   - hung: workers that the next one does not wait for.
    mutating func retire(
        _ reason: String, isPlanned: Bool = false, without hung: [UInt32] = [], at now: Instant
    ) -> [Action] {
        membership.forgetReadiness(of: view.number + 1)
        for worker in hung { membership.doWithout(worker) }
        if isPlanned { backoff.onPlannedEnd() } else { backoff.onEnded(at: now) }
        wake = nil
        plan = nil
        growsSince = nil
        loads.removeAll()
        // A view that never was active does not begin the time anew.
        if view.state == .active { deadline = now + settings.readyTimeout }
        viewChanged = now
        view = View(
            number: view.number + 1, state: .retired, members: [],
            configurationDigest: view.configurationDigest, reason: reason)
        let text = "view \(view.number - 1) ends: \(reason)"
        return [isPlanned ? .log(text) : .warn(text)] + publish(toGateways: true)
            + statusIfChanged()
    }
}
