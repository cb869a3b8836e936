import CLinux
import DaemonRuntime
import Glibc
import Protocol
import Testing

@testable import Gateway

/// Keeps what the server tells, and answers as the test says.
final class RecordingHandler: HTTPHandler {
    var requests: [HTTPRequest] = []
    var exchanges: [HTTPExchangeID] = []
    var hangUps: [HTTPExchangeID] = []
    var drained: [HTTPExchangeID] = []
    var answer: (HTTPRequest, HTTPExchangeID) -> Void = { _, _ in }

    func onRequest(_ request: HTTPRequest, exchange: HTTPExchangeID) {
        requests.append(request)
        exchanges.append(exchange)
        answer(request, exchange)
    }

    func onHangUp(exchange: HTTPExchangeID) { hangUps.append(exchange) }
    func onDrained(exchange: HTTPExchangeID) { drained.append(exchange) }
}

/// A server on a port of its own, and the loop that it shares with the test's clients.
final class ServerFixture {
    let loop = EventLoop()
    let handler = RecordingHandler()
    let server: HTTPServer
    let port: UInt16
    /// Belongs to the server, and is open until that stops accepting.
    let listener: Int32

    init(limits: HTTPLimits = HTTPLimits(), tls: TLSContext? = nil) {
        listener = cl_listen_tcp("127.0.0.1", 0, 128)
        precondition(listener >= 0, "errno \(cl_errno())")
        port = UInt16(cl_local_port(listener))
        server = HTTPServer(
            loop: loop, listeners: [listener], limits: limits, tls: tls, handler: handler)
    }

    /// Answers each request with its method, path and body.
    func echo() {
        handler.answer = { [unowned self] request, exchange in
            let text = "\(request.method) \(request.path) "
            server.respond(exchange, status: .ok, body: Array(text.utf8) + request.body)
        }
    }

    func connect(receiveBufferBytes: Int32? = nil) -> TestClient {
        TestClient(loop: loop, port: port, receiveBufferBytes: receiveBufferBytes)
    }

    /// The exchange of the first request for `path`.
    func exchange(of path: String) throws -> HTTPExchangeID {
        let index = try #require(handler.requests.firstIndex { $0.path == path })
        return handler.exchanges[index]
    }

    /// Turns the loop until `condition` holds; false when it does not within ten seconds.
    /// In slices: what a timer changes is seen only after the wait of its turn.
    func run(_ condition: () -> Bool) -> Bool {
        let deadline = MonotonicClock.now() + .seconds(10)
        while MonotonicClock.now() < deadline {
            if loop.run(until: MonotonicClock.now() + .milliseconds(10), condition) { return true }
        }
        return false
    }

    /// Turns the loop for that long; true, so that an expectation can go on with what must not be.
    func runFor(_ interval: Interval) -> Bool {
        !loop.run(until: MonotonicClock.now() + interval) { false }
    }

    /// Turns the loop until `condition` holds and counts the turns; nil when it does not come to
    /// hold.
    func turns(until condition: () -> Bool) -> Int? {
        let before = loop.turnCount
        let holds = loop.run(until: MonotonicClock.now() + .seconds(10), condition)
        return holds ? Int(loop.turnCount - before) : nil
    }
}

/// A raw client on the same loop: connects at once, then never blocks.
final class TestClient {
    let loop: EventLoop
    let descriptor: Int32
    private(set) var received: [UInt8] = []
    private(set) var receiveCount = 0
    /// The server ended its side, or reset the connection.
    private(set) var isEnded = false
    private var isOpen = true
    private var isWatched = false

    init(loop: EventLoop, port: UInt16, receiveBufferBytes: Int32? = nil) {
        self.loop = loop
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        if var bytes = receiveBufferBytes {
            setsockopt(
                descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        precondition(result == 0, "connect: errno \(cl_errno())")
        resumeReading()
    }

    deinit { close() }

    var text: String { String(decoding: received, as: UTF8.self) }

    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) {
        let count = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        precondition(count == bytes.count, "sent \(count) of \(bytes.count)")
    }

    func get(_ path: String = "/") { send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n") }

    func pauseReading() {
        if isWatched { loop.unwatch(descriptor) }
        isWatched = false
    }

    func resumeReading() {
        if isWatched { return }
        isWatched = true
        loop.watch(descriptor, for: .readable) { [unowned self] _ in read() }
    }

    private func read() {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        receiveCount += 1
        if count > 0 {
            received.append(contentsOf: buffer.prefix(count))
        } else {
            isEnded = true
            pauseReading()
        }
    }

    func closeSendingSide() { Glibc.shutdown(descriptor, Int32(SHUT_WR)) }

    func close() {
        if !isOpen { return }
        isOpen = false
        pauseReading()
        Glibc.close(descriptor)
    }

    /// Closes with a reset in place of a FIN.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close()
    }
}
