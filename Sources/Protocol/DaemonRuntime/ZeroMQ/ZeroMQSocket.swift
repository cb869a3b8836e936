internal import CZeroMQ
internal import Glibc
internal import Protocol

/// What went wrong at a ZeroMQ call, with the call's name and libzmq's text.
public struct TransportError: Error, Hashable, Sendable, CustomStringConvertible {
    public let call: String
    public let detail: String
    public var description: String { "\(call): \(detail)" }

    static func last(_ call: String) -> TransportError {
        TransportError(call: call, detail: String(cString: zmq_strerror(zmq_errno())))
    }
}

/// Owner of libzmq's I/O thread; one a process. `zmq_ctx_new(3)` is thread-safe, so it may cross
/// threads; sockets may not.
public final class ZeroMQContext: @unchecked Sendable {
    /// A gateway has three for each leader while it connects: two are the handshake's monitor.
    static let socketsMax: Int32 = 4096

    let raw: UnsafeMutableRawPointer

    public init() {
        guard let raw = zmq_ctx_new() else { preconditionFailure("zmq_ctx_new: \(zmq_errno())") }
        self.raw = raw
        _ = zmq_ctx_set(raw, ZMQ_BLOCKY, 0)
        _ = zmq_ctx_set(raw, ZMQ_MAX_SOCKETS, Self.socketsMax)
    }

    deinit { zmq_ctx_term(raw) }

    /// libzmq's version as major * 10,000 + minor * 100 + patch.
    public static var version: Int {
        var (major, minor, patch): (Int32, Int32, Int32) = (0, 0, 0)
        zmq_version(&major, &minor, &patch)
        return Int(major) * 10_000 + Int(minor) * 100 + Int(patch)
    }
}

/// Bounds of one ZeroMQ socket; none of them is infinite.
public struct SocketLimits: Sendable {
    /// Messages queued for one peer, each way.
    public var messagesMax: Int32 = 4096
    /// Those received of one peer and not yet looked at; nil: as many. With more the peer waits.
    public var receivedMax: Int32?
    /// A peer that sends more in one message is disconnected.
    public var messageBytesMax: Int64 = Int64(CodecLimits.leaderMessageBytesMax)
    /// Messages taken from the socket in one turn of the loop.
    public var messagesPerTurnMax = 256
    /// Silence after which libzmq pings; three times that and the connection counts as dead.
    public var heartbeatMilliseconds: Int32 = 1000
    public var reconnectMilliseconds: Int32 = 50
    /// As ``reconnectMilliseconds``: a connection that breaks or is refused is over.
    public static let neverReconnect: Int32 = -1
    public var reconnectMillisecondsMax: Int32 = 1000

    public init() {}
}

/// A ROUTER or DEALER socket that carries one frame a message. Belongs to one thread.
///
/// Receiving is driven by an ``EventLoop``: ``attach(to:_:)`` hands every message to a handler, a
/// bounded number a turn. Sending never blocks.
public final class ZeroMQSocket {
    public enum Kind: Sendable {
        /// Answers by the peer's identity; refuses unknown peers instead of dropping.
        case router
        /// Talks to one peer, under an identity of its own.
        case dealer(identity: [UInt8])
    }

    public enum SendResult: Hashable, Sendable {
        case sent
        /// The peer's queue is full: try again after it has taken something.
        case wouldBlock
        /// ROUTER only: nobody is connected under that identity.
        case unroutable
    }

    private let context: ZeroMQContext
    let raw: UnsafeMutableRawPointer
    private let isRouter: Bool
    let limits: SocketLimits
    private(set) var attachment: (loop: EventLoop, drain: UInt64)?

    var security: SocketSecurity
    /// Where a client connects to, and how far it is with the server's keys.
    var client: ClientState?
    var monitor: HandshakeMonitor?
    /// Connections that did not come about; a client's only with keys.
    public internal(set) var failedHandshakes: UInt64 = 0
    /// Told of each.
    public var onHandshakeFailure: ((HandshakeFailure) -> Void)?
    /// Messages of peers whose identity is that of another role than their key, or whose key was
    /// deleted.
    public private(set) var foreignMessages: UInt64 = 0
    /// Messages that were not (identity,) payload in one frame.
    public private(set) var malformedMessages: UInt64 = 0

