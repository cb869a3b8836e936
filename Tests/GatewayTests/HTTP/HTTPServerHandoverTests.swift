import CLinux
import DaemonRuntime
import Glibc
import Protocol
import Testing

@testable import Gateway

/// Two servers in turn on one listening socket, as a service manager lends it to one process and
/// then to the next: no connection in between is refused or cut off.
@Suite struct HTTPServerHandoverTests {
    @Test func whoConnectsWhileOneServerDrainsIsAnsweredByTheNext() {
        let fixture = ServerFixture()
        fixture.echo()
        let successor = Glibc.dup(fixture.listener)
        fixture.server.stopAccepting()
        let client = fixture.connect()
        client.get("/later")
        #expect(fixture.runFor(.milliseconds(50)) && client.received.isEmpty && !client.isEnded)
        let handler = RecordingHandler()
        let next = HTTPServer(loop: fixture.loop, listeners: [successor], handler: handler)
        handler.answer = { _, exchange in next.respond(exchange, status: .ok) }
        #expect(fixture.run { client.text.hasPrefix("HTTP/1.1 200 OK\r\n") })
        #expect(fixture.handler.requests.isEmpty && handler.requests.map(\.path) == ["/later"])
        next.shutdown()
    }

    @Test func aServerThatIsHeldBackLeavesConnectionsInTheQueueUntilItTakesThem() {
        let fixture = ServerFixture()
        fixture.echo()
        fixture.server.holdBack()
        let client = fixture.connect()
        client.get("/early")
        #expect(fixture.runFor(.milliseconds(50)) && fixture.server.openConnections == 0)
        fixture.server.takeWaiting()
        #expect(fixture.run { client.text.hasSuffix("GET /early ") })
    }

    @Test func aConnectionThatWasAcceptedBeforeTheDrainGetsItsAnswer() {
        let fixture = ServerFixture()
        fixture.echo()
        let client = fixture.connect()
        #expect(fixture.run { fixture.server.openConnections == 1 })
        fixture.server.stopAccepting()
        #expect(fixture.server.awaitsRequests)
        client.get("/first")
        #expect(fixture.run { client.isEnded })
        #expect(client.text.contains("Connection: close\r\n"))
        #expect(client.text.hasSuffix("GET /first "))
        #expect(!fixture.server.awaitsRequests)
    }

    @Test func aConnectionThatStaysSilentDoesNotKeepTheDrainWaiting() {
        var limits = HTTPLimits()
        limits.freshDeadlineDraining = .milliseconds(50)
        let fixture = ServerFixture(limits: limits)
        let client = fixture.connect()
        #expect(fixture.run { fixture.server.openConnections == 1 })
        fixture.server.stopAccepting()
        #expect(fixture.server.awaitsRequests)
        #expect(fixture.run { client.isEnded && !fixture.server.awaitsRequests })
    }

    @Test func aBlockingListenerDoesNotHoldTheLoop() {
        let fixture = ServerFixture()
        let listener = Glibc.dup(fixture.listener)
        #expect(fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) & ~O_NONBLOCK) == 0)
        let server = HTTPServer(loop: fixture.loop, listeners: [listener])
        #expect(fcntl(listener, F_GETFL) & O_NONBLOCK != 0)
        server.shutdown()
    }
}
