import CLinux
import DaemonRuntime
import Glibc
import Protocol
import Testing

@testable import Bench

/// Answers each connection with what is next in line, and closes it.
private final class RawServer {
    let loop: EventLoop
    let listener: Int32
    private var answers: [String]
    private var open: [Int32] = []
    private(set) var accepted = 0

    init(loop: EventLoop, answers: [String]) {
        self.loop = loop
        self.answers = answers
        listener = cl_listen_tcp("127.0.0.1", 0, 16)
        precondition(listener >= 0, "errno \(cl_errno())")
        loop.watch(listener, for: .readable) { [unowned self] _ in accept() }
    }

    deinit {
        for descriptor in open + [listener] {
            loop.unwatch(descriptor)
            close(descriptor)
        }
    }

    private func accept() {
        let descriptor = cl_accept(listener)
        guard descriptor >= 0 else { return }
        accepted += 1
        open.append(descriptor)
        loop.watch(descriptor, for: .readable) { [unowned self] _ in
            var request = [UInt8](repeating: 0, count: 4096)
            guard recv(descriptor, &request, request.count, Int32(MSG_DONTWAIT)) > 0 else { return }
            if !answers.isEmpty {
                let answer = Array(answers.removeFirst().utf8)
                send(descriptor, answer, answer.count, Int32(MSG_NOSIGNAL))
            }
            loop.unwatch(descriptor)
            open.removeAll { $0 == descriptor }
            close(descriptor)
        }
    }
}

private final class Recorder: HTTPExchange {
    let message = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    var isSatisfied = false
    private(set) var body = ""
    private(set) var ends: [HTTPClientError?] = []
    var then: () -> Void = {}

    func onHead(_ head: HTTPResponseHead) {}
    func onBody(_ bytes: [UInt8], at now: Instant) {
        body += String(decoding: bytes, as: UTF8.self)
    }
    func onEnd(_ failure: HTTPClientError?) {
        ends.append(failure)
        then()
    }
}

@Suite struct HTTPClientTests {
    private static func client(
        _ server: RawServer, addresses: [SocketAddress]? = nil,
        _ limits: HTTPClient.Limits = HTTPClient.Limits()
    ) throws -> HTTPClient {
        let port = UInt16(cl_local_port(server.listener))
        return HTTPClient(
            loop: server.loop, authority: "a:1",
            addresses: try addresses ?? SocketAddress.resolve("127.0.0.1", port: port),
            limits: limits)
    }

    private static func run(_ loop: EventLoop, _ condition: () -> Bool) -> Bool {
        let deadline = MonotonicClock.now() + .seconds(10)
        while MonotonicClock.now() < deadline {
            if loop.run(until: MonotonicClock.now() + .milliseconds(10), condition) { return true }
        }
        return false
    }

    static let one = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"
    static let two = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo"

    /// The server closes a connection that it had promised to keep, while the next request is
    /// written to it: the request goes over a new one.
    @Test func aKeptConnectionThatIsDeadIsNoFailure() throws {
        let loop = EventLoop()
        let server = RawServer(loop: loop, answers: [Self.one, Self.two])
        let client = try Self.client(server)
        let first = Recorder()
        let second = Recorder()
        first.then = { client.begin(second) }
        client.begin(first)
        #expect(Self.run(loop) { !second.ends.isEmpty })
        #expect(first.body == "one" && first.ends == [nil])
        #expect(second.body == "two" && second.ends == [nil])
        #expect(server.accepted == 2)
    }

    @Test func aNewConnectionThatIsClosedIsAFailure() throws {
        let loop = EventLoop()
        let server = RawServer(loop: loop, answers: [])
        let client = try Self.client(server)
        let exchange = Recorder()
        client.begin(exchange)
        #expect(Self.run(loop) { !exchange.ends.isEmpty })
        #expect(exchange.ends.count == 1)
        #expect(exchange.ends.first != .some(nil))
        #expect(server.accepted == 1)
        #expect(client.exchangesUnderWay == 0)
    }

    /// Nobody listens at the first address.
    @Test func theNextAddressIsTried() throws {
        let loop = EventLoop()
        let free = cl_listen_tcp("127.0.0.1", 0, 1)
        let freePort = UInt16(cl_local_port(free))
        close(free)
        let server = RawServer(loop: loop, answers: [Self.one, Self.two])
        let port = UInt16(cl_local_port(server.listener))
        let dead = try SocketAddress.resolve("127.0.0.1", port: freePort)
        let live = try SocketAddress.resolve("127.0.0.1", port: port)
        let client = try Self.client(server, addresses: dead + live)
        for expected in ["one", "two"] {
            let exchange = Recorder()
            client.begin(exchange)
            #expect(Self.run(loop) { !exchange.ends.isEmpty })
            #expect(exchange.body == expected)
        }
        #expect(client.preferredAddress == 1)
    }

    /// An answer without end whose exchange has all that it wants is complete.
    @Test func aSatisfiedExchangeDoesNotWaitForTheEnd() throws {
        let loop = EventLoop()
        let listener = cl_listen_tcp("127.0.0.1", 0, 1)
        let port = UInt16(cl_local_port(listener))
        var limits = HTTPClient.Limits()
        limits.satisfiedDeadline = .milliseconds(20)
        let client = HTTPClient(
            loop: loop, authority: "a:1",
            addresses: try SocketAddress.resolve("127.0.0.1", port: port), limits: limits)
        let exchange = Recorder()
        exchange.isSatisfied = true
        client.begin(exchange)
        let peer = cl_accept(listener)
        defer {
            close(peer)
            close(listener)
        }
        let head = Array("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".utf8)
        #expect(send(peer, head, head.count, Int32(MSG_NOSIGNAL)) == head.count)
        #expect(Self.run(loop) { !exchange.ends.isEmpty })
        #expect(exchange.ends == [nil])
        #expect(exchange.body == "abc")
    }

    /// 192.0.2.0/24 is for documentation (RFC 5737): no answer, or a refusal on the way.
    @Test func aHostThatDoesNotAnswerIsAFailureInTime() throws {
        let loop = EventLoop()
        var limits = HTTPClient.Limits()
        limits.connectDeadline = .milliseconds(50)
        let client = HTTPClient(
            loop: loop, authority: "a:1",
            addresses: try SocketAddress.resolve("192.0.2.1", port: 9), limits: limits)
        let exchange = Recorder()
        client.begin(exchange)
        #expect(Self.run(loop) { !exchange.ends.isEmpty })
        let failure = exchange.ends.first ?? nil
        #expect(failure?.description.hasPrefix("cannot connect to a:1: ") == true)
    }

    @Test func anUnknownHostIsAnError() {
        #expect(throws: BenchError.self) {
            try SocketAddress.resolve("no such host", port: 1)
        }
    }
}
