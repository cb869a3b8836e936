public import Protocol

/// A peer's side of the control plane: says HELLO until it has an answer, keeps the lease with
/// heartbeats, and hands everything else that the coordinator says to its owner.
///
/// It survives the coordinator: the connection comes back by itself, and a coordinator that does
/// not know this peer any more gets a new HELLO.
public final class ControlLink {
    /// What the owner hears.
    public enum Event {
        case configured(AssignedConfiguration)
        /// HELLO or READY was refused for good; the process cannot serve.
        case refused(Refusal)
        /// No coordinator has answered for as long as this process waits for one.
        case unanswered(String)
        case view(View)
        case wake(view: UInt32, fromTick: UInt64)
        case loads([RankLoad])
        /// An operator wants this process to leave, as SIGTERM does.
        case drain(reason: String)
        /// Have the experts for this position in the next view.
        case prepare(GroupPosition)
        /// The coordinator was reloaded, or repeats itself: of these entries limits may be new.
        case limits([ConfigurationEntry])
        /// The others do without this process: it may end.
        case released
    }

    static let helloEvery = Interval.seconds(1)
    static let complaintEvery = Interval.seconds(5)

    private let socket: ZeroMQSocket
    private let loop: EventLoop
    private let logger: Logger
    private let endpoint: String
    /// How long the first HELLO may go unanswered; nil: for ever.
    public var patience: Interval?
    private let incarnation: Incarnation
    private var hello: Hello
    private let onEvent: (Event) -> Void
    private var sequence: UInt64 = 0
    /// What is said to the coordinator is written in it: chosen by its answer to HELLO, and before
    /// that the oldest that this process speaks.
    public private(set) var protocolVersion: UInt32
    private var isConfigured = false
    private var lease = Interval.seconds(5)
    private var started = MonotonicClock.now()
    private var lastComplaint = MonotonicClock.now()
    private var lastHeard: Instant?
    /// Nothing has been heard of the coordinator for a lease.
    public private(set) var coordinatorIsSilent = false
    private var hasLeft = false
    private var isLeaving = false
    private let prober: WayProber

    /// The view that this process is in, stamped on its messages.
    public var view: UInt32 = 0
    /// Makes the heartbeat; called several times a lease.
    public var heartbeat: (() -> Heartbeat)?

    /// A heartbeat out of turn: the stage is another one that others wait for.
    public func beat() {
        if isConfigured, !hasLeft, let heartbeat { send(.heartbeat(heartbeat())) }
    }

    /// - Parameters:
    ///   - endpoint: `tcp://address:port` of the coordinator.
    ///   - patience: how long the first HELLO may go unanswered; nil: for ever.
    public init(
        endpoint: String,
        hello: Hello,
        incarnation: Incarnation,
        patience: Interval? = nil,
        security: LinkSecurity = .plaintext,
        context: ZeroMQContext,
        loop: EventLoop,
        logger: Logger,
        onEvent: @escaping (Event) -> Void
    ) throws(TransportError) {
        var limits = SocketLimits()
        limits.messageBytesMax = Int64(CodecLimits.controlMessageBytesMax)
        let identity = ControlIdentity.bytes(
            role: UInt8(truncatingIfNeeded: hello.role.rawValue), incarnation: incarnation,
            secret: MonotonicClock.randomUInt64())
        socket = try ZeroMQSocket(
            .dealer(identity: identity), context: context, limits: limits,
            security: security.client(of: .coordinator))
        self.loop = loop
        self.logger = logger
        self.endpoint = endpoint
        self.patience = patience
        self.incarnation = incarnation
        self.hello = hello
        protocolVersion = hello.protocolMin
        self.onEvent = onEvent
        socket.onHandshakeFailure = { failure in
            logger.throttledWarning(
                "no link to the coordinator: \(failure.text)", ["endpoint": endpoint])
        }
        prober = WayProber(loop: loop)
        try socket.connect(endpoint)
        socket.attach(to: loop) { [weak self] _, frame in self?.receive(frame) }
        prober.onResult = { [weak self] result in self?.send(.probeResult(result)) }
        sayHello()
        keepLease()
    }

    /// False when the coordinator takes no messages at the moment.
    @discardableResult
    public func send(_ body: ControlBody) -> Bool {
        sequence += 1
        let message = ControlMessage(
            protocolVersion: protocolVersion, incarnation: incarnation, view: view,
            sequence: sequence, body: body)
        return socket.send(message.encoded()) == .sent
    }

    /// Says that this process goes, and nothing after it.
    public func leave(_ reason: String) {
        guard !hasLeft else { return }
        send(.leave(reason: reason))
        hasLeft = true
    }

    /// Says that this process is to go, and stays until ``Event/released``, so that the others can
    /// get ready to do without it. May be repeated.
    public func askToLeave(_ reason: String) {
        // An older coordinator knows no such question.
        guard protocolVersion >= ProtocolVersion.negotiated else {
            leave(reason)
            return onEvent(.released)
        }
        isLeaving = true
        send(.askToLeave(reason: reason))
    }

