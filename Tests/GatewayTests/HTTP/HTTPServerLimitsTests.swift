import DaemonRuntime
import Glibc
import Protocol
import Testing

@testable import Gateway

@Suite struct HTTPServerLimitsTests {
    @Test func tooMuchIsRefusedAndTheConnectionClosed() {
        var limits = HTTPLimits()
        limits.message.headerBytesMax = 200
        limits.message.bodyBytesMax = 10
        limits.message.targetBytesMax = 10
        let fixture = ServerFixture(limits: limits)
        let long = String(repeating: "x", count: 300)
        let post = "POST / HTTP/1.1\r\nHost: a\r\n"
        let table = [
            ("\(post)X: \(long)\r\n\r\n", "431 Request Header Fields Too Large"),
            ("GET /\(long) HTTP/1.1\r\nHost: a\r\n\r\n", "414 URI Too Long"),
            ("\(post)Content-Length: 11\r\n\r\n12345678901", "413 Content Too Large"),
            ("\(post)Transfer-Encoding: chunked\r\n\r\nb\r\n12345678901", "413 Content Too Large"),
            ("\(post)Content-Length: 1\r\nContent-Length: 2\r\n\r\nGET", "400 Bad Request"),
            (
                "\(post)Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400 Bad Request"
            ),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505 HTTP Version Not Supported"),
            ("\u{16}\u{3}\u{1}\u{2}\u{0}", "400 Bad Request"),
        ]
        for (request, status) in table {
            let client = fixture.connect()
            client.send(request)
            #expect(fixture.run { client.isEnded }, "\(request)")
            #expect(client.text.hasPrefix("HTTP/1.1 \(status)\r\n"), "\(client.text)")
            #expect(client.text.contains("Connection: close\r\n"))
            #expect(client.text.hasSuffix("}}"))
            client.close()
            #expect(fixture.run { fixture.server.openConnections == 0 })
        }
        #expect(fixture.handler.requests.isEmpty)
    }

