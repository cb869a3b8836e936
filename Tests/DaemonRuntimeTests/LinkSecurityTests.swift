import Foundation
import Protocol
import Testing

@testable import DaemonRuntime

/// Who may talk to a socket, with real sockets and real keys.
@Suite final class LinkSecurityTests {
    let context = ZeroMQContext()
    let loop = EventLoop()
    let logger = Logger(daemon: "test", threshold: .error)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
        "phalanx-keys-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    ).path
    var sockets: [ZeroMQSocket] = []
    /// It must live as long as the sockets.
    var authenticators: [LinkAuthenticator] = []
    var received: [[UInt8]] = []

    init() throws {
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for role in KeyRole.allCases { try write(role, CurveKeyPair.generate()) }
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    func write(_ role: KeyRole, _ pair: CurveKeyPair) throws {
        try put("\(role.rawValue).secret", pair.secretKey + "\n", mode: 0o600)
        try put("\(role.rawValue).public", "# the \(role)\n\(pair.publicKey)\n")
    }

    func put(_ name: String, _ text: String, mode: Int = 0o644) throws {
        try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes(
            [.posixPermissions: mode], ofItemAtPath: "\(folder)/\(name)")
    }

    func ring(_ role: KeyRole, _ peers: [KeyRole]) throws -> KeyRing {
        try KeyRing(folder: folder, role: role, peers: peers)
    }

    /// A server that lets workers and gateways in.
    func server() throws -> (authenticator: LinkAuthenticator, endpoint: String) {
        let ring = try ring(.coordinator, [.worker, .gateway])
        let authenticator = try LinkAuthenticator(
            ring: ring, roles: ["control": [.worker, .gateway]], context: context, loop: loop,
            logger: logger)
        authenticators.append(authenticator)
        let socket = try ZeroMQSocket(
            .router, context: context, limits: SocketLimits(),
            security: .server(ring, domain: "control"))
        let endpoint = try socket.bind("tcp://127.0.0.1:*")
        socket.attach(to: loop) { [unowned self] in
            received.append(Array($1))
            #expect(self.sockets[0].send([9], to: $0) == .sent)
        }
        sockets.append(socket)
        return (authenticator, endpoint)
    }

    /// What comes back to a client that says something; nil when nothing does.
    func answer(
        to identity: [UInt8], _ security: SocketSecurity, _ endpoint: String,
        within milliseconds: Int = 3000, unless isOver: () -> Bool = { false }
    ) throws -> [UInt8]? {
        let socket = try ZeroMQSocket(
            .dealer(identity: identity), context: context, limits: SocketLimits(),
            security: security)
        try socket.connect(endpoint)
        var answer: [UInt8]?
        socket.attach(to: loop) { answer = Array($1) }
        defer { socket.detach() }
        #expect(socket.send([identity[0], 7]) == .sent)
        _ = loop.run(until: MonotonicClock.now() + .milliseconds(milliseconds)) {
            answer != nil || isOver()
        }
        return answer
    }

    @Test func peersWithTheirKeysAreHeard() throws {
        let (authenticator, endpoint) = try server()
        let worker = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        let gateway = SocketSecurity.client(
            try ring(.gateway, [.coordinator]), server: .coordinator)
        #expect(try answer(to: [1, 5], worker, endpoint) == [9])
        #expect(try answer(to: [2, 5], gateway, endpoint) == [9])
        #expect(received == [[1, 7], [2, 7]])
        #expect(authenticator.refusals == 0)
    }

    @Test func foreignKeysAreRefusedAndCounted() throws {
        let (authenticator, endpoint) = try server()
        let serverRing = try ring(.worker, [.coordinator])
        // A stranger who knows the server's public key, and an operator whom this socket does not
        // expect.
        try write(.worker, CurveKeyPair.generate())
        let stranger = try ring(.worker, [.coordinator])
        #expect(serverRing != stranger)
        let security = SocketSecurity.client(stranger, server: .coordinator)
        let ofStranger = try answer(to: [1, 5], security, endpoint, within: 20_000) {
            authenticator.refusals > 0
        }
        #expect(ofStranger == nil && authenticator.refusals >= 1)
        let known = authenticator.refusals
        let other = SocketSecurity.client(
            try ring(.operator, [.coordinator]), server: .coordinator)
        let ofOperator = try answer(to: [3, 5], other, endpoint, within: 20_000) {
            authenticator.refusals > known
        }
        #expect(ofOperator == nil && authenticator.refusals > known)
        #expect(received.isEmpty)
    }

    @Test func plaintextAndKeysDoNotMix() throws {
        let (_, endpoint) = try server()
        #expect(try answer(to: [1, 5], .plaintext, endpoint, within: 500) == nil)
        let plain = try ZeroMQSocket(.router, context: context, limits: SocketLimits())
        let plainEndpoint = try plain.bind("tcp://127.0.0.1:*")
        plain.attach(to: loop) { [unowned self] in received.append(Array($1)) }
        sockets.append(plain)
        let security = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        #expect(try answer(to: [1, 6], security, plainEndpoint, within: 500) == nil)
        #expect(received.isEmpty)
    }

    /// A client that has a coordinator's address from somewhere talks to no other server.
    @Test func aServerWithAnotherKeyIsNotTalkedTo() throws {
        let (_, endpoint) = try server()
        try write(.coordinator, CurveKeyPair.generate())
        let security = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        #expect(try answer(to: [1, 5], security, endpoint, within: 500) == nil)
        #expect(received.isEmpty)
    }

    @Test func aRoleCannotPassForAnother() throws {
        let (_, endpoint) = try server()
        let gateway = SocketSecurity.client(
            try ring(.gateway, [.coordinator]), server: .coordinator)
        let impostor = try ZeroMQSocket(
            .dealer(identity: [1, 5]), context: context, limits: SocketLimits(), security: gateway)
        try impostor.connect(endpoint)
        #expect(impostor.send([7]) == .sent)
        let isCounted = loop.run(until: MonotonicClock.now() + .seconds(30)) { [unowned self] in
            sockets[0].foreignMessages == 1
        }
        #expect(isCounted && received.isEmpty)
    }

    /// Keys are changed by adding the new one first.
    @Test func everyKeyOfARoleIsAccepted() throws {
        let (old, new) = (CurveKeyPair.generate(), CurveKeyPair.generate())
        try put(
            "worker.public",
            "\(new.publicKey)\n\n# until the last worker is new\n\(old.publicKey)\n")
        let (authenticator, endpoint) = try server()
        for (number, pair) in [old, new].enumerated() {
            try put("worker.secret", pair.secretKey, mode: 0o600)
            let security = SocketSecurity.client(
                try ring(.worker, [.coordinator]), server: .coordinator)
            #expect(try answer(to: [1, UInt8(number)], security, endpoint) == [9])
        }
        #expect(authenticator.refusals == 0)
    }

    /// Whichever of the keys the server has: it may be restarted before its clients or after them.
    @Test(arguments: [0, 1, 2])
    func aClientTriesEveryKeyOfAServer(place: Int) throws {
        let (_, endpoint) = try server()
        let own = try ring(.coordinator, [.worker]).own.publicKey
        var keys = (0..<2).map { _ in CurveKeyPair.generate().publicKey }
        keys.insert(own, at: place)
        try put("coordinator.public", keys.joined(separator: "\n"))
        let security = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        #expect(try isHeard([1, 5], security, endpoint))
    }

    /// Says something until it is answered: what waits for a connection is lost with it.
    func isHeard(
        _ identity: [UInt8], _ security: SocketSecurity, _ endpoint: String,
        _ limits: SocketLimits = SocketLimits()
    ) throws -> Bool {
        let socket = try ZeroMQSocket(
            .dealer(identity: identity), context: context, limits: limits, security: security)
        try socket.connect(endpoint)
        var isAnswered = false
        socket.attach(to: loop) { _, _ in isAnswered = true }
        defer { socket.detach() }
        return repeating({ _ = socket.send([identity[0], 7]) }, until: { isAnswered })
    }

    /// Sends every 20 ms until it has come about.
    func repeating(_ send: @escaping () -> Void, until isDone: () -> Bool) -> Bool {
        var isOver = false
        func again() {
            if isOver { return }
            send()
            loop.schedule(after: .milliseconds(20)) { again() }
        }
        again()
        defer { isOver = true }
        return loop.run(until: deadline(), isDone)
    }

    /// A link of a gateway to a leader is one connection, and its handshake may take several.
    @Test func aLinkThatNeverReconnectsTriesEveryKeyToo() throws {
        let (_, endpoint) = try server()
        let own = try ring(.coordinator, [.worker]).own.publicKey
        try put("coordinator.public", "\(CurveKeyPair.generate().publicKey)\n\(own)\n")
        var limits = SocketLimits()
        limits.reconnectMilliseconds = SocketLimits.neverReconnect
        let security = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        #expect(try isHeard([1, 5], security, endpoint, limits))
        #expect(sockets[0].failedHandshakes == 1)
    }

    /// A server that comes back with another key, as after a rotation, is found again.
    @Test func aConnectedClientFollowsTheServersKey() throws {
        let (old, new) = (
            try ring(.coordinator, []).own, CurveKeyPair.generate()
        )
        try put("coordinator.public", "\(new.publicKey)\n\(old.publicKey)\n")
        let client = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        let authenticator = try LinkAuthenticator(
            ring: try ring(.coordinator, [.worker]), roles: ["control": [.worker]],
            context: context, loop: loop, logger: logger)
        func bind(_ endpoint: String) throws -> (ZeroMQSocket, String) {
            let socket = try ZeroMQSocket(
                .router, context: context, limits: SocketLimits(),
                security: .server(try ring(.coordinator, [.worker]), domain: "control"))
            let bound = try socket.bind(endpoint)
            socket.attach(to: loop) { [unowned self] in received.append(Array($1)) }
            return (socket, bound)
        }
        var (server, endpoint) = try bind("tcp://127.0.0.1:*")
        let dealer = try ZeroMQSocket(
            .dealer(identity: [1, 5]), context: context, limits: SocketLimits(), security: client)
        try dealer.connect(endpoint)
        dealer.attach(to: loop) { _, _ in }
        func isHeard(_ byte: UInt8) -> Bool {
            repeating({ _ = dealer.send([byte]) }, until: { received.contains([byte]) })
        }
        #expect(isHeard(1))
        server.detach()
        try write(.coordinator, new)
        // A second socket in the place of the first, once libzmq has closed that.
        server = try ZeroMQSocket(.router, context: context, limits: SocketLimits())
        var successor: ZeroMQSocket?
        #expect(
            repeating(
                { successor = successor ?? (try? bind(endpoint))?.0 },
                until: { successor != nil }))
        #expect(isHeard(2))
        #expect(authenticator.refusals == 0)
        successor?.detach()
        dealer.detach()
    }

