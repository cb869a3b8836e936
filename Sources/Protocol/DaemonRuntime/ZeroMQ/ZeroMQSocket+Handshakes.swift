internal import CZeroMQ
internal import Glibc
internal import Protocol

/// How a client with keys gets its connection while keys change: a server has one key at a time, a
/// client may know several, and only the handshake tells which one is right.
extension ZeroMQSocket {
    /// Between a handshake that failed and the next key; doubles while none succeeds.
    static let nextKeyAfterMin = Interval.milliseconds(50)
    static let nextKeyAfterMax = Interval.seconds(1)

    struct ClientState {
        let endpoint: String
        var keyNumber = 0
        /// Keys are other ones than those that libzmq connects with.
        var isStale = false
        var nextKeyAfter = ZeroMQSocket.nextKeyAfterMin
        var timer: EventLoop.TimerID?
    }

    /// Other keys, for connections that come; those that stand stay. What a deleted key says is
    /// dropped at once. The key of a socket that is bound stays as it was: libzmq has copied it.
    public func adopt(_ security: SocketSecurity) {
        self.security = security
        client?.isStale = true
        client?.keyNumber = 0
    }

    /// For a client that hears nothing: its connection stands, but its old key may be deleted.
    public func connectWithNewKeys() {
        if client?.isStale == true { connectAgain(withNextKey: false) }
    }

    func onHandshake(_ event: HandshakeMonitor.Event) {
        switch event {
        case .succeeded:
            cancelNextKey()
            client?.nextKeyAfter = Self.nextKeyAfterMin
            // Its only connection: there is nothing more to hear.
            if client != nil, !isReconnecting { monitor = nil }
        case .failed(let failure):
            failedHandshakes += 1
            // An own key that is refused does not become better with another one of the server.
            connectAgain(withNextKey: failure != .keyRefused)
            onHandshakeFailure?(failure)
        case .disconnected:
            if client?.isStale == true, isReconnecting { connectAgain(withNextKey: false) }
        }
    }

    private var isReconnecting: Bool {
        limits.reconnectMilliseconds != SocketLimits.neverReconnect
    }

    /// Also with the same keys: libzmq does not come again to a server that has refused it.
    private func connectAgain(withNextKey: Bool) {
        guard var client, client.timer == nil, let loop = attachment?.loop else { return }
        guard isReconnecting || (withNextKey && security.serverKeyCount > 1) else { return }
        if withNextKey { client.keyNumber = (client.keyNumber + 1) % security.serverKeyCount }
        client.timer = loop.schedule(after: client.nextKeyAfter) { [weak self] in self?.connect() }
        client.nextKeyAfter = min(
            Interval(nanoseconds: 2 * client.nextKeyAfter.nanoseconds), Self.nextKeyAfterMax)
        self.client = client
    }

    /// libzmq copies the options when it connects, so the connection is given up and made anew;
    /// what was to be sent on it is lost.
    private func connect() {
        guard var client else { return }
        client.timer = nil
        client.isStale = false
        self.client = client
        // It may have ended by itself.
        zmq_disconnect(raw, client.endpoint)
        do throws(TransportError) {
            try security.apply(to: raw, serverKey: client.keyNumber)
        } catch {
            preconditionFailure("keys that were checked: \(error)")
        }
        let result = zmq_connect(raw, client.endpoint)
        precondition(result == 0, "zmq_connect again: \(TransportError.last("zmq_connect"))")
    }

    func cancelNextKey() {
        guard let timer = client?.timer else { return }
        attachment?.loop.cancel(timer)
        client?.timer = nil
    }
}
