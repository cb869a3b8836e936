internal import CZeroMQ
internal import Glibc
internal import Protocol

/// Says who may connect to the sockets of a process: the process's handler of ZAP (RFC 27), which
/// libzmq asks at every handshake. There is one a context; it must be made before the first server
/// socket, and lives as long as the loop.
public final class LinkAuthenticator {
    static let endpoint = "inproc://zeromq.zap.01"
    private static let requestsPerTurnMax = 64
    private static let framesMax = 16

    private let context: ZeroMQContext
    private let raw: UnsafeMutableRawPointer
    private let loop: EventLoop
    private let logger: Logger
    private var ring: KeyRing
    private let roles: [String: [KeyRole]]
    private var descriptor: Int32 = -1
    private var drain: UInt64 = 0
    /// Handshakes that were refused.
    public private(set) var refusals: UInt64 = 0

    /// - Parameter roles: by the domain of a server socket, whose keys may connect to it.
    public init(
        ring: KeyRing, roles: [String: [KeyRole]], context: ZeroMQContext, loop: EventLoop,
        logger: Logger
    ) throws(TransportError) {
        self.ring = ring
        self.roles = roles
        self.context = context
        self.loop = loop
        self.logger = logger
        guard let raw = zmq_socket(context.raw, ZMQ_REP) else { throw .last("zmq_socket") }
        self.raw = raw
        var linger: Int32 = 0
        zmq_setsockopt(raw, ZMQ_LINGER, &linger, MemoryLayout<Int32>.size)
        guard zmq_bind(raw, Self.endpoint) == 0 else {
            let error = TransportError.last("bind to \(Self.endpoint)")
            zmq_close(raw)
            throw error
        }
        var size = MemoryLayout<Int32>.size
        guard zmq_getsockopt(raw, ZMQ_FD, &descriptor, &size) == 0 else {
            preconditionFailure("zmq_getsockopt: \(TransportError.last("ZMQ_FD"))")
        }
        loop.watch(descriptor, for: .readable) { _ in }
        drain = loop.addDrain { [weak self] in self?.answerSome() ?? false }
    }

    deinit {
        loop.unwatch(descriptor)
        loop.removeDrain(drain)
        zmq_close(raw)
    }

    /// The keys that count from now on.
    public func adopt(_ security: LinkSecurity) {
        if case .keys(let ring) = security { self.ring = ring }
    }

    private func answerSome() -> Bool {
        var hasAnswered = false
        for _ in 0..<Self.requestsPerTurnMax {
            guard let request = receive() else { break }
            answer(request)
            hasAnswered = true
        }
        return hasAnswered
    }

    private func receive() -> [[UInt8]]? {
        var frames: [[UInt8]] = []
        var message = zmq_msg_t()
        while true {
            zmq_msg_init(&message)
            defer { zmq_msg_close(&message) }
            if zmq_msg_recv(&message, raw, ZMQ_DONTWAIT) < 0 {
                if zmq_errno() == EINTR { continue }
                return nil
            }
            if frames.count < Self.framesMax {
                frames.append(
                    Array(
                        UnsafeRawBufferPointer(
                            start: zmq_msg_data(&message), count: zmq_msg_size(&message))))
            }
            if zmq_msg_more(&message) == 0 { return frames }
        }
    }

    /// Frames of a request: version, request id, domain, address, identity, mechanism, credentials.
    private func answer(_ request: [[UInt8]]) {
        func text(_ index: Int) -> String {
            request.indices.contains(index) ? String(decoding: request[index], as: UTF8.self) : ""
        }
        let allowed = roles[text(2)] ?? []
        var owner: (role: KeyRole, key: String)?
        if request.count == 7, text(0) == "1.0", text(5) == "CURVE" {
            owner = ring.owner(of: request[6], among: allowed)
        }
        if owner == nil {
            refusals += 1
            let expected = allowed.map(\.rawValue).joined(separator: ", ")
            logger.throttledWarning(
                "refused a link with a key that is not one of: \(expected)",
                ["address": text(3), "refused": refusals])
        }
        send("1.0", more: true)
        send(request.indices.contains(1) ? request[1] : [], more: true)
        send(owner == nil ? "400" : "200", more: true)
        send(owner == nil ? "unknown key" : "", more: true)
        send(owner.map { KeyRing.userID($0.role, $0.key) } ?? "", more: true)
        send("", more: false)
    }

    private func send(_ text: String, more: Bool) { send(Array(text.utf8), more: more) }

    private func send(_ bytes: [UInt8], more: Bool) {
        // One answer to one request inside the process: it never blocks.
        let flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)
        while zmq_send(raw, bytes, bytes.count, flags) < 0 {
            guard zmq_errno() == EINTR else { return }
        }
    }
}