    public func close() {
        socket.detach()
        prober.close()
    }

    /// For the next connection; the one that stands stays.
    public func adopt(_ security: LinkSecurity) {
        socket.adopt(security.client(of: .coordinator))
    }

    /// Connections to the coordinator that did not come about.
    public var failedHandshakes: UInt64 { socket.failedHandshakes }

    private func sayHello() {
        if hasLeft { return }
        if !isConfigured {
            send(.hello(hello))
            complain(at: MonotonicClock.now())
        }
        loop.schedule(after: Self.helloEvery) { [weak self] in self?.sayHello() }
    }

    private func complain(at now: Instant) {
        let waited = now - started
        if let patience, lastHeard == nil, waited >= patience {
            let text =
                "no coordinator at \(endpoint) has answered for \(Int(waited.seconds)) s, tried "
                + "\(NetworkRoute.description(toward: endpoint)): start it, or check "
                + "--data-parallel-address, --data-parallel-rpc-port and the firewall"
            return onEvent(.unanswered(text))
        }
        guard now - lastComplaint >= Self.complaintEvery else { return }
        lastComplaint = now
        logger.warning(
            "no coordinator answers",
            [
                "endpoint": endpoint, "route": NetworkRoute.description(toward: endpoint),
                "seconds": Int(waited.seconds),
            ])
    }

    private func keepLease() {
        if hasLeft { return }
        if isConfigured, let heartbeat {
            send(.heartbeat(heartbeat()))
            noticeSilence()
        }
        let every = Interval(nanoseconds: lease.nanoseconds / 5)
        loop.schedule(after: every) { [weak self] in self?.keepLease() }
    }

    private func noticeSilence() {
        guard let lastHeard else { return }
        let isSilent = MonotonicClock.now() - lastHeard > lease
        if isSilent && !coordinatorIsSilent {
            logger.warning("the coordinator is silent", ["endpoint": endpoint])
        }
        if isSilent { socket.connectWithNewKeys() }
        coordinatorIsSilent = isSilent
    }

    private func receive(_ frame: UnsafeRawBufferPointer) {
        if hasLeft { return }
        let message: ControlMessage
        do throws(CodecError) {
            message = try ControlMessage.decode(frame)
        } catch {
            logger.throttledWarning("dropped a message of the coordinator", ["reason": error])
            return
        }
        lastHeard = MonotonicClock.now()
        switch message.body {
        case .config(let configuration):
            if !isConfigured || isOtherPlace(configuration) {
                onConfigured(configuration)
            } else {
                lease = configuration.lease
                onEvent(.limits(configuration.entries))
            }
        case .refuse(let refusal):
            onRefusal(refusal)
        case .view(let view):
            onEvent(.view(view))
        case .wake(let view, let fromTick):
            onEvent(.wake(view: view, fromTick: fromTick))
        case .loadUpdate(let loads):
            onEvent(.loads(loads))
        case .prepare(let position):
            onEvent(.prepare(position))
        case .drain(let reason):
            onEvent(.drain(reason: reason))
        case .probe(let probe):
            prober.tryWays(of: probe)
        case .heartbeatAck:
            break
        case .hello, .ready, .viewJoined, .heartbeat, .wakeRequest, .wakeAck, .peerSilent, .leave,
            .prepared, .askToLeave, .statusRequest, .statusReport, .drainRequest, .drainReport,
            .probeRequest, .probeResult, .probeReport:
            logger.throttledWarning("dropped a message that only peers send")
        }
    }

    /// The answer to a HELLO of before may be late, and the place that of another worker by then:
    /// the last answer counts.
    private func isOtherPlace(_ configuration: AssignedConfiguration) -> Bool {
        hello.role == .worker && hello.worker != configuration.worker
    }

    private func onConfigured(_ configuration: AssignedConfiguration) {
        let version = configuration.protocolVersion
        guard let spoken = hello.protocols, spoken.contains(version) else {
            let text =
                "the coordinator chose protocol \(version), which is none of this process: install "
                + "a newer release there"
            return onEvent(.refused(Refusal(reason: .protocolVersion, text: text)))
        }
        protocolVersion = version
        isConfigured = true
        lease = configuration.lease
        if hello.role == .worker { hello.worker = configuration.worker }
        onEvent(.configured(configuration))
    }

    private func onRefusal(_ refusal: Refusal) {
        switch refusal.reason {
        case .unknownPeer where isLeaving, .draining where isLeaving:
            onEvent(.released)
        case .unknownPeer:
            // A HELLO that is on its way is answered after this.
            if isConfigured {
                logger.notice("the coordinator was restarted")
                isConfigured = false
                protocolVersion = hello.protocolMin
                send(.hello(hello))
            }
        case .groupFull:
            // The place may still belong to a lost process whose lease runs.
            logger.throttledWarning("waiting for a place", ["reason": refusal.text])
        case .protocolVersion, .configuration, .model, .deadline, .draining, .malformed:
            onEvent(.refused(refusal))
        }
    }
}
