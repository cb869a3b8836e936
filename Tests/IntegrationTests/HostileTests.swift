import Foundation
import Protocol
import TestSupport
import Testing

@testable import DaemonRuntime

/// What strangers, and insiders who have a key of another kind, can do to a deployment with keys:
/// nothing that its clients notice.
@Suite(.serialized) final class HostileTests {
    let keys: DeploymentKeys
    let cell: RunningCell
    let coordinator: String
    let leader: String
    let expected: [Int]
    let memory: [Int]

    static var body: [String: Any] {
        [
            "prompt": "In the beginning", "max_tokens": 12, "temperature": 0, "ignore_eos": true,
            "return_token_ids": true,
        ]
    }

    init() throws {
        keys = try DeploymentKeys()
        let options = ["--keys", keys.folder]
        cell = try RunningCell(
            dp: 2, options: options, workerOptions: options, gatewayOptions: options)
        coordinator = "tcp://127.0.0.1:\(cell.coordinatorPort)"
        leader = try #require(cell.workers[0].value(of: "endpoint"))
        expected = try cell.http.post("/v1/completions", Self.body).tokens()
        memory = cell.daemons.map(\.residentBytes)
    }

    func ring(_ role: KeyRole, _ peers: [KeyRole], in folder: String? = nil) throws -> KeyRing {
        try KeyRing(folder: folder ?? keys.folder, role: role, peers: peers)
    }

    func client(_ role: KeyRole, of server: KeyRole) throws -> SocketSecurity {
        .client(try ring(role, [server]), server: server)
    }

    static func port(_ endpoint: String) -> UInt16 {
        endpoint.split(separator: ":").last.flatMap { UInt16($0) } ?? 0
    }

    static func frame(_ body: ControlBody, as incarnation: Incarnation, sequence: UInt64 = 1)
        -> [UInt8]
    {
        ControlMessage(incarnation: incarnation, view: 1, sequence: sequence, body: body).encoded()
    }

    /// Nobody has ended, nothing has grown, no view has ended, and answers are what they were.
    func expectAllIsWell(memoryMax: Int = 64 << 20) throws {
        for _ in 0..<4 {
            let answer = try cell.http.post("/v1/completions", Self.body)
            #expect(answer.status == 200 && answer.tokens() == expected)
        }
        for (daemon, before) in zip(cell.daemons, memory) {
            #expect(daemon.isRunning, "\(daemon.name): \(daemon.log)")
            let grown = daemon.residentBytes - before
            #expect(grown < memoryMax, "\(daemon.name) has grown by \(grown) bytes")
        }
        #expect(!cell.logs.contains("left the view"))
        #expect(try cell.metric("phalanx:active_view") == 1)
    }

    /// What anybody hears of who asks the coordinator and a leader for something.
    func isAnswered(
        _ attacker: Attacker, _ identity: [UInt8], _ endpoint: String, _ security: SocketSecurity
    ) throws -> Bool {
        let socket = try attacker.connect(identity, to: endpoint, security)
        let own = Incarnation(rawValue: 77)
        _ = attacker.send(
            [
                Self.frame(.statusRequest, as: own), Self.frame(.leave(reason: "x"), as: own),
                GatewayMessage.open(
                    protocols: .ofThisBuild, gateway: own, view: 1
                ).encoded(),
            ], on: socket, within: 1)
        return attacker.hears(within: 500)
    }

