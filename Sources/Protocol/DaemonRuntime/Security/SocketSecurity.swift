internal import CZeroMQ

/// How one socket's links are protected: CurveZMQ (RFC 26, elliptic curve 25519) encrypts and
/// authenticates both ends, and a ``LinkAuthenticator`` says whose key may connect where.
public enum SocketSecurity: Sendable {
    /// Neither encrypted nor authenticated.
    case plaintext
    /// Binds, and lets in what the authenticator knows under this domain.
    case server(KeyRing, domain: String)
    /// Connects to a server of that role, and to no other.
    case client(KeyRing, server: KeyRole)

    /// Keys of the server that a client may try, one after the other; 0 for other sockets.
    var serverKeyCount: Int {
        guard case .client(let ring, let server) = self else { return 0 }
        return ring.keys(of: server).count
    }

    /// Sets the socket's options, which count for what it binds or connects to afterwards.
    ///
    /// - Parameter serverKey: which of the server's keys a client expects, counted from 0.
    func apply(
        to socket: UnsafeMutableRawPointer, serverKey number: Int = 0
    ) throws(TransportError) {
        func set(_ option: Int32, _ text: String) throws(TransportError) {
            let result = text.withCString { zmq_setsockopt(socket, option, $0, text.utf8.count) }
            guard result == 0 else { throw .last("zmq_setsockopt(\(option))") }
        }
        // Keys as text have a size of 41, their NUL included.
        func set(key option: Int32, _ key: String) throws(TransportError) {
            let result = key.withCString { zmq_setsockopt(socket, option, $0, key.utf8.count + 1) }
            guard result == 0 else { throw .last("zmq_setsockopt(\(option))") }
        }
        switch self {
        case .plaintext:
            return
        case .server(let ring, let domain):
            var isServer: Int32 = 1
            guard
                zmq_setsockopt(
                    socket, ZMQ_CURVE_SERVER, &isServer, MemoryLayout<Int32>.size) == 0
            else { throw .last("zmq_setsockopt(ZMQ_CURVE_SERVER)") }
            try set(key: ZMQ_CURVE_SECRETKEY, ring.own.secretKey)
            try set(ZMQ_ZAP_DOMAIN, domain)
        case .client(let ring, let server):
            let known = ring.keys(of: server)
            precondition(!known.isEmpty, "no key of the \(server) in the ring of a \(ring.role)")
            try set(key: ZMQ_CURVE_SERVERKEY, known[number % known.count])
            try set(key: ZMQ_CURVE_PUBLICKEY, ring.own.publicKey)
            try set(key: ZMQ_CURVE_SECRETKEY, ring.own.secretKey)
        }
    }

    /// Whether the sender of a message has a key of the role that its identity names. A key that
    /// was deleted since the handshake does not count any more.
    func agrees(_ identity: [UInt8], with message: inout zmq_msg_t) -> Bool {
        guard case .server(let ring, _) = self else { return true }
        guard let user = zmq_msg_gets(&message, "User-Id"),
            let role = ring.role(ofUserID: String(cString: user))
        else { return false }
        return identity.first == role.identityByte
    }
}
