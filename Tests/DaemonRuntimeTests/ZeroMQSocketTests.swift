import CZeroMQ
import Foundation
import Protocol
import TestSupport
import Testing

@testable import DaemonRuntime

@Suite struct ZeroMQSocketTests {
    let context = ZeroMQContext()
    let loop = EventLoop()
    let kept = Kept()

    /// Sockets live as long as the test.
    final class Kept {
        var sockets: [ZeroMQSocket] = []
    }

    /// What a socket has received.
    final class Inbox {
        var messages: [(identity: [UInt8], bytes: [UInt8])] = []
        var bytes: [[UInt8]] { messages.map(\.bytes) }
    }

    func router(_ limits: SocketLimits = SocketLimits()) throws -> (ZeroMQSocket, String, Inbox) {
        let socket = try ZeroMQSocket(.router, context: context, limits: limits)
        let endpoint = try socket.bind("tcp://127.0.0.1:*")
        let inbox = Inbox()
        kept.sockets.append(socket)
        socket.attach(to: loop) { inbox.messages.append(($0, Array($1))) }
        return (socket, endpoint, inbox)
    }

    func dealer(
        _ identity: [UInt8], to endpoint: String, limits: SocketLimits = SocketLimits()
    ) throws -> (ZeroMQSocket, Inbox) {
        let socket = try ZeroMQSocket(
            .dealer(identity: identity), context: context, limits: limits)
        try socket.connect(endpoint)
        let inbox = Inbox()
        kept.sockets.append(socket)
        socket.attach(to: loop) { inbox.messages.append(($0, Array($1))) }
        return (socket, inbox)
    }