    @Test func strangersAreNotHeard() throws {
        let attacker = Attacker("strangers")
        let foreign = try DeploymentKeys()
        for (endpoint, server) in [(coordinator, KeyRole.coordinator), (leader, KeyRole.worker)] {
            try attacker.sendGreetings(200, to: Self.port(endpoint))
            for role in [1, 2, 3] as [UInt8] {
                let identity = attacker.identity(role)
                #expect(try !isAnswered(attacker, identity, endpoint, .plaintext))
            }
            // Keys of another deployment, and those with this server's public key, which is none
            // of the secrets.
            let file = "/\(server.rawValue).public"
            let alien = SocketSecurity.client(
                try ring(.gateway, [server], in: foreign.folder), server: server)
            #expect(try !isAnswered(attacker, attacker.identity(2), endpoint, alien))
            try FileManager.default.removeItem(atPath: foreign.folder + file)
            try FileManager.default.copyItem(
                atPath: keys.folder + file, toPath: foreign.folder + file)
            let informed = SocketSecurity.client(
                try ring(.gateway, [server], in: foreign.folder), server: server)
            #expect(try !isAnswered(attacker, attacker.identity(2), endpoint, informed))
        }
        // Keys of this deployment, but of roles that have no business there.
        for role in [KeyRole.worker, .operator] {
            let security = try client(role, of: .worker)
            let identity = attacker.identity(role.identityByte ?? 0)
            #expect(try !isAnswered(attacker, identity, leader, security))
        }
        for daemon in [cell.coordinator, cell.workers[0]] {
            #expect(daemon.log.contains("a handshake failed"))
            #expect(daemon.log.contains("refused a link with a key that is not one of"))
        }
        let status = try ControlProcess(
            ["status", "--keys", keys.folder], port: cell.coordinatorPort)
        #expect(status.output.contains("failed handshakes: "), "\(status.output)")
        try expectAllIsWell()
    }

    /// Incarnations of the workers, as views and reports tell them.
    func incarnations() throws -> [Incarnation] {
        let status = try ControlProcess(
            ["status", "--json", "--keys", keys.folder], port: cell.coordinatorPort)
        let report = try JSONSerialization.jsonObject(with: Data(status.output.utf8))
        let workers = (report as? [String: Any])?["workers"] as? [[String: Any]] ?? []
        return workers.compactMap { worker in
            (worker["incarnation"] as? String).flatMap { UInt64($0, radix: 16) }
                .map { Incarnation(rawValue: $0) }
        }
    }

    /// What a worker says in its life, in the name of one that lives.
    static func life(of worker: Incarnation) -> [[UInt8]] {
        let ready = Ready(
            endpoint: "tcp://127.0.0.1:1", collectivesAddress: [1, 2, 3], modelDigest: "other",
            blockCount: 1, blockSize: 16, position: GroupPosition(rank: 0, worldSize: 1))
        let heartbeat = Heartbeat(stage: .draining, percent: 0, load: RankLoad(), tickAge: .zero)
        let hello = Hello(
            role: .worker, node: HostName.current, device: 0, pid: 1, softwareVersion: "0.1.0",
            declared: [])
        let bodies: [ControlBody] = [
            .ready(ready), .viewJoined(view: 1), .heartbeat(heartbeat),
            .wakeRequest(view: 1, fromTick: .max), .wakeAck(view: 1, fromTick: .max),
            .peerSilent(view: 1, tick: 1, workers: [0, 1], reason: "hostile"),
            .leave(reason: "hostile"), .hello(hello), .statusRequest, .drainRequest(dpRank: 0),
            .view(
                View(
                    number: 99, state: .retired, members: [], configurationDigest: 0, reason: "x")),
            .wake(view: 1, fromTick: .max), .drain(reason: "x"), .loadUpdate([RankLoad()]),
        ]
        return bodies.enumerated().map {
            frame($0.element, as: worker, sequence: UInt64($0.offset + 1))
        }
    }

