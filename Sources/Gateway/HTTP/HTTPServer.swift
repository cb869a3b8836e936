internal import CLinux
public import DaemonRuntime
internal import Glibc
internal import Protocol

/// One request and its answer. It is never used again: with an old one every call of
/// ``HTTPServer`` does nothing and says so.
public struct HTTPExchangeID: Hashable, Sendable {
    let slot: Int
    let serial: UInt64
}

/// What ``HTTPServer`` calls, on the loop's thread and never from within one of its own methods
/// other than `shutdown()`.
public protocol HTTPHandler: AnyObject {
    func onRequest(_ request: HTTPRequest, exchange: HTTPExchangeID)
    /// The client left before the answer was complete; `exchange` is over.
    func onHangUp(exchange: HTTPExchangeID)
    /// After a write was `congested`: most of the bytes have been taken by the client.
    func onDrained(exchange: HTTPExchangeID)
}

/// An HTTP/1.1 server on a daemon's loop (RFC 9112), plain or with TLS.
///
/// A client that leaves is noticed at once, also while its request waits or its stream is silent;
/// a half-closed connection counts as left. What is written during one turn of the loop is sent
/// with one call. Nothing here blocks, and what one client can make the server hold is bounded by
/// ``HTTPLimits``. HTTP/2 and caching belong to a proxy in front.
public final class HTTPServer {
    /// Holds the server's answers to it; the server does not keep it alive. Without a handler
    /// requests are answered with 503.
    public weak var handler: (any HTTPHandler)?

    let loop: EventLoop
    let limits: HTTPLimits
    private(set) var tls: TLSContext?
    private var listeners: [Int32]
    private var isAcceptingPaused = false
    private var isHeldBack = false
    private(set) var isDraining = false

    private var slots: [HTTPConnection?] = []
    private var freeSlots: [Int] = []
    private var nextSerial: UInt64 = 1
    /// Connections with something to send; sent together at the start of the next turn.
    private var dirty: [HTTPConnection] = []
    private var sweepAt: Instant?
    let scratch = UnsafeMutableRawBufferPointer.allocate(
        byteCount: HTTPLimits.readBytesPerTurnMax, alignment: 16)
    private var date: (second: Int64, text: String) = (-1, "")

    public private(set) var openConnections = 0
    /// Requests that were handed over and whose answers are not complete.
    public internal(set) var openExchanges = 0

    /// - Parameter listeners: listening sockets, TCP or Unix, own or inherited. The server makes
    ///   them non-blocking, and closes them when it stops accepting.
    public init(
        loop: EventLoop, listeners: [Int32], limits: HTTPLimits = HTTPLimits(),
        tls: TLSContext? = nil, handler: (any HTTPHandler)? = nil
    ) {
        limits.check()
        self.loop = loop
        self.listeners = listeners
        self.limits = limits
        self.tls = tls
        self.handler = handler
        for listener in listeners {
            // A service manager hands them over blocking, and the last accept of a turn would wait.
            let flags = fcntl(listener, F_GETFL)
            _ = fcntl(listener, F_SETFL, flags | O_NONBLOCK)
            loop.watch(listener, for: .readable) { [weak self] _ in self?.onAcceptable(listener) }
        }
    }

    deinit {
        for listener in listeners { release(listener) }
        for case .some(let connection) in slots { release(connection.descriptor) }
        scratch.deallocate()
    }

    private func release(_ descriptor: Int32) {
        loop.unwatch(descriptor)
        Glibc.close(descriptor)
    }

    /// For connections that come; those that stand keep what they began with.
    func adopt(_ tls: TLSContext?) { self.tls = tls }

    // MARK: Draining

    /// Closes the listeners and the idle connections; the others are closed after their answers,
    /// those on which no request has begun after ``HTTPLimits/freshDeadlineDraining``.
    public func stopAccepting() {
        for listener in listeners { release(listener) }
        listeners = []
        isDraining = true
        closeIdle()
        for case .some(let connection) in slots
        where connection.phase == .reading && connection.stage == .fresh {
            setDeadline(connection, after: limits.freshDeadlineDraining)
        }
    }

