internal import DaemonRuntime
internal import Protocol

/// The gateway's side of the request plane: one DEALER to each leader of the active view, each
/// introduced by OPEN, which is repeated as the sign of life.
///
/// A connection that breaks may swallow messages, and a stream with a hole is worse than none. So a
/// link is one connection: it does not connect again, and when its leader has been silent for
/// ``silenceMax`` it is replaced by a new one under another identity. What the old one had is lost
/// and is submitted again; the leader drops it at the new link's OPEN.
final class LeaderLinks {
    static let openEvery = Interval.seconds(1)
    /// Every OPEN is answered, whatever the leader computes.
    static let silenceMax = Interval.seconds(4)

    private final class Link {
        let rank: Int
        /// The last one that its leader is a member of; 0 while there is none.
        var view: UInt32
        let endpoint: String
        let cacheCapacity: Int
        let socket: ZeroMQSocket
        var isOpen = false
        /// Sequences that the leader takes.
        var capacity = 0
        var lastHeard = MonotonicClock.now()
        /// The leader took no message when they were to be told.
        var untoldCancels: [RequestID] = []

        init(
            rank: Int, view: UInt32, endpoint: String, cacheCapacity: Int, socket: ZeroMQSocket
        ) {
            self.rank = rank
            self.cacheCapacity = cacheCapacity
            self.view = view
            self.endpoint = endpoint
            self.socket = socket
        }
    }

    enum Event {
        /// The leader takes sequences of this view.
        ///
        /// - Parameter cacheCapacity: tokens that its cache holds.
        case opened(rank: Int, capacity: Int, cacheCapacity: Int)
        /// It takes no new ones; what it has goes on.
        case closed(rank: Int)
        /// Its view is over, and what it had goes elsewhere.
        case lost(rank: Int)
        case outputs([RequestOutput], rank: Int, RankLoad, knownSubmissions: UInt64)
        case rejected(RequestID, rank: Int, RejectionReason, String)
    }

    private let context: ZeroMQContext
    private let loop: EventLoop
    private let logger: Logger
    private let incarnation: Incarnation
    private let protocols: ProtocolRange
    private var security: LinkSecurity
    /// Connections to leaders that did not come about.
    private(set) var failedHandshakes: UInt64 = 0
    private let onEvent: (Event) -> Void
    private var links: [Link] = []

    init(
        context: ZeroMQContext,
        loop: EventLoop,
        logger: Logger,
        incarnation: Incarnation,
        protocols: ProtocolRange,
        security: LinkSecurity = .plaintext,
        onEvent: @escaping (Event) -> Void
    ) {
        self.context = context
        self.loop = loop
        self.logger = logger
        self.incarnation = incarnation
        self.protocols = protocols
        self.security = security
        self.onEvent = onEvent
        loop.scheduleRepeating(every: Self.openEvery) { [weak self] in
            self?.replaceSilent()
            self?.sayOpen()
        }
    }

    /// For links that come.
    func adopt(_ security: LinkSecurity) {
        self.security = security
        for link in links { link.socket.adopt(security.client(of: .worker)) }
    }

    /// Connects to leaders of an active view. Those that were in the one before keep what they
    /// have; what the others had is lost.
    func connect(to leaders: [Member], view: UInt32) {
        let old = links
        links = []
        for member in leaders {
            let rank = Int(member.dpRank)
            let capacity = Int(member.blockCount) * Int(member.blockSize)
            let kept = old.first { link in
                link.rank == rank && link.endpoint == member.endpoint
                    && link.cacheCapacity == capacity
            }
            if let kept {
                kept.view = view
                kept.isOpen = false
                links.append(kept)
            }
        }
        for link in old where !links.contains(where: { $0 === link }) {
            link.socket.detach()
            onEvent(.lost(rank: link.rank))
        }
        for member in leaders where !links.contains(where: { $0.rank == Int(member.dpRank) }) {
            link(
                to: Int(member.dpRank), view: view, endpoint: member.endpoint,
                cacheCapacity: Int(member.blockCount) * Int(member.blockSize))
        }
        sayOpen()
    }

    /// The view is over: nothing new is sent, and leaders keep what they have for the next one.
    func suspend() {
        for link in links {
            link.view = 0
            close(link)
        }
    }

