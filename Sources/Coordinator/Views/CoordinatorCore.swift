import Protocol

/// What the coordinator decides: a pure function of messages and time.
///
/// It admits peers, makes a view when all configured workers are ready, publishes it as a whole,
/// and retires it when a member is lost; it wakes the group and hands loads to gateways. It is
/// never in the path of a token. ``CoordinatorService`` carries out the actions.
struct CoordinatorCore {
    struct Settings {
        /// Workers that the deployment begins with.
        let worldSize: UInt32
        let tensorParallelSize: UInt32
        /// With fewer nothing is served; more are not taken.
        let ranksMin: UInt32
        let ranksMax: UInt32
        var configuration: [ConfigurationEntry]
        var lease: Interval
        /// For all workers to appear, load and say READY; and again after a view is retired.
        var readyTimeout: Interval
        var protocols = ProtocolRange.ofThisBuild
        var softwareVersion = ""
    }

    enum Action: Equatable {
        case send(PeerIdentity, ControlBody)
        /// To an operator, with the time and the version of this process.
        case report(PeerIdentity, StatusReport, version: UInt32)
        case log(String)
        case warn(String)
        /// The service manager's status line.
        case status(String)
        /// The first view is active: the deployment serves.
        case serving
        /// Nothing more can be done; the process ends with this error.
        case fail(String)
    }

    /// Workers that a status names; the others are counted.
    static let namedMax = 8
    /// How long a larger view waits for others that could be in it too.
    static let gatherMax = Interval.seconds(10)

    var settings: Settings
    /// When a shorter lease begins: the peers still keep the rhythm of the old one.
    var leaseBegins: Instant?
    var membership: Membership
    var loads = LoadTable()
    var view: View {
        didSet { if view.state == .retired { lastEnd = view.reason } }
    }
    var wake: WakeStateMachine?
    /// The view that should be next.
    var plan: ViewPlan?
    /// Since when there could be a larger view.
    var growsSince: Instant?
    /// By when the stage that the group is in must be over; nil while a view is active.
    var deadline: Instant?
    private var lastStatus = ""
    let started: Instant
    /// When the view got its number or its state.
    var viewChanged: Instant
    /// Why the last view ended.
    private(set) var lastEnd = ""
    var allowance = OperatorAllowance()
    var probes = ProbeRound()
    var backoff = FormationBackoff()
    var waits: WaitWatch
    /// Of the view that ended last.
    var endedMembers: [Member] = []
    /// Of the last view that was active. Looked up, never iterated.
    var lastMembers: Set<Incarnation> = []
    /// Who is left out of views for a while.
    var heldBack: [HeldBack] = []
    /// A worker has come that was in a view before this coordinator was there.
    private var followsAnother = false

    init(_ settings: Settings, at now: Instant) {
        self.settings = settings
        started = now
        viewChanged = now
        membership = Membership(
            worldSize: settings.worldSize,
            placesMax: settings.ranksMax * settings.tensorParallelSize,
            tensorParallelSize: settings.tensorParallelSize,
            configuration: settings.configuration,
            lease: settings.lease,
            protocols: settings.protocols,
            softwareVersion: settings.softwareVersion)
        view = View(
            number: 0, state: .retired, members: [],
            configurationDigest: Self.digest(of: settings.configuration),
            reason: "no worker has said HELLO")
        deadline = now + settings.readyTimeout
        waits = WaitWatch(waiters: WorkerSet(worldSize: membership.placesMax))
    }