    public init(
        _ kind: Kind, context: ZeroMQContext, limits: SocketLimits,
        security: SocketSecurity = .plaintext
    ) throws(TransportError) {
        self.context = context
        self.security = security
        self.limits = limits
        switch kind {
        case .router: isRouter = true
        case .dealer: isRouter = false
        }
        guard let raw = zmq_socket(context.raw, isRouter ? ZMQ_ROUTER : ZMQ_DEALER) else {
            throw .last("zmq_socket")
        }
        self.raw = raw
        // High-water marks only count when they are set before bind or connect.
        try set(ZMQ_SNDHWM, limits.messagesMax)
        try set(ZMQ_RCVHWM, limits.receivedMax ?? limits.messagesMax)
        try set(ZMQ_LINGER, 0)
        try set(ZMQ_HEARTBEAT_IVL, limits.heartbeatMilliseconds)
        try set(ZMQ_HEARTBEAT_TIMEOUT, 3 * limits.heartbeatMilliseconds)
        try set(ZMQ_HEARTBEAT_TTL, 3 * limits.heartbeatMilliseconds)
        try set(ZMQ_HANDSHAKE_IVL, 10_000)
        try set(ZMQ_RECONNECT_IVL, limits.reconnectMilliseconds)
        try set(ZMQ_RECONNECT_IVL_MAX, limits.reconnectMillisecondsMax)
        var bytesMax = limits.messageBytesMax
        guard zmq_setsockopt(raw, ZMQ_MAXMSGSIZE, &bytesMax, MemoryLayout<Int64>.size) == 0 else {
            throw .last("zmq_setsockopt")
        }
        try security.apply(to: raw)
        switch kind {
        case .router:
            try set(ZMQ_ROUTER_MANDATORY, 1)
            // A peer that reconnects under its identity replaces its old connection.
            try set(ZMQ_ROUTER_HANDOVER, 1)
        case .dealer(let identity):
            precondition(1...255 ~= identity.count && identity[0] != 0, "identity \(identity)")
            guard zmq_setsockopt(raw, ZMQ_ROUTING_ID, identity, identity.count) == 0 else {
                throw .last("zmq_setsockopt")
            }
        }
        if isRouter || security.serverKeyCount > 0 {
            monitor = try HandshakeMonitor(of: raw, context: context)
        }
    }

    deinit {
        detach()
        monitor = nil
        zmq_close(raw)
    }

    private func set(_ option: Int32, _ value: Int32) throws(TransportError) {
        var value = value
        guard zmq_setsockopt(raw, option, &value, MemoryLayout<Int32>.size) == 0 else {
            throw .last("zmq_setsockopt(\(option), \(value))")
        }
    }