    @Test func messagesGoBothWaysInOrder() throws {
        let (router, endpoint, routerInbox) = try router()
        let (dealer, dealerInbox) = try dealer([1, 2], to: endpoint)
        #expect(!endpoint.hasSuffix("*"))
        let frames = [[], [0], Array(repeating: 7, count: 100_000)] as [[UInt8]]
        for frame in frames { #expect(dealer.send(frame) == .sent) }
        #expect(loop.run(until: deadline()) { routerInbox.messages.count == 3 })
        #expect(routerInbox.bytes == frames)
        #expect(routerInbox.messages.allSatisfy { $0.identity == [1, 2] })
        for frame in frames { #expect(router.send(frame, to: [1, 2]) == .sent) }
        #expect(loop.run(until: deadline()) { dealerInbox.messages.count == 3 })
        #expect(dealerInbox.bytes == frames)
    }

    @Test func manyMessagesTakeSeveralTurnsAndAllArrive() throws {
        var limits = SocketLimits()
        limits.messagesPerTurnMax = 3
        let (_, endpoint, inbox) = try router(limits)
        let (dealer, _) = try dealer([1], to: endpoint)
        for number in 0..<1000 {
            #expect(dealer.send([UInt8(number & 255), UInt8(number >> 8)]) == .sent)
        }
        #expect(loop.run(until: deadline()) { inbox.messages.count == 1000 })
        #expect(inbox.bytes.map { Int($0[0]) | Int($0[1]) << 8 } == Array(0..<1000))
    }

    @Test func anUnknownIdentityIsUnroutable() throws {
        let (router, _, _) = try router()
        #expect(router.send([1], to: [9, 9]) == .unroutable)
        #expect(router.send([1], to: []) == .unroutable)
    }

    @Test func aFullQueueWouldBlockAndNothingIsLost() throws {
        var limits = SocketLimits()
        limits.messagesMax = 10
        let socket = try ZeroMQSocket(.dealer(identity: [1]), context: context, limits: limits)
        // Nobody listens yet.
        let (holder, endpoint, _) = try router()
        try socket.connect(endpoint)
        var accepted = 0
        while accepted < 1_000_000, socket.send(Array(repeating: 1, count: 10_000)) == .sent {
            accepted += 1
        }
        #expect(accepted < 1_000_000, "no bound")
        #expect(accepted >= 10)
        _ = holder
    }

    @Test func aMessageOfSeveralFramesIsCountedAndDropped() throws {
        let (router, endpoint, inbox) = try router()
        let (dealer, _) = try dealer([1], to: endpoint)
        let raw = try #require(zmq_ctx_new())
        let socket = try #require(zmq_socket(raw, ZMQ_DEALER))
        defer {
            var linger: Int32 = 0
            zmq_setsockopt(socket, ZMQ_LINGER, &linger, MemoryLayout<Int32>.size)
            zmq_close(socket)
            zmq_ctx_term(raw)
        }
        #expect(zmq_connect(socket, endpoint) == 0)
        for _ in 0..<4 { zmq_send(socket, "ab", 2, ZMQ_SNDMORE) }
        zmq_send(socket, "end", 3, 0)
        #expect(loop.run(until: deadline()) { router.malformedMessages == 1 })
        #expect(dealer.send([5]) == .sent)
        #expect(loop.run(until: deadline()) { !inbox.messages.isEmpty })
        #expect(inbox.bytes == [[5]])
    }

    /// A connected TCP socket to the port of `endpoint`.
    func connectRaw(_ endpoint: String) throws -> Int32 {
        let port = try #require(endpoint.split(separator: ":").last.flatMap { UInt16($0) })
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(result == 0, "connect failed with errno \(errno)")
        return fd
    }

    @Test func bytesThatAreNoZeroMQLeaveTheSocketWorking() throws {
        let (router, endpoint, inbox) = try router()
        var random = SeededGenerator.printingSeed(of: "bytes into a bound port")
        let greeting: [UInt8] =
            [0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, 0] + Array("NULL".utf8)
            + [UInt8](repeating: 0, count: 48)
        for round in 0..<40 {
            let fd = try connectRaw(endpoint)
            let noise = random.bytes(Int.random(in: 0...600, using: &random))
            let bytes = round % 2 == 0 ? noise : greeting + noise
            send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            close(fd)
        }
        let (dealer, back) = try dealer([1], to: endpoint)
        #expect(dealer.send([5]) == .sent)
        #expect(loop.run(until: deadline()) { inbox.messages.contains { $0.bytes == [5] } })
        #expect(router.send([6], to: [1]) == .sent)
        #expect(loop.run(until: deadline()) { back.bytes == [[6]] })
    }

    @Test func aMessageAboveTheLimitDisconnectsItsSenderOnly() throws {
        var limits = SocketLimits()
        limits.messageBytesMax = 1000
        let (_, endpoint, inbox) = try router(limits)
        let (good, _) = try dealer([1], to: endpoint)
        let (bad, _) = try dealer([2], to: endpoint)
        #expect(good.send([1]) == .sent)
        #expect(bad.send([2]) == .sent)
        #expect(loop.run(until: deadline()) { inbox.messages.count == 2 })
        #expect(bad.send(Array(repeating: 9, count: 1001)) == .sent)
        #expect(good.send(Array(repeating: 3, count: 1000)) == .sent)
        #expect(loop.run(until: deadline()) { inbox.messages.count == 3 })
        #expect(inbox.bytes.last?.count == 1000)
        // It comes back by itself; a queued message may have gone down with the connection.
        #expect(
            loop.run(until: deadline()) {
                _ = bad.send([4])
                return inbox.bytes.contains([4])
            })
        #expect(!inbox.bytes.contains { $0.count > 1000 })
    }

    @Test func aPeerThatComesBackUnderItsIdentityReplacesTheOld() throws {
        let (router, endpoint, inbox) = try router()
        let (old, _) = try dealer([1], to: endpoint)
        #expect(old.send([1]) == .sent)
        #expect(loop.run(until: deadline()) { inbox.messages.count == 1 })
        let (new, newInbox) = try dealer([1], to: endpoint)
        #expect(new.send([2]) == .sent)
        #expect(loop.run(until: deadline()) { inbox.messages.count == 2 })
        #expect(router.send([3], to: [1]) == .sent)
        #expect(loop.run(until: deadline()) { newInbox.bytes == [[3]] })
    }

    /// Sending takes the edge of the descriptor: see `receiveSome`.
    @Test func aHandlerThatSendsOnAnotherSocketLosesNoWakeUp() throws {
        // No heartbeat comes to the rescue.
        var limits = SocketLimits()
        limits.heartbeatMilliseconds = 60_000
        let (quiet, quietEndpoint, quietInbox) = try router(limits)
        let peer = try ZeroMQSocket(
            .dealer(identity: [7]), context: context, limits: limits)
        try peer.connect(quietEndpoint)
        #expect(peer.send([0]) == .sent)
        #expect(loop.run(until: deadline()) { quietInbox.messages.count == 1 })
        // Attached after `quiet`, so that its drain runs later in the turn.
        let busy = try ZeroMQSocket(.router, context: context, limits: limits)
        let busyEndpoint = try busy.bind("tcp://127.0.0.1:*")
        busy.attach(to: loop) { _, _ in
            _ = peer.send([1])
            let end = MonotonicClock.now() + .milliseconds(50)
            while MonotonicClock.now() < end { _ = quiet.send([2], to: [7]) }
        }
        let sender = try ZeroMQSocket(
            .dealer(identity: [8]), context: context, limits: limits)
        try sender.connect(busyEndpoint)
        #expect(sender.send([3]) == .sent)
        let end = MonotonicClock.now() + .seconds(8)
        #expect(loop.run(until: end) { quietInbox.messages.count == 2 })
        #expect(MonotonicClock.now() < end)
    }

    @Test func aHandlerCanDetachItsSocket() throws {
        let router = try ZeroMQSocket(.router, context: context, limits: SocketLimits())
        let endpoint = try router.bind("tcp://127.0.0.1:*")
        let (dealer, _) = try dealer([1], to: endpoint)
        for _ in 0..<10 { #expect(dealer.send([1]) == .sent) }
        var count = 0
        router.attach(to: loop) { _, _ in
            count += 1
            router.detach()
        }
        #expect(loop.run(until: deadline()) { count > 0 })
        #expect(!loop.run(until: MonotonicClock.now() + .milliseconds(5)) { count > 1 })
    }

    @Test func anEndpointThatCannotBeBoundIsNamed() throws {
        let (_, endpoint, _) = try router()
        let other = try ZeroMQSocket(.router, context: context, limits: SocketLimits())
        let error = #expect(throws: TransportError.self) { try other.bind(endpoint) }
        #expect(error?.description.contains(endpoint) == true)
        #expect(throws: TransportError.self) { try other.connect("nonsense") }
    }
}