    /// FNV-1a over keys and values.
    static func digest(of configuration: [ConfigurationEntry]) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for entry in configuration {
            for byte in "\(entry.key)=\(entry.value)\n".utf8 {
                hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3
            }
        }
        return hash
    }

    /// The view's number while it is active.
    var activeView: UInt32? { view.state == .active ? view.number : nil }

    // MARK: Events

    mutating func onMessage(
        _ message: ControlMessage, from identity: PeerIdentity, at now: Instant
    ) -> [Action] {
        if identity.first == ControlIdentity.operatorRole {
            return onOperator(message, from: identity, at: now)
        }
        if case .hello(let hello) = message.body {
            // The identity's role is the one that the link's key was checked for.
            guard identity.first == UInt8(truncatingIfNeeded: hello.role.rawValue) else {
                return [.warn("dropped a HELLO as \(hello.role) under another role's identity")]
            }
            return onHello(hello, message, identity, at: now)
        }
        guard let peer = membership.peer(identity), peer.incarnation == message.incarnation else {
            let refusal = Refusal(
                reason: .unknownPeer, text: "the coordinator does not know you: say HELLO")
            return [.send(identity, .refuse(refusal))]
        }
        membership.onHeard(identity, at: now)
        guard peer.role == .worker || !Self.isOfWorkers(message.body) else {
            return [.warn("\(peer.description) sent a message that only workers send")]
        }
        switch message.body {
        case .ready(let ready):
            return onReady(ready, peer, knows: message.view, at: now)
        case .viewJoined(let number):
            return onViewJoined(number, peer, at: now)
        case .heartbeat(let heartbeat):
            return onHeartbeat(
                heartbeat, peer, sequence: message.sequence, knows: message.view, at: now)
        case .wakeRequest(let number, let fromTick):
            let action = wake?.onRequest(view: number, fromTick: fromTick, at: now) ?? .none
            return perform(action, at: now)
        case .wakeAck(let number, let fromTick):
            wake?.onAcknowledgement(view: number, fromTick: fromTick, worker: peer.worker)
            return []
        case .peerSilent(let number, let tick, let workers, let reason, let isTimeout):
            return onPeerSilent(
                number, tick, workers, reason, isTimeout: isTimeout, peer, at: now)
        case .leave(let reason):
            return onLeave(peer, reason, at: now)
        case .askToLeave(let reason):
            return onAskToLeave(peer, reason, at: now)
        case .prepared(let position, let failure):
            return onPrepared(peer, position, failure: failure, at: now)
        case .probeResult(let result):
            return onProbeResult(result, peer, at: now)
        case .prepare, .hello, .config, .refuse, .view, .heartbeatAck, .wake, .loadUpdate,
            .statusRequest, .statusReport, .drainRequest, .drainReport, .drain, .probeRequest,
            .probe, .probeReport:
            return [.warn("\(peer.description) sent a message that no peer sends")]
        }
    }

    /// To be called several times a lease.
    mutating func onTimer(at now: Instant) -> [Action] {
        var actions: [Action] = []
        beginLease(at: now)
        for lost in membership.expire(at: now) {
            let silence =
                "\(lost.description) has been silent for \(membership.lease.milliseconds) ms"
            actions += onLost(lost, silence, at: now)
        }
        actions += perform(wake?.onTimer(at: now) ?? .none, at: now)
        if let ranks = loads.takeChanges() {
            actions += membership.gateways.map { .send($0.identity, .loadUpdate(ranks)) }
        }
        readmitNewcomers(at: now)
        if followsAnother && now - started > settings.lease { membership.takeThoseWhoAreHere() }
        actions += judgeWaits(at: now)
        actions += review(at: now) + repeatPreparations(at: now) + onProbeTimer(at: now)
        if let deadline, now >= deadline { actions += onDeadline() }
        return actions + statusIfChanged()
    }

    // MARK: Handshake

    private mutating func onHello(
        _ hello: Hello, _ message: ControlMessage, _ identity: PeerIdentity, at now: Instant
    ) -> [Action] {
        switch membership.onHello(
            hello, identity: identity, incarnation: message.incarnation, at: now)
        {
        case .refuse(let refusal):
            var text = "refused the \(hello.role) on \(hello.node): \(refusal.text)"
            for difference in refusal.differences { text += "; \(difference)" }
            return [.warn(text), .send(identity, .refuse(refusal))]
        case .admit(let peer, let replaced):
            var actions: [Action] = []
            if peer.role == .worker && hello.worker != nil {
                followsAnother = true
                if message.view > 0 { membership.onServedBefore() }
            }
            actions.append(.log("\(peer.description) said HELLO"))
            // First of all, so that a peer knows who it is before it hears of a view.
            actions.append(.send(identity, .config(assignment(of: peer, at: now))))
            if let replaced {
                let isOther = replaced.identity != identity
                // The same process in a view that still stands has lost its part of it.
                if isOther || (view.state != .retired && isMember(replaced)) {
                    let what = isOther ? "was replaced" : "said HELLO again"
                    actions += onLost(replaced, "\(replaced.description) \(what)", at: now)
                }
            }
            if peer.role == .gateway { actions.append(.send(identity, .view(describedView()))) }
            return actions + statusIfChanged()
        }
    }

    /// - Parameter known: the last view that the worker has heard of.
    private mutating func onReady(
        _ ready: Ready, _ peer: Peer, knows known: UInt32, at now: Instant
    ) -> [Action] {
        guard peer.role == .worker else { return [.warn("\(peer.description) said READY")] }
        // It is told of the end, and says READY anew then.
        guard known >= peer.mustKnow else { return [] }
        // Said twice, because the first one might have been lost. The endpoint of another view has
        // another address.
        if peer.ready == ready { return [] }
        membership.update(peer.identity) {
            $0.stage = .ready(ready)
            let first = GroupPosition(rank: $0.worker, worldSize: settings.worldSize)
            ($0.position, $0.asked) = (ready.position ?? first, nil)
            $0.isHung = false
        }
        // Even while others are loading: of two models the later READY is refused.
        if let refused = refuseOtherModel(of: peer) { return refused }
        guard view.state == .retired || !isMember(peer) else {
            // It left the view behind by itself: the others must too.
            return retire("worker \(peer.worker) said READY again", at: now)
        }
        return review(at: now) + statusIfChanged()
    }

    private mutating func onDeadline() -> [Action] {
        deadline = nil
        let seconds = Int(settings.readyTimeout.seconds)
        let last = lastEnd.isEmpty ? "" : "; the last view ended: \(lastEnd)"
        let text = "the deployment is not ready after \(seconds) s: \(onDeadlineText())\(last)"
        let refusal = Refusal(reason: .deadline, text: text)
        return membership.peers.map { .send($0.identity, .refuse(refusal)) } + [.fail(text)]
    }

    // MARK: Members come and go

    private mutating func onHeartbeat(
        _ heartbeat: Heartbeat, _ peer: Peer, sequence: UInt64, knows known: UInt32, at now: Instant
    ) -> [Action] {
        noteWait(heartbeat, of: peer)
        membership.update(peer.identity) {
            $0.reported = heartbeat
            $0.waitingSince = heartbeat.wait.map { $0.began(at: now) }
            $0.isDraining = $0.isDraining || heartbeat.stage == .draining
        }
        // A rank's load is its leader's: the other workers do not schedule.
        let (rank, tpRank) = peer.worker.quotientAndRemainder(
            dividingBy: settings.tensorParallelSize)
        let isItsOwn = tpRank == 0 && heartbeat.load.dpRank == rank
        if peer.role == .worker && view.state == .active && isItsOwn {
            loads.onHeartbeat(heartbeat.load)
        }
        return [.send(peer.identity, .heartbeatAck(sequence: sequence))]
            + repair(peer, heartbeat.stage, knows: known) + repeatedDrain(peer, heartbeat)
            + (heartbeat.stage == .draining ? review(at: now) : [])
    }

    /// A connection that broke may have swallowed a message, of a peer or to it. The heartbeat says
    /// what the peer knows, and it hears the state again if that is not what it should be. A worker
    /// that hears a state for the second time repeats what it answered.
    private func repair(_ peer: Peer, _ stage: WorkerStage, knows known: UInt32) -> [Action] {
        if peer.role == .gateway {
            return known == activeView ?? 0 ? [] : [.send(peer.identity, .view(describedView()))]
        }
        let isBehind =
            switch (view.state, stage) {
            case (.active, .connecting): isMember(peer)
            case (.active, .standby): isMember(peer) || peer.ready == nil
            case (.forming, .standby): isMember(peer)
            case (.forming, .connecting), (.forming, .draining):
                isMember(peer) && peer.stage == peer.ready.map { .ready($0) }
            // Also before the first view, which has the number 0.
            case (.retired, .standby): peer.ready == nil
            default: false
            }
        guard isBehind || (known != view.number && view.number > 0) else { return [] }
        return [.send(peer.identity, .view(view))]
    }

    // MARK: Publishing

    /// The view as gateways see it: while there is none, the reason says who is missing.
    private func describedView() -> View {
        guard view.state != .active else { return view.withoutCollectives }
        let missing = membership.missing(
            ranksMin: settings.ranksMin, namedMax: Self.namedMax
        ).joined(separator: "; ")
        return View(
            number: view.number, state: .retired, members: [],
            configurationDigest: view.configurationDigest,
            reason: missing.isEmpty ? "the workers are connecting" : "waiting for: \(missing)",
            hasServed: followsAnother || !membership.isFirst)
    }

    mutating func publish(toGateways: Bool) -> [Action] {
        var actions: [Action] = membership.workers.map { .send($0.identity, .view(view)) }
        if toGateways {
            actions += membership.gateways.map { .send($0.identity, .view(describedView())) }
        }
        return actions
    }

    mutating func republishWaiting() -> [Action] {
        membership.gateways.map { .send($0.identity, .view(describedView())) }
    }

    private mutating func perform(
        _ action: WakeStateMachine.WakeAction, at now: Instant
    ) -> [Action] {
        switch action {
        case .none:
            return []
        case .send(let fromTick, let workers):
            return workers.compactMap { membership.worker($0) }.map {
                .send($0.identity, .wake(view: view.number, fromTick: fromTick))
            }
        case .giveUp(let workers):
            let names = workers.map { "worker \($0)" }.joined(separator: ", ")
            let limit = WakeStateMachine.giveUpAfter.milliseconds
            return retire("\(names) did not acknowledge a wake within \(limit) ms", at: now)
        }
    }

    mutating func statusIfChanged() -> [Action] {
        let status: String
        switch view.state {
        case .active:
            status = "view \(view.number) is active with \(view.members.count) workers\(lacking)"
        case .forming:
            status = "view \(view.number): \(view.members.count) workers are connecting"
        case .retired:
            let missing = membership.missing(
                ranksMin: settings.ranksMin, namedMax: Self.namedMax
            ).joined(separator: "; ")
            status =
                missing.isEmpty
                ? "the workers of the next view load experts" : "waiting for: \(missing)"
        }
        guard status != lastStatus else { return [] }
        lastStatus = status
        return [.status(status)] + (view.state == .retired ? republishWaiting() : [])
    }
}