    /// Binds, and says where: port `*` is picked by the system.
    @discardableResult
    public func bind(_ endpoint: String) throws(TransportError) -> String {
        try allowIPv6(in: endpoint)
        guard zmq_bind(raw, endpoint) == 0 else {
            let error = TransportError.last("bind to \(endpoint)")
            throw error
        }
        var name = [CChar](repeating: 0, count: 256)
        var count = name.count
        guard zmq_getsockopt(raw, ZMQ_LAST_ENDPOINT, &name, &count) == 0 else {
            throw .last("zmq_getsockopt")
        }
        return String(
            decoding: name.prefix(max(count - 1, 0)).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// Connects in the background, and again whenever the connection breaks.
    public func connect(_ endpoint: String) throws(TransportError) {
        try allowIPv6(in: endpoint)
        guard zmq_connect(raw, endpoint) == 0 else { throw .last("connect to \(endpoint)") }
        if security.serverKeyCount > 0 { client = ClientState(endpoint: endpoint) }
    }

    /// Only where the address is one of IPv6: libzmq would print an IPv4 address as a mapped one.
    private func allowIPv6(in endpoint: String) throws(TransportError) {
        try set(ZMQ_IPV6, endpoint.contains("[") ? 1 : 0)
    }

    // MARK: Sending

    /// DEALER: to its peer.
    public func send(_ frame: [UInt8]) -> SendResult {
        precondition(!isRouter, "a ROUTER sends to an identity")
        return sendFrame(frame, more: false)
    }

    /// ROUTER: to the peer with that identity.
    public func send(_ frame: [UInt8], to identity: [UInt8]) -> SendResult {
        precondition(isRouter, "a DEALER has one peer")
        let first = sendFrame(identity, more: true)
        return first == .sent ? sendFrame(frame, more: false) : first
    }

    private func sendFrame(_ frame: [UInt8], more: Bool) -> SendResult {
        let flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)
        while true {
            if zmq_send(raw, frame, frame.count, flags) >= 0 { return .sent }
            switch zmq_errno() {
            case EINTR: continue
            case EAGAIN: return .wouldBlock
            case EHOSTUNREACH: return .unroutable
            default: preconditionFailure("zmq_send: \(TransportError.last("zmq_send"))")
            }
        }
    }

    // MARK: Receiving

    /// Hands every message to `handler` on the loop's thread; `identity` is empty on a DEALER, and
    /// the bytes are valid during the call only.
    public func attach(
        to loop: EventLoop,
        _ handler: @escaping (_ identity: [UInt8], _ frame: UnsafeRawBufferPointer) -> Void
    ) {
        precondition(attachment == nil, "attached already")
        var fd: Int32 = -1
        var size = MemoryLayout<Int32>.size
        guard zmq_getsockopt(raw, ZMQ_FD, &fd, &size) == 0 else {
            preconditionFailure("zmq_getsockopt: \(TransportError.last("ZMQ_FD"))")
        }
        // The descriptor is edge-triggered and only ends the loop's wait; the drain, which runs
        // every turn, looks at the socket itself.
        loop.watch(fd, for: .readable) { _ in }
        descriptor = fd
        let drain = loop.addDrain { [weak self] in self?.receiveSome(handler) ?? false }
        attachment = (loop, drain)
        monitor?.attach(to: loop) { [weak self] event in self?.onHandshake(event) }
    }

    private var descriptor: Int32 = -1

    public func detach() {
        guard let attachment else { return }
        attachment.loop.unwatch(descriptor)
        attachment.loop.removeDrain(attachment.drain)
        monitor?.detach()
        cancelNextKey()
        self.attachment = nil
    }

    /// True when more may be waiting, here or on another socket: a handler that sends takes the
    /// edge of that socket's descriptor with it, and only another round of drains finds what came.
    private func receiveSome(_ handler: ([UInt8], UnsafeRawBufferPointer) -> Void) -> Bool {
        var hasReceived = false
        for _ in 0..<limits.messagesPerTurnMax {
            // A handler may detach this socket.
            guard attachment != nil, receiveOne(handler) else { break }
            hasReceived = true
        }
        return hasReceived
    }

    /// False when nothing was waiting.
    private func receiveOne(_ handler: ([UInt8], UnsafeRawBufferPointer) -> Void) -> Bool {
        var identity: [UInt8] = []
        var frames = 0
        let expected = isRouter ? 2 : 1
        var message = zmq_msg_t()
        while true {
            zmq_msg_init(&message)
            defer { zmq_msg_close(&message) }
            let count = zmq_msg_recv(&message, raw, ZMQ_DONTWAIT)
            if count < 0 {
                if zmq_errno() == EINTR { continue }
                precondition(zmq_errno() == EAGAIN, "zmq_msg_recv: errno \(zmq_errno())")
                return false
            }
            frames += 1
            let more = zmq_msg_more(&message) != 0
            let bytes = UnsafeRawBufferPointer(
                start: zmq_msg_data(&message), count: zmq_msg_size(&message))
            if isRouter && frames == 1 { identity = Array(bytes) }
            if more { continue }
            if frames != expected {
                malformedMessages += 1
            } else if isRouter, !security.agrees(identity, with: &message) {
                foreignMessages += 1
            } else {
                handler(identity, bytes)
            }
            return true
        }
    }
}