    // MARK: Other keys while a process runs

    @Test func newKeysAreAcceptedAtOnceAndDeletedOnesNoMore() throws {
        let (authenticator, endpoint) = try server()
        let (old, new) = (try ring(.worker, []).own, CurveKeyPair.generate())
        let oldSecurity = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        let connected = try ZeroMQSocket(
            .dealer(identity: [1, 9]), context: context, limits: SocketLimits(),
            security: oldSecurity)
        try connected.connect(endpoint)
        #expect(connected.send([1]) == .sent)
        #expect(loop.run(until: deadline()) { self.received == [[1]] })
        func adopt(_ keys: [CurveKeyPair]) throws {
            try put("worker.public", keys.map(\.publicKey).joined(separator: "\n"))
            let ring = try ring(.coordinator, [.worker, .gateway])
            authenticator.adopt(.keys(ring))
            sockets[0].adopt(.server(ring, domain: "control"))
        }
        try put("worker.secret", new.secretKey, mode: 0o600)
        let newSecurity = SocketSecurity.client(
            try ring(.worker, [.coordinator]), server: .coordinator)
        #expect(try answer(to: [1, 6], newSecurity, endpoint, within: 500) == nil)
        #expect(authenticator.refusals > 0)
        try adopt([new, old])
        #expect(try answer(to: [1, 6], newSecurity, endpoint, within: 30_000) == [9])
        #expect(connected.send([2]) == .sent)
        #expect(loop.run(until: deadline()) { self.received.contains([2]) })
        // The connection of the deleted key still stands, but nobody listens to it.
        try adopt([new])
        #expect(connected.send([3]) == .sent)
        #expect(loop.run(until: deadline()) { self.sockets[0].foreignMessages == 1 })
        #expect(!received.contains([3]))
        let refused = authenticator.refusals
        #expect(try answer(to: [1, 4], oldSecurity, endpoint, within: 500) == nil)
        #expect(authenticator.refusals > refused)
    }

