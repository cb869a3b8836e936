internal import CZeroMQ
internal import Glibc

/// Why a connection did not come about.
public enum HandshakeFailure: Hashable, Sendable {
    /// The server does not know this process's key; seen from both sides.
    case keyRefused
    /// One side has keys and the other none.
    case otherMechanism
    /// The peer's box could not be opened: the client knows another key of the server.
    case otherServerKey
    /// What came is not ZMTP, or not this version's.
    case malformed
    /// The peer closed the connection or said nothing, as a server does that cannot open the
    /// client's box, and as port scanners do.
    case closed

    public var text: String {
        switch self {
        case .keyRefused: "the server does not know the client's key"
        case .otherMechanism: "one side has keys and the other has none"
        case .otherServerKey: "the client knows another key of the server"
        case .malformed: "what the peer sent is no handshake"
        case .closed: "the peer closed the connection"
        }
    }
}

/// Hears from libzmq how the handshakes of one socket end (`zmq_socket_monitor(3)`). Belongs to the
/// socket's thread.
final class HandshakeMonitor {
    enum Event {
        case succeeded
        case failed(HandshakeFailure)
        case disconnected
    }

    private static let events =
        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL
        | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
        | ZMQ_EVENT_DISCONNECTED
    private static let eventsPerTurnMax = 256

    private let context: ZeroMQContext
    private let observed: UnsafeMutableRawPointer
    private let raw: UnsafeMutableRawPointer
    private var attachment: (loop: EventLoop, descriptor: Int32, drain: UInt64)?

    /// - Parameter observed: a socket that lives longer than this object.
    init(of observed: UnsafeMutableRawPointer, context: ZeroMQContext) throws(TransportError) {
        self.context = context
        self.observed = observed
        let endpoint = "inproc://handshakes-\(MonotonicClock.randomUInt64())"
        guard zmq_socket_monitor(observed, endpoint, Self.events) == 0 else {
            throw .last("zmq_socket_monitor")
        }
        guard let raw = zmq_socket(context.raw, ZMQ_PAIR) else {
            let error = TransportError.last("zmq_socket")
            zmq_socket_monitor(observed, nil, 0)
            throw error
        }
        self.raw = raw
        // libzmq's I/O thread blocks in a full queue, for all sockets. What fills this one are
        // connections, and every turn of the loop empties it.
        var none: Int32 = 0
        zmq_setsockopt(raw, ZMQ_RCVHWM, &none, MemoryLayout<Int32>.size)
        zmq_setsockopt(raw, ZMQ_LINGER, &none, MemoryLayout<Int32>.size)
        guard zmq_connect(raw, endpoint) == 0 else {
            let error = TransportError.last("connect to \(endpoint)")
            zmq_socket_monitor(observed, nil, 0)
            zmq_close(raw)
            throw error
        }
    }

    deinit {
        detach()
        // In this order: the I/O thread would wait for a reader that is gone.
        zmq_socket_monitor(observed, nil, 0)
        zmq_close(raw)
    }

    func attach(to loop: EventLoop, _ handler: @escaping (Event) -> Void) {
        precondition(attachment == nil, "attached already")
        var descriptor: Int32 = -1
        var size = MemoryLayout<Int32>.size
        guard zmq_getsockopt(raw, ZMQ_FD, &descriptor, &size) == 0 else {
            preconditionFailure("zmq_getsockopt: \(TransportError.last("ZMQ_FD"))")
        }
        loop.watch(descriptor, for: .readable) { _ in }
        let drain = loop.addDrain { [weak self] in self?.receiveSome(handler) ?? false }
        attachment = (loop, descriptor, drain)
    }

    func detach() {
        guard let attachment else { return }
        attachment.loop.unwatch(attachment.descriptor)
        attachment.loop.removeDrain(attachment.drain)
        self.attachment = nil
    }

    private func receiveSome(_ handler: (Event) -> Void) -> Bool {
        var hasReceived = false
        for _ in 0..<Self.eventsPerTurnMax {
            // A handler may end this monitor.
            guard attachment != nil, let event = receive() else { break }
            hasReceived = true
            if let event { handler(event) }
        }
        return hasReceived
    }

    /// nil when nothing waits; `.some(nil)` for what does not matter here.
    private func receive() -> Event?? {
        // Two frames: number and value of the event, and an address.
        var content = [UInt8](repeating: 0, count: 6)
        var more = true
        var isFirst = true
        while more {
            var frame = [UInt8](repeating: 0, count: 256)
            let count = zmq_recv(raw, &frame, frame.count, ZMQ_DONTWAIT)
            if count < 0 {
                if zmq_errno() == EINTR { continue }
                return nil
            }
            if isFirst, count >= content.count { content = Array(frame.prefix(content.count)) }
            isFirst = false
            var hasMore: Int32 = 0
            var size = MemoryLayout<Int32>.size
            zmq_getsockopt(raw, ZMQ_RCVMORE, &hasMore, &size)
            more = hasMore != 0
        }
        return .some(Self.event(content))
    }

    private static func event(_ content: [UInt8]) -> Event? {
        let (number, value) = content.withUnsafeBytes {
            (
                Int32($0.loadUnaligned(fromByteOffset: 0, as: UInt16.self)),
                Int32(bitPattern: $0.loadUnaligned(fromByteOffset: 2, as: UInt32.self))
            )
        }
        switch number {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: return .succeeded
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: return .failed(.keyRefused)
        case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL: return .failed(.closed)
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL: return .failed(failure(value))
        case ZMQ_EVENT_DISCONNECTED: return .disconnected
        default: return nil
        }
    }

    private static func failure(_ value: Int32) -> HandshakeFailure {
        switch value {
        case ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: .otherMechanism
        case ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: .otherServerKey
        default: .malformed
        }
    }
}