    private func link(to rank: Int, view: UInt32, endpoint: String, cacheCapacity: Int) {
        // Another secret for each connection, which is therefore another peer.
        let identity = ControlIdentity.bytes(
            role: UInt8(truncatingIfNeeded: PeerRole.gateway.rawValue), incarnation: incarnation,
            secret: MonotonicClock.randomUInt64())
        var limits = SocketLimits()
        limits.reconnectMilliseconds = SocketLimits.neverReconnect
        do throws(TransportError) {
            let socket = try ZeroMQSocket(
                .dealer(identity: identity), context: context, limits: limits,
                security: security.client(of: .worker))
            socket.onHandshakeFailure = { [weak self, logger] failure in
                self?.failedHandshakes += 1
                logger.throttledWarning(
                    "no link to a leader: \(failure.text)", ["rank": rank, "endpoint": endpoint])
            }
            try socket.connect(endpoint)
            let link = Link(
                rank: rank, view: view, endpoint: endpoint, cacheCapacity: cacheCapacity,
                socket: socket)
            socket.attach(to: loop) { [weak self, weak link] _, frame in
                if let self, let link { receive(frame, link) }
            }
            links.append(link)
        } catch {
            logger.error("no link to a leader", ["rank": rank, "reason": error])
        }
    }

    private func replaceSilent() {
        let now = MonotonicClock.now()
        let silent = links.filter { now - $0.lastHeard > Self.silenceMax }
        if silent.isEmpty { return }
        links.removeAll { link in silent.contains { $0 === link } }
        for old in silent {
            logger.warning(
                "a leader is silent",
                [
                    "rank": old.rank, "endpoint": old.endpoint,
                    "route": NetworkRoute.description(toward: old.endpoint),
                ])
            old.socket.detach()
            link(
                to: old.rank, view: old.view, endpoint: old.endpoint,
                cacheCapacity: old.cacheCapacity)
            onEvent(.lost(rank: old.rank))
        }
    }

    func disconnect() {
        let old = links
        links = []
        for link in old {
            link.socket.detach()
            onEvent(.lost(rank: link.rank))
        }
    }

    /// False when the leader takes no message at the moment.
    func send(_ message: GatewayMessage, to rank: Int) -> Bool {
        guard let link = links.first(where: { $0.rank == rank }) else { return false }
        return link.socket.send(message.encoded()) == .sent
    }

    /// Tells the leader that its sequences are not wanted any more, now or as soon as it listens.
    func cancel(_ requests: [RequestID], of rank: Int) {
        guard let link = links.first(where: { $0.rank == rank }) else { return }
        link.untoldCancels += requests
        tellCancels(link)
    }

    private func tellCancels(_ link: Link) {
        if link.untoldCancels.isEmpty { return }
        let message = GatewayMessage.cancel(link.untoldCancels)
        if link.socket.send(message.encoded()) == .sent { link.untoldCancels = [] }
    }

    private func sayOpen() {
        for link in links {
            tellCancels(link)
            let open = GatewayMessage.open(
                protocols: protocols, gateway: incarnation, view: link.view)
            _ = link.socket.send(open.encoded())
        }
    }

    private func receive(_ frame: UnsafeRawBufferPointer, _ link: Link) {
        link.lastHeard = MonotonicClock.now()
        do throws(CodecError) {
            switch try LeaderMessage.decode(frame) {
            case .opened(let opened):
                let isServed = understands(opened, of: link)
                onOpened(
                    link, isOurs: isServed && opened.view == link.view && opened.view != 0,
                    capacity: Int(opened.requestsMax))
            case .outputs(let outputs, var load, let known):
                load.dpRank = UInt32(link.rank)
                onEvent(.outputs(outputs, rank: link.rank, load, knownSubmissions: known))
            case .rejected(let request, let reason, let text):
                // Until it says OPENED again, it takes nothing.
                if reason == .otherView || reason == .draining {
                    onOpened(link, isOurs: false, capacity: 0)
                }
                onEvent(.rejected(request, rank: link.rank, reason, text))
            }
        } catch {
            logger.throttledWarning("dropped a message of a leader", ["reason": error])
        }
    }

    private func understands(_ opened: Opened, of link: Link) -> Bool {
        if opened.refusal.isEmpty && protocols.contains(opened.protocolVersion) { return true }
        let reason =
            opened.refusal.isEmpty
            ? "it chose protocol \(opened.protocolVersion), this gateway speaks \(protocols)"
            : opened.refusal
        logger.throttledWarning(
            "a leader refuses this gateway", ["rank": link.rank, "reason": reason])
        return false
    }

    private func onOpened(_ link: Link, isOurs: Bool, capacity: Int) {
        // An open leader says it again when it takes more or fewer.
        guard isOurs != link.isOpen || (isOurs && capacity != link.capacity) else { return }
        guard isOurs else { return close(link) }
        (link.isOpen, link.capacity) = (true, capacity)
        onEvent(
            .opened(rank: link.rank, capacity: capacity, cacheCapacity: link.cacheCapacity))
    }

    private func close(_ link: Link) {
        if link.isOpen { logger.notice("a leader takes no requests", ["rank": link.rank]) }
        link.isOpen = false
        onEvent(.closed(rank: link.rank))
    }
}