    /// Whether a connection may still bring a request, or has not got all of its answer.
    public var awaitsRequests: Bool {
        slots.contains { connection in
            switch connection?.phase {
            case .handshaking, .reading, .answering, .finishing: true
            case .lingering, .closed, nil: false
            }
        }
    }

    /// Closes the connections on which no request is under way and one has been.
    public func closeIdle() {
        for case .some(let connection) in slots
        where connection.phase == .reading && connection.stage == .idle
            && connection.parser.isIdle && connection.input.isEmpty && connection.unsentBytes == 0
        {
            close(connection)
        }
    }

    /// Closes everything at once; exchanges that are open end with `onHangUp`.
    public func shutdown() {
        stopAccepting()
        for case .some(let connection) in slots { hangUp(connection) }
    }

    // MARK: Accepting

    /// Leaves new connections in the listeners' queues until ``takeWaiting()``.
    public func holdBack() {
        isHeldBack = true
        for listener in listeners { loop.changeInterest(of: listener, to: []) }
    }

    public func takeWaiting() {
        guard isHeldBack else { return }
        isHeldBack = false
        isAcceptingPaused = true
        resumeAccepting()
    }

    private func onAcceptable(_ listener: Int32) {
        for _ in 0..<HTTPLimits.acceptsPerTurnMax {
            guard listeners.contains(listener) else { return }
            guard openConnections < limits.connectionsMax else {
                pauseAccepting()
                return
            }
            let descriptor = cl_accept(listener)
            if descriptor >= 0 {
                open(descriptor)
                continue
            }
            switch errno {
            case EAGAIN:
                return
            case EMFILE, ENFILE, ENOBUFS, ENOMEM:
                // The listener stays readable: without a pause the loop would spin.
                pauseAccepting()
                loop.schedule(after: HTTPLimits.acceptRetry) { [weak self] in
                    self?.resumeAccepting()
                }
                return
            default:
                continue  // An error of the connection that was to be accepted: accept(2).
            }
        }
    }

    private func pauseAccepting() {
        isAcceptingPaused = true
        for listener in listeners { loop.changeInterest(of: listener, to: []) }
    }

    private func resumeAccepting() {
        guard isAcceptingPaused, !isHeldBack else { return }
        guard openConnections < limits.connectionsMax else { return }
        isAcceptingPaused = false
        for listener in listeners { loop.changeInterest(of: listener, to: .readable) }
    }

    private func open(_ descriptor: Int32) {
        _ = cl_set_nodelay(descriptor)  // Fails on a Unix domain socket, which needs none.
        var session: TLSSession?
        if let tls {
            session = TLSSession(tls)
            if session == nil {
                Glibc.close(descriptor)
                return
            }
        }
        let slot = freeSlots.popLast() ?? slots.count
        if slot == slots.count { slots.append(nil) }
        let connection = HTTPConnection(
            descriptor: descriptor, slot: slot, peer: peerAddress(of: descriptor), tls: session,
            limits: limits.message)
        slots[slot] = connection
        openConnections += 1
        let interest: EventLoop.Readiness = [.readable, .hangUp]
        connection.interest = interest.rawValue
        loop.watch(descriptor, for: interest) { [weak self, weak connection] readiness in
            guard let self, let connection else { return }
            self.onReady(connection, readiness)
        }
        let wait = session == nil ? limits.headDeadline : limits.handshakeDeadline
        setDeadline(connection, after: wait)
    }

    // MARK: Closing

    /// Ends the connection, and its exchange if there is one.
    func hangUp(_ connection: HTTPConnection) {
        let exchange = takeExchange(of: connection)
        close(connection)
        if let exchange { handler?.onHangUp(exchange: exchange) }
    }

