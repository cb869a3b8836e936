import DaemonRuntime
import Glibc
import Protocol
import Testing

@testable import Gateway

@Suite struct HTTPServerTests {
    @Test func anAnswerCarriesItsHeadersAndTheConnectionIsKept() throws {
        let fixture = ServerFixture()
        fixture.handler.answer = { _, exchange in
            fixture.server.respond(
                exchange, status: .ok, headers: ["content-type": "text/plain"],
                body: Array("hello".utf8))
        }
        let client = fixture.connect()
        for _ in 0..<3 {
            let before = client.received.count
            client.get()
            #expect(
                fixture.run { client.received.count > before && client.text.hasSuffix("hello") })
        }
        #expect(client.text.hasPrefix("HTTP/1.1 200 OK\r\nServer: phalanx\r\nDate: "))
        #expect(client.text.contains("content-type: text/plain\r\nContent-Length: 5\r\n\r\n"))
        #expect(!client.text.contains("Connection:"))
        #expect(fixture.server.openConnections == 1)
        #expect(fixture.server.openExchanges == 0)
        #expect(fixture.handler.requests[0].peer == "127.0.0.1")
    }

    @Test func datesAreFixed() {
        #expect(HTTPDate.text(secondsSince1970: 784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(HTTPDate.text(secondsSince1970: 951_782_400) == "Tue, 29 Feb 2000 00:00:00 GMT")
        #expect(HTTPDate.text(secondsSince1970: 0) == "Thu, 01 Jan 1970 00:00:00 GMT")
    }

    @Test func pipelinedRequestsAreAnsweredInOrderAndOneAtATime() {
        let fixture = ServerFixture()
        let client = fixture.connect()
        client.send(
            (0..<5).map { "GET /\($0) HTTP/1.1\r\nHost: a\r\n\r\n" }.joined())
        for index in 0..<5 {
            #expect(fixture.run { fixture.handler.requests.count == index + 1 })
            #expect(fixture.server.openExchanges == 1)
            #expect(fixture.handler.requests[index].path == "/\(index)")
            fixture.server.respond(
                fixture.handler.exchanges[index], status: .ok, body: Array("<\(index)>".utf8))
        }
        #expect(fixture.run { client.text.hasSuffix("<4>") })
        let order = client.text.split(separator: "<").dropFirst().compactMap(\.first)
        #expect(order == ["0", "1", "2", "3", "4"])
    }

    @Test func aChunkedRequestIsPutTogether() {
        let fixture = ServerFixture()
        fixture.echo()
        let client = fixture.connect()
        client.send("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab")
        #expect(fixture.run { fixture.server.openConnections == 1 })
        client.send("c\r\n2\r\nde\r\n0\r\n\r\n")
        #expect(fixture.run { client.text.hasSuffix("POST /c abcde") })
    }

    @Test func continueIsSentToAClientThatWaits() {
        let fixture = ServerFixture()
        fixture.echo()
        let client = fixture.connect()
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        #expect(fixture.run { client.text == "HTTP/1.1 100 Continue\r\n\r\n" })
        client.send("ok")
        #expect(fixture.run { client.text.hasSuffix("POST / ok") })
    }

    @Test func continueIsNotSentWhenTheBodyIsThereOrTooLong() {
        let fixture = ServerFixture()
        fixture.echo()
        let first = fixture.connect()
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        first.send("\(head)Content-Length: 2\r\n\r\nok")
        #expect(fixture.run { first.text.hasSuffix("POST / ok") })
        #expect(first.text.hasPrefix("HTTP/1.1 200 "))
        let second = fixture.connect()
        second.send("\(head)Content-Length: 999999999\r\n\r\n")
        #expect(fixture.run { second.isEnded })
        #expect(second.text.hasPrefix("HTTP/1.1 413 Content Too Large\r\n"))
    }

    @Test func headIsAnsweredWithoutABody() {
        let fixture = ServerFixture()
        fixture.echo()
        let client = fixture.connect()
        client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n")
        #expect(fixture.run { client.text.hasSuffix("GET /y ") })
        #expect(client.text.contains("Content-Length: 8\r\n\r\nHTTP/1.1 200 OK"))
    }

    @Test func headOfAStreamHasNoChunks() {
        let fixture = ServerFixture()
        fixture.handler.answer = { _, exchange in
            fixture.server.beginStream(exchange, status: .ok)
            #expect(fixture.server.write(exchange, Array("x".utf8)) == .accepted)
            fixture.server.finishStream(exchange)
        }
        let client = fixture.connect()
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasSuffix("\r\n\r\n"))
    }

    @Test func noContentHasNoLength() {
        let fixture = ServerFixture()
        fixture.handler.answer = { _, exchange in
            fixture.server.respond(exchange, status: .noContent)
        }
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { client.text.hasSuffix("\r\n\r\n") })
        #expect(!client.text.contains("Content-Length"))
    }

    @Test func aStreamIsChunkedAndOneTurnsWritesGoOutTogether() {
        let fixture = ServerFixture()
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        let exchange = fixture.handler.exchanges[0]
        fixture.server.beginStream(exchange, status: .ok)
        for index in 0..<10 {
            #expect(fixture.server.write(exchange, Array("piece \(index),".utf8)) == .accepted)
        }
        #expect(fixture.server.write(exchange, []) == .accepted)
        #expect(fixture.server.unsentBytes(of: exchange) > 100)
        #expect(fixture.run { client.text.hasSuffix("8\r\npiece 9,\r\n") })
        #expect(client.receiveCount == 1)
        #expect(client.text.contains("Transfer-Encoding: chunked\r\n\r\n8\r\npiece 0,\r\n8\r\n"))
        fixture.server.finishStream(exchange)
        #expect(fixture.run { client.text.hasSuffix("\r\n0\r\n\r\n") })
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 2 })
    }

    @Test func aStreamToVersion10EndsWithTheConnection() {
        let fixture = ServerFixture()
        fixture.handler.answer = { _, exchange in
            fixture.server.beginStream(exchange, status: .ok)
            fixture.server.write(exchange, Array("abc".utf8))
            fixture.server.write(exchange, Array("def".utf8))
            fixture.server.finishStream(exchange)
        }
        let client = fixture.connect()
        client.send("GET / HTTP/1.0\r\n\r\n")
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasSuffix("Connection: close\r\n\r\nabcdef"))
        #expect(!client.text.contains("chunked"))
    }

    enum Leaving: CaseIterable { case close, halfClose, reset }

    @Test(arguments: Leaving.allCases, [false, true])
    func aClientThatLeavesIsNoticedInOneTurn(leaving: Leaving, isStreaming: Bool) {
        let fixture = ServerFixture()
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        let exchange = fixture.handler.exchanges[0]
        if isStreaming {
            fixture.server.beginStream(exchange, status: .ok)
            #expect(fixture.run { client.text.hasSuffix("\r\n\r\n") })
        }
        // The stream is silent from here on.
        switch leaving {
        case .close: client.close()
        case .halfClose: client.closeSendingSide()
        case .reset: client.reset()
        }
        #expect(fixture.turns { fixture.handler.hangUps == [exchange] } == 1)
        #expect(fixture.server.openConnections == 0 && fixture.server.openExchanges == 0)
        #expect(fixture.server.write(exchange, [1]) == .gone)
        #expect(!fixture.server.finishStream(exchange))
    }

    @Test func aClientThatLeavesBehindUnreadRequestsIsNoticed() {
        var limits = HTTPLimits()
        limits.pipelinedBytesMax = 16
        let fixture = ServerFixture(limits: limits)
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        for _ in 0..<100 { client.get() }
        let interest = { fixture.server.connection(of: fixture.handler.exchanges[0])?.interest }
        #expect(fixture.run { interest() == EventLoop.Readiness.hangUp.rawValue })
        client.close()
        #expect(fixture.run { fixture.handler.hangUps.count == 1 })
    }

    @Test func oldExchangesDoNothing() {
        let fixture = ServerFixture()
        fixture.echo()
        let client = fixture.connect()
        client.get("/1")
        #expect(fixture.run { client.text.hasSuffix("GET /1 ") })
        let old = fixture.handler.exchanges[0]
        fixture.handler.answer = { _, _ in }
        client.get("/2")
        #expect(fixture.run { fixture.handler.exchanges.count == 2 })
        let before = client.received.count
        #expect(!fixture.server.respond(old, status: .ok))
        #expect(!fixture.server.beginStream(old, status: .ok))
        #expect(fixture.server.write(old, [1]) == .gone)
        #expect(!fixture.server.finishStream(old))
        #expect(!fixture.server.abort(old))
        fixture.server.respond(fixture.handler.exchanges[1], status: .notFound)
        #expect(fixture.run { client.received.count > before })
        #expect(client.text.contains("404 Not Found"))
        #expect(fixture.handler.hangUps.isEmpty)
    }

    @Test func aThousandConnectionsLeaveNoDescriptorBehind() {
        let fixture = ServerFixture()
        fixture.echo()
        var watermark = -1
        for index in 0..<1000 {
            let client = fixture.connect()
            client.get()
            #expect(fixture.run { client.text.hasSuffix("GET / ") })
            client.close()
            #expect(fixture.run { fixture.server.openConnections == 0 })
            if index == 0 { watermark = openDescriptors() }
        }
        // Other tests run beside this one and open descriptors of their own.
        #expect(openDescriptors() < watermark + 500)
    }

    private func openDescriptors() -> Int {
        (0..<Int32(4096)).count { fcntl($0, F_GETFD) >= 0 }
    }

    @Test func drainingClosesIdleConnectionsAtOnceAndTheOthersAfterTheirAnswers() throws {
        let fixture = ServerFixture()
        fixture.handler.answer = { request, exchange in
            if request.path == "/now" { fixture.server.respond(exchange, status: .ok) }
        }
        let idle = fixture.connect()
        idle.get("/now")
        let waiting = fixture.connect()
        waiting.get("/later")
        let streaming = fixture.connect()
        streaming.get("/stream")
        #expect(fixture.run { fixture.handler.requests.count == 3 && !idle.received.isEmpty })
        fixture.server.beginStream(try fixture.exchange(of: "/stream"), status: .ok)
        fixture.server.stopAccepting()
        #expect(fixture.run { idle.isEnded })
        #expect(fixture.server.openConnections == 2 && fixture.server.openExchanges == 2)
        fixture.server.respond(try fixture.exchange(of: "/later"), status: .ok)
        fixture.server.finishStream(try fixture.exchange(of: "/stream"))
        #expect(fixture.run { waiting.isEnded && streaming.isEnded })
        #expect(waiting.text.contains("Connection: close\r\n"))
        #expect(streaming.text.hasSuffix("0\r\n\r\n"))
        waiting.close()
        #expect(fixture.run { fixture.server.openConnections == 0 })
    }

    @Test func drainingClosesAConnectionWhoseAnswerIsNotSentYet() {
        let fixture = ServerFixture()
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        fixture.server.respond(fixture.handler.exchanges[0], status: .ok, body: [0x61])
        fixture.server.stopAccepting()
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasSuffix("\r\n\r\na"))
        #expect(fixture.server.openConnections == 0)
    }

    @Test func anAbortedStreamIsSeenAsCutShort() {
        let fixture = ServerFixture()
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        let exchange = fixture.handler.exchanges[0]
        fixture.server.beginStream(exchange, status: .ok)
        fixture.server.write(exchange, [0x61])
        #expect(fixture.run { client.text.hasSuffix("1\r\na\r\n") })
        #expect(fixture.server.abort(exchange))
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasSuffix("1\r\na\r\n"))
        #expect(fixture.handler.hangUps.isEmpty && fixture.server.openExchanges == 0)
    }

    /// As systemd hands one over: a listener that the server did not open, of any family.
    @Test func aUnixListenerIsServed() {
        let path = "/tmp/phalanx-http-\(MonotonicClock.randomUInt64())"
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let client = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer {
            Glibc.close(client)
            unlink(path)
        }
        let isConnected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, size) == 0 && listen(listener, 1) == 0
                    && fcntl(listener, F_SETFL, O_NONBLOCK) == 0 && connect(client, $0, size) == 0
            }
        }
        #expect(isConnected)
        let loop = EventLoop()
        let handler = RecordingHandler()
        let server = HTTPServer(loop: loop, listeners: [listener], handler: handler)
        let request = Array("GET /unix HTTP/1.0\r\n\r\n".utf8)
        #expect(Glibc.send(client, request, request.count, 0) == request.count)
        let deadline = MonotonicClock.now() + .seconds(10)
        #expect(loop.run(until: deadline) { !handler.exchanges.isEmpty })
        #expect(handler.requests.first?.path == "/unix" && handler.requests.first?.peer == nil)
        server.shutdown()
    }

    @Test func shutdownEndsOpenExchanges() {
        let fixture = ServerFixture()
        let client = fixture.connect()
        client.get()
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        fixture.server.shutdown()
        #expect(fixture.handler.hangUps == fixture.handler.exchanges)
        #expect(fixture.server.openConnections == 0)
        #expect(fixture.run { client.isEnded })
    }
}