    /// A client that is refused has its new key with the next handshake.
    @Test func aClientComesWithItsNewKey() throws {
        let (_, endpoint) = try server()
        let new = try ring(.worker, []).own
        try write(.worker, CurveKeyPair.generate())
        func security() throws -> SocketSecurity {
            .client(try ring(.worker, [.coordinator]), server: .coordinator)
        }
        let client = try ZeroMQSocket(
            .dealer(identity: [1, 5]), context: context, limits: SocketLimits(),
            security: try security())
        try client.connect(endpoint)
        client.attach(to: loop) { _, _ in }
        var failures: [HandshakeFailure] = []
        client.onHandshakeFailure = { failures.append($0) }
        #expect(loop.run(until: deadline()) { !failures.isEmpty })
        #expect(Set(failures) == [.keyRefused])
        try write(.worker, new)
        client.adopt(try security())
        #expect(repeating({ _ = client.send([4]) }, until: { self.received.contains([4]) }))
        client.detach()
    }

    @Test func handshakesThatFailAreCountedWithTheirReasons() throws {
        let (_, endpoint) = try server()
        var reasons: Set<HandshakeFailure> = []
        sockets[0].onHandshakeFailure = { reasons.insert($0) }
        #expect(try answer(to: [1, 5], .plaintext, endpoint, within: 300) == nil)
        #expect(loop.run(until: deadline()) { reasons.contains(.otherMechanism) })
        try write(.coordinator, CurveKeyPair.generate())
        let lost = SocketSecurity.client(try ring(.worker, [.coordinator]), server: .coordinator)
        #expect(try answer(to: [1, 5], lost, endpoint, within: 300) == nil)
        #expect(loop.run(until: deadline()) { reasons.contains(.otherServerKey) })
        #expect(sockets[0].failedHandshakes >= 2)
    }