    /// Ends the connection with a reset: the client sees that its answer is not complete, and the
    /// kernel drops what the client did not take.
    func closeAbruptly(_ connection: HTTPConnection) {
        if connection.phase == .closed { return }
        var option = linger(l_onoff: 1, l_linger: 0)
        // Without effect on a Unix domain socket, whose close is enough.
        _ = setsockopt(
            connection.descriptor, SOL_SOCKET, SO_LINGER, &option,
            socklen_t(MemoryLayout<linger>.size))
        close(connection)
    }

    func close(_ connection: HTTPConnection) {
        if connection.phase == .closed { return }
        connection.phase = .closed
        release(connection.descriptor)
        slots[connection.slot] = nil
        freeSlots.append(connection.slot)
        openConnections -= 1
        resumeAccepting()
    }

    // MARK: Exchanges

    func beginExchange(on connection: HTTPConnection) -> HTTPExchangeID {
        precondition(connection.serial == 0, "exchange \(connection.serial) is not over")
        connection.serial = nextSerial
        nextSerial += 1
        openExchanges += 1
        return HTTPExchangeID(slot: connection.slot, serial: connection.serial)
    }

    /// The connection whose current exchange this is.
    func connection(of exchange: HTTPExchangeID) -> HTTPConnection? {
        guard slots.indices.contains(exchange.slot), let connection = slots[exchange.slot],
            connection.serial == exchange.serial
        else { return nil }
        return connection
    }

    /// Ends the exchange; nil when there is none.
    @discardableResult
    func takeExchange(of connection: HTTPConnection) -> HTTPExchangeID? {
        if connection.serial == 0 { return nil }
        let exchange = HTTPExchangeID(slot: connection.slot, serial: connection.serial)
        connection.serial = 0
        connection.stream = .none
        connection.isCongested = false
        openExchanges -= 1
        return exchange
    }

    // MARK: Turns

    /// Sends what the connection was given, with all others, at the start of the next turn.
    func markDirty(_ connection: HTTPConnection) {
        if connection.isDirty { return }
        connection.isDirty = true
        dirty.append(connection)
        guard dirty.count == 1 else { return }
        // A timer that is overdue, and not a drain: it runs whichever part of the turn wrote.
        loop.schedule(at: Instant(nanoseconds: 0)) { [weak self] in self?.flushDirty() }
    }

    private func flushDirty() {
        let connections = dirty
        dirty.removeAll(keepingCapacity: true)
        for connection in connections {
            connection.isDirty = false
            flush(connection)
        }
    }

    // MARK: Deadlines

    func setDeadline(_ connection: HTTPConnection, after interval: Interval?) {
        guard let interval else {
            connection.deadline = nil
            return
        }
        let deadline = MonotonicClock.now() + interval
        connection.deadline = deadline
        sweep(by: deadline)
    }

    func setStallDeadline(_ connection: HTTPConnection) {
        let deadline = MonotonicClock.now() + limits.writeStallDeadline
        connection.stallDeadline = deadline
        sweep(by: deadline)
    }

    /// One timer for all connections: most deadlines are moved long before they come.
    private func sweep(by instant: Instant) {
        if let sweepAt, sweepAt <= instant { return }
        sweepAt = instant
        loop.schedule(at: instant) { [weak self] in self?.sweep() }
    }

    private func sweep() {
        let now = MonotonicClock.now()
        // A timer that an earlier one has replaced.
        guard let due = sweepAt, due <= now else { return }
        sweepAt = nil
        var next: Instant?
        for case .some(let connection) in slots {
            if let stall = connection.stallDeadline, stall <= now {
                hangUp(connection)
            } else if let deadline = connection.deadline, deadline <= now {
                onDeadline(connection)
            }
            if connection.phase == .closed { continue }
            for case .some(let instant) in [connection.deadline, connection.stallDeadline] {
                next = min(next ?? instant, instant)
            }
        }
        if let next { sweep(by: max(next, now + HTTPLimits.sweepSpacing)) }
    }

    /// Formatted once a second.
    func dateText() -> String {
        let second = MonotonicClock.wallMicroseconds() / 1_000_000
        if date.second != second {
            date = (second, HTTPDate.text(secondsSince1970: max(second, 0)))
        }
        return date.text
    }
}