    /// With a worker's key: replayed in another's name, damaged, noise, too large.
    @Test func aWorkersKeyDoesNotSpeakForOtherWorkers() throws {
        let attacker = Attacker("workers")
        let workers = try incarnations()
        try #require(workers.count == 2)
        let security = try client(.worker, of: .coordinator)
        let socket = try attacker.connect(attacker.identity(1), to: coordinator, security)
        for worker in workers {
            let life = Self.life(of: worker)
            #expect(attacker.send(life + life.reversed(), on: socket))
            for frame in life { #expect(attacker.send(attacker.damaged(frame), on: socket)) }
        }
        #expect(attacker.send(attacker.noise(2000), on: socket))
        // It is heard, but as nobody.
        let isUnknown = attacker.hears(within: 30_000) { frame in
            guard
                let message = try? frame.withUnsafeBytes({ try ControlMessage.decode($0) }),
                case .refuse(let refusal) = message.body
            else { return false }
            return refusal.reason == .unknownPeer
        }
        #expect(isUnknown)
        // Larger than any message of a peer: the connection ends, and comes again.
        let large = [UInt8](repeating: 8, count: CodecLimits.peerMessageBytesMax + 1)
        attacker.forgetAnswers()
        #expect(attacker.send([large], on: socket))
        try expectAllIsWell()
        let again = Self.frame(.leave(reason: "x"), as: workers[0])
        var isHeard = false
        for _ in 0..<60 where !isHeard {
            _ = socket.send(again)
            isHeard = attacker.hears(within: 500)
        }
        #expect(isHeard)
        #expect(cell.coordinator.log.contains("dropped a message"))
        try expectAllIsWell()
    }

    /// A ROUTER hands an identity over to who comes under it, before anybody looks at the key.
    @Test func aGatewaysKeyDoesNotTakeAWorkersPlace() throws {
        let attacker = Attacker("identities")
        let workers = try incarnations()
        try #require(workers.count == 2)
        let security = try client(.gateway, of: .coordinator)
        for worker in workers {
            // As far as views tell it, and with guesses for the rest.
            let known = Array(
                ControlIdentity.bytes(role: 1, incarnation: worker, secret: 0).prefix(9))
            for rest in [[], Array(repeating: 0, count: 8), attacker.random.bytes(8)] {
                let socket = try attacker.connect(known + rest, to: coordinator, security)
                #expect(attacker.send(Self.life(of: worker), on: socket))
            }
        }
        #expect(!attacker.hears(within: 1000))
        // Under an identity of its own role it may speak, but only as what it is.
        let socket = try attacker.connect(attacker.identity(2), to: coordinator, security)
        #expect(attacker.send(workers.flatMap(Self.life), on: socket))
        #expect(attacker.hears(within: 30_000))
        // Longer than a lease: the workers were heard all the time.
        _ = attacker.loop.run(until: MonotonicClock.now() + .seconds(6)) { false }
        try expectAllIsWell()
    }

    /// With a gateway's key, at a leader.
    @Test func damagedRequestsEndNothing() throws {
        let attacker = Attacker("requests")
        let security = try client(.gateway, of: .worker)
        let socket = try attacker.connect(attacker.identity(2), to: leader, security)
        let open = GatewayMessage.open(
            protocols: .ofThisBuild, gateway: Incarnation(rawValue: 5), view: 1
        ).encoded()
        var sampling = SamplingParameters()
        sampling.maxTokens = 2
        let submit = GatewayMessage.submit(
            GenerationRequest(
                requestID: RequestID(rawValue: 1), view: 1, promptTokenIDs: [1, 2, 3],
                sampling: sampling, priority: 0, deliveredTokenIDs: [4],
                cacheSalt: Array("salt".utf8))
        ).encoded()
        let cancel = GatewayMessage.cancel([RequestID(rawValue: 1)]).encoded()
        for frame in [open, submit, cancel] {
            #expect(attacker.send([open, frame], on: socket))
            #expect(attacker.send(attacker.damaged(frame), on: socket))
        }
        #expect(attacker.send(attacker.noise(2000), on: socket))
        #expect(attacker.hears(within: 30_000))
        // 600 MB that mean nothing: what is not looked at yet stays with the sender.
        let large = [UInt8](repeating: 0xFF, count: 2 << 20)
        for _ in 0..<300 { #expect(attacker.send([large], on: socket)) }
        try expectAllIsWell(memoryMax: 400 << 20)
    }
}
