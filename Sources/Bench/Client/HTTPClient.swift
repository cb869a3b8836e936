internal import CLinux
internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// Why an exchange has failed.
enum HTTPClientError: Error, Hashable, Sendable, CustomStringConvertible {
    case notConnected(authority: String, reason: String)
    case broken(reason: String)
    case answer(HTTPResponseError)
    case deadline(seconds: Double, phase: String)

    var description: String {
        switch self {
        case .notConnected(let authority, let reason):
            "cannot connect to \(authority): \(reason)"
        case .broken(let reason): "the connection broke: \(reason)"
        case .answer(let error): "\(error)"
        case .deadline(let seconds, let phase): "no end after \(seconds) s (\(phase))"
        }
    }
}

/// One request and what becomes of it. The client keeps it alive until `onEnd`.
protocol HTTPExchange: AnyObject {
    /// The whole request: head and body.
    var message: [UInt8] { get }
    func onHead(_ head: HTTPResponseHead)
    func onBody(_ bytes: [UInt8], at now: Instant)
    /// Exactly once: nil when the answer is complete.
    func onEnd(_ failure: HTTPClientError?)
    /// All that was wanted has come, even if the answer has no end yet.
    var isSatisfied: Bool { get }
}

/// An HTTP/1.1 client for one server on one thread: as many connections as there are exchanges at
/// once, kept and used again, every wait with a deadline.
///
/// It never pipelines, and it repeats a request only where a kept connection turns out to have been
/// closed by the server before a byte of the answer came.
final class HTTPClient {
    struct Limits: Hashable, Sendable {
        var connectDeadline = Interval.seconds(30)
        /// From the start of an exchange to its end; vLLM's client has the same.
        var exchangeDeadline = Interval.seconds(6 * 3600)
        /// How long an answer may take to end once its exchange is satisfied.
        var satisfiedDeadline = Interval.seconds(2)
    }

    static let readBytesMax = 64 << 10
    /// Deadlines are looked at this often.
    static let sweepSpacing = Interval.milliseconds(50)

    let loop: EventLoop
    let authority: String
    let addresses: [SocketAddress]
    let limits: Limits
    /// Which address worked last.
    var preferredAddress = 0
    private var busy: [Int: HTTPClientConnection] = [:]
    private var idle: [HTTPClientConnection] = []
    private var nextNumber = 0
    private var isSweeping = false
    let scratch = UnsafeMutableRawBufferPointer.allocate(
        byteCount: HTTPClient.readBytesMax, alignment: 16)

    init(
        loop: EventLoop, authority: String, addresses: [SocketAddress], limits: Limits = Limits()
    ) {
        precondition(!addresses.isEmpty, "no address of \(authority)")
        self.loop = loop
        self.authority = authority
        self.addresses = addresses
        self.limits = limits
    }

    deinit {
        for connection in idle { connection.close() }
        for (_, connection) in busy { connection.close() }
        scratch.deallocate()
    }

    var exchangesUnderWay: Int { busy.count }

    /// Begins `exchange`; its `onEnd` comes later, never from within this call.
    func begin(_ exchange: any HTTPExchange) {
        let now = MonotonicClock.now()
        if let connection = idle.popLast() {
            register(connection)
            connection.begin(exchange, at: now)
        } else {
            beginAnew(exchange, at: now)
        }
        guard !isSweeping else { return }
        isSweeping = true
        scheduleSweep()
    }

    /// On a new connection; also for a request whose kept connection was dead.
    func beginAnew(_ exchange: any HTTPExchange, at start: Instant) {
        let connection = HTTPClientConnection(client: self, number: nextNumber)
        nextNumber += 1
        register(connection)
        connection.begin(exchange, at: start)
    }

    /// Ends everything without a word to the exchanges.
    func abandon() {
        for (_, connection) in busy { connection.close() }
        busy = [:]
    }

    private func register(_ connection: HTTPClientConnection) {
        busy[connection.number] = connection
    }

    /// The connection has no exchange any more.
    func release(_ connection: HTTPClientConnection, reusable: Bool) {
        busy[connection.number] = nil
        if reusable { idle.append(connection) }
    }

    /// The server closed a kept connection.
    func forget(_ connection: HTTPClientConnection) {
        idle.removeAll { $0 === connection }
    }

    private func scheduleSweep() {
        loop.schedule(after: Self.sweepSpacing) { [weak self] in self?.sweep() }
    }

    private func sweep() {
        let now = MonotonicClock.now()
        for connection in busy.values.sorted(by: { $0.number < $1.number }) {
            connection.checkDeadline(now)
        }
        isSweeping = !busy.isEmpty
        if isSweeping { scheduleSweep() }
    }
}