    @Test func aRefusalFollowsTheAnswersBeforeIt() {
        let fixture = ServerFixture()
        fixture.echo()
        let client = fixture.connect()
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\nHost: a\r\n\r\n")
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasPrefix("HTTP/1.1 200 OK"))
        #expect(client.text.contains("GET /1 HTTP/1.1 400 Bad Request"))
    }

    /// A client that reads nothing: first the writes are congested, then the stream is aborted.
    @Test func aSlowReaderIsReportedThenAborted() {
        var limits = HTTPLimits()
        limits.unsentBytesLow = 1 << 10
        limits.unsentBytesHigh = 64 << 10
        limits.unsentBytesMax = 256 << 10
        let fixture = ServerFixture(limits: limits)
        let client = fixture.connect(receiveBufferBytes: 4 << 10)
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        let exchange = fixture.handler.exchanges[0]
        client.pauseReading()
        fixture.server.beginStream(exchange, status: .ok)
        let piece = [UInt8](repeating: 0x61, count: 16 << 10)
        // So that no turn waits for the client, which does nothing.
        _ = fixture.loop.addDrain { true }
        var results: [HTTPWriteResult] = []
        var turn = fixture.loop.turnCount
        let isOver = fixture.run {
            // One write a turn, however often the condition is asked for.
            guard fixture.loop.turnCount != turn else { return results.last == .gone }
            turn = fixture.loop.turnCount
            results.append(fixture.server.write(exchange, piece))
            let unsent = fixture.server.unsentBytes(of: exchange)
            #expect(unsent <= limits.unsentBytesMax)
            return results.last == .gone
        }
        #expect(isOver)
        let firstCongested = results.firstIndex(of: .congested)
        #expect(results.first == .accepted)
        #expect(firstCongested != nil)
        #expect(results[(firstCongested ?? 0)...].dropLast().allSatisfy { $0 == .congested })
        #expect(fixture.handler.hangUps.isEmpty && fixture.handler.drained.isEmpty)
        #expect(fixture.server.openConnections == 0 && fixture.server.openExchanges == 0)
    }

    @Test func aCongestedStreamIsReportedAsDrained() {
        var limits = HTTPLimits()
        limits.unsentBytesLow = 1 << 10
        limits.unsentBytesHigh = 64 << 10
        limits.unsentBytesMax = 64 << 20
        let fixture = ServerFixture(limits: limits)
        let client = fixture.connect(receiveBufferBytes: 4 << 10)
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        let exchange = fixture.handler.exchanges[0]
        fixture.server.beginStream(exchange, status: .ok)
        let body = [UInt8](repeating: 0x61, count: 6 << 20)
        #expect(fixture.server.write(exchange, body) == .congested)
        #expect(fixture.run { fixture.handler.drained == [exchange] })
        #expect(fixture.server.write(exchange, [1]) == .accepted)
        fixture.server.finishStream(exchange)
        let end = Array("\r\n1\r\n\u{1}\r\n0\r\n\r\n".utf8)
        #expect(fixture.run { client.received.suffix(end.count).elementsEqual(end) })
        #expect(Array(client.received.dropLast(end.count).suffix(body.count)) == body)
    }

    @Test func moreConnectionsThanAllowedWait() {
        var limits = HTTPLimits()
        limits.connectionsMax = 2
        let fixture = ServerFixture(limits: limits)
        fixture.echo()
        let clients = (0..<3).map { _ in fixture.connect() }
        clients[2].get("/third")
        #expect(fixture.run { fixture.server.openConnections == 2 })
        clients[0].get("/first")
        #expect(fixture.run { clients[0].text.hasSuffix("GET /first ") })
        #expect(fixture.server.openConnections == 2 && clients[2].received.isEmpty)
        clients[0].close()
        #expect(fixture.run { clients[2].text.hasSuffix("GET /third ") })
    }

    private func shortDeadlines() -> HTTPLimits {
        var limits = HTTPLimits()
        let short = Interval.milliseconds(30)
        limits.headDeadline = short
        limits.bodyDeadline = short
        limits.idleDeadline = short
        limits.lingerDeadline = short
        limits.writeStallDeadline = short
        return limits
    }

    @Test(arguments: ["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"])
    func anUnfinishedRequestTimesOut(request: String) {
        let fixture = ServerFixture(limits: shortDeadlines())
        let client = fixture.connect()
        client.send(request)
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasPrefix("HTTP/1.1 408 Request Timeout\r\n"))
        // The client does not close; the server does not wait for it for ever.
        #expect(fixture.run { fixture.server.openConnections == 0 })
    }

    @Test func silentConnectionsAreClosedWithoutAnAnswer() {
        let fixture = ServerFixture(limits: shortDeadlines())
        fixture.echo()
        let fresh = fixture.connect()
        let idle = fixture.connect()
        idle.get()
        #expect(fixture.run { fresh.isEnded && idle.isEnded })
        #expect(fresh.received.isEmpty)
        #expect(idle.text.hasSuffix("GET / "))
    }

    @Test func moreBytesDoNotMoveTheDeadlineOfAHead() {
        var limits = shortDeadlines()
        limits.headDeadline = .milliseconds(100)
        let fixture = ServerFixture(limits: limits)
        let client = fixture.connect()
        client.send("GET / HTTP/1.1\r\nX: ")
        let start = MonotonicClock.now()
        func drip() {
            if client.isEnded || MonotonicClock.now() - start > .seconds(5) { return }
            client.send("x")
            fixture.loop.schedule(after: .milliseconds(10), drip)
        }
        drip()
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasPrefix("HTTP/1.1 408 "))
        #expect(MonotonicClock.now() - start < .seconds(4))
    }

    @Test func aRequestThatWaitsHasNoDeadline() {
        let fixture = ServerFixture(limits: shortDeadlines())
        let client = fixture.connect()
        client.get()
        var waited = false
        fixture.loop.schedule(after: .milliseconds(150)) { waited = true }
        #expect(fixture.run { waited })
        #expect(fixture.server.openExchanges == 1)
        fixture.server.respond(fixture.handler.exchanges[0], status: .ok)
        #expect(fixture.run { client.text.hasPrefix("HTTP/1.1 200 OK") })
    }

    @Test func aStreamThatTheClientStoppedReadingEnds() {
        let fixture = ServerFixture(limits: shortDeadlines())
        let client = fixture.connect(receiveBufferBytes: 4 << 10)
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        client.pauseReading()
        let exchange = fixture.handler.exchanges[0]
        fixture.server.beginStream(exchange, status: .ok)
        let body = [UInt8](repeating: 0x61, count: 3 << 20)
        #expect(fixture.server.write(exchange, body) == .congested)
        #expect(fixture.run { fixture.handler.hangUps == [exchange] })
        #expect(fixture.server.openConnections == 0)
    }

    @Test func withoutAHandlerTheAnswerIs503() {
        let fixture = ServerFixture()
        fixture.server.handler = nil
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasPrefix("HTTP/1.1 503 Service Unavailable\r\n"))
    }

    @Test func handlerFieldsCannotForgeHeaders() {
        #expect(!HTTPHeaderFields.isValue("a\r\nX: b"))
        #expect(!HTTPHeaderFields.isValue("a\u{0}"))
        #expect(HTTPHeaderFields.isValue("a\tb \u{e9}"))
    }
}
