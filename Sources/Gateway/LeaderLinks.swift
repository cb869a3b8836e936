internal import DaemonRuntime
internal import Protocol

/// The gateway's side of the request plane: one DEALER to each leader of the active view, each
/// introduced by OPEN, which is repeated as the sign of life.
final class LeaderLinks {
    static let openEvery = Interval.seconds(1)

    private final class Link {
        let rank: Int
        let view: UInt32
        let socket: ZeroMQSocket
        var isOpen = false

        init(rank: Int, view: UInt32, socket: ZeroMQSocket) {
            self.rank = rank
            self.view = view
            self.socket = socket
        }
    }

    enum Event {
        /// The leader takes sequences of this view.
        case opened(rank: Int, capacity: Int)
        /// It takes no new ones; what it has goes on.
        case closed(rank: Int)
        /// Its view is over, and what it had goes elsewhere.
        case lost(rank: Int)
        case outputs([RequestOutput], rank: Int, RankLoad)
        case rejected(RequestID, rank: Int, RejectionReason, String)
    }

    private let context: ZeroMQContext
    private let loop: EventLoop
    private let logger: Logger
    private let incarnation: Incarnation
    private let onEvent: (Event) -> Void
    private var links: [Link] = []

    init(
        context: ZeroMQContext,
        loop: EventLoop,
        logger: Logger,
        incarnation: Incarnation,
        onEvent: @escaping (Event) -> Void
    ) {
        self.context = context
        self.loop = loop
        self.logger = logger
        self.incarnation = incarnation
        self.onEvent = onEvent
        loop.scheduleRepeating(every: Self.openEvery) { [weak self] in self?.sayOpen() }
    }

    /// Connects to the leaders of an active view; leaders of an older one are left.
    func connect(to view: View) {
        disconnect()
        for member in view.members where member.isLeader {
            do throws(TransportError) {
                let identity =
                    [UInt8(2)]
                    + (0..<8).map {
                        UInt8(truncatingIfNeeded: incarnation.rawValue >> (8 * (7 - $0)))
                    }
                let socket = try ZeroMQSocket(
                    .dealer(identity: identity), context: context, limits: SocketLimits())
                try socket.connect(member.endpoint)
                let link = Link(rank: Int(member.dpRank), view: view.number, socket: socket)
                socket.attach(to: loop) { [weak self, weak link] _, frame in
                    if let self, let link { receive(frame, link) }
                }
                links.append(link)
            } catch {
                logger.error("no link to a leader", ["rank": member.dpRank, "reason": error])
            }
        }
        sayOpen()
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

    private func sayOpen() {
        for link in links {
            let open = GatewayMessage.open(
                protocolVersion: ProtocolVersion.current, gateway: incarnation, view: link.view)
            _ = link.socket.send(open.encoded())
        }
    }

    private func receive(_ frame: UnsafeRawBufferPointer, _ link: Link) {
        do throws(CodecError) {
            switch try LeaderMessage.decode(frame) {
            case .opened(_, let view, let requestsMax):
                onOpened(link, isOurs: view == link.view, capacity: Int(requestsMax))
            case .outputs(let outputs, let load):
                onEvent(.outputs(outputs, rank: link.rank, load))
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

    private func onOpened(_ link: Link, isOurs: Bool, capacity: Int) {
        guard isOurs != link.isOpen else { return }
        link.isOpen = isOurs
        if isOurs {
            onEvent(.opened(rank: link.rank, capacity: capacity))
        } else {
            logger.notice("a leader takes no requests", ["rank": link.rank])
            onEvent(.closed(rank: link.rank))
        }
    }
}