    func deadline() -> Instant { MonotonicClock.now() + .seconds(30) }

    @Test func whatIsWrongWithAFolderIsSaid() throws {
        func message(_ role: KeyRole = .worker, _ peers: [KeyRole] = [.coordinator]) -> String {
            do {
                _ = try ring(role, peers)
                return ""
            } catch { return "\(error)" }
        }
        #expect(message() == "")
        try put("worker.secret", CurveKeyPair.generate().secretKey, mode: 0o640)
        #expect(message().contains("worker.secret can be read by others"))
        try put("worker.secret", "short", mode: 0o600)
        #expect(message().contains("worker.secret does not hold keys"))
        try put("worker.secret", String(repeating: "~", count: 40), mode: 0o600)
        #expect(message().contains("worker.secret does not hold keys"))
        try write(.worker, CurveKeyPair.generate())
        try put("coordinator.public", "# nothing\n")
        #expect(message().contains("coordinator.public does not hold keys"))
        try FileManager.default.removeItem(atPath: folder + "/coordinator.public")
        #expect(message().contains("coordinator.public is missing"))
        try FileManager.default.removeItem(atPath: folder + "/worker.secret")
        #expect(message().contains("worker.secret is missing"))
    }

    /// Where others listen is told by the coordinator, and no option of this process.
    @Test(arguments: [
        ("tcp://10.0.0.2:4000", false), ("tcp://[fe80::1]:4000", false),
        ("tcp://127.0.0.2:1", true), ("tcp://[::1]:4000", true), ("tcp://localhost:4000", true),
        ("ipc:///tmp/socket", false),
    ])
    func linksToOtherHostsNeedKeysOrAChoice(endpoint: String, isFine: Bool) throws {
        #expect((LinkSecurity.plaintext.problem(connectingTo: endpoint) == nil) == isFine)
        #expect(LinkSecurity.plaintextAcrossHosts.problem(connectingTo: endpoint) == nil)
        let keys = LinkSecurity.keys(try ring(.gateway, [.worker]))
        #expect(keys.problem(connectingTo: endpoint) == nil)
    }

    @Test(arguments: [
        (["--data-parallel-address", "10.0.0.1"], "links leave this host"),
        (["--data-parallel-address", "10.0.0.1", "--plaintext-links"], ""),
        (["--data-parallel-address", "127.0.0.9"], ""),
        (["--data-parallel-address", "localhost"], ""),
        (["--data-parallel-address", "127.example.org"], "links leave this host"),
        (["--keys", "/nonexistent"], "/nonexistent/coordinator.secret is missing"),
        (["--keys-at-reload", "/nonexistent"], "/nonexistent: belongs to --keys"),
    ])
    func linksThatLeaveTheHostNeedKeysOrAChoice(arguments: [String], problem: String) throws {
        let options = try Options(daemon: .coordinator, arguments: ["model"] + arguments)
        do {
            let security = try LinkSecurity(
                options, role: .coordinator, peers: [.worker],
                addresses: ["data-parallel-address"])
            let isChosen = arguments.contains("--plaintext-links")
            #expect(security == (isChosen ? .plaintextAcrossHosts : .plaintext))
            #expect(problem.isEmpty)
        } catch {
            #expect(!problem.isEmpty && "\(error)".contains(problem), "\(error)")
        }
    }
}
