import DaemonRuntime
import Foundation
import Protocol
import Testing

/// Real processes with real faults.
@Suite(.serialized) struct FaultTests {
    @Test func aWorkerWithAnotherConfigurationIsRefusedAndTheKeysAreNamed() throws {
        let coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            [RunningCell.model("demo-w8a8"), "--data-parallel-rpc-port", "0"])
        let port = try #require(coordinator.value(of: "endpoint")?.split(separator: ":").last)
        let worker = try RunningDaemon(
            "worker", "phalanx-engine-worker",
            [
                "--data-parallel-rpc-port", String(port), "--max-num-seqs", "7", "--block-size",
                "32",
            ])
        #expect(worker.exitCode() == 1)
        #expect(
            worker.log.contains("max-num-seqs: the coordinator has \"256\", this node has \"7\""))
        #expect(worker.log.contains("block-size: the coordinator has \"16\", this node has \"32\""))
        #expect(coordinator.log.contains("max-num-seqs"))
    }

    @Test func aMissingWorkerIsNamedAtTheDeadline() throws {
        let coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            [
                RunningCell.model("demo-w8a8"), "--data-parallel-rpc-port", "0",
                "--data-parallel-size", "2", "--enable-expert-parallel", "--ready-timeout", "3",
            ])
        let port = try #require(coordinator.value(of: "endpoint")?.split(separator: ":").last)
        let options = ["--data-parallel-rpc-port", String(port)]
        let worker = try RunningDaemon("worker", "phalanx-engine-worker", options)
        let gateway = try RunningDaemon("gateway", "phalanx-gateway", options + ["--port", "0"])
        let http = HTTPClient(port: try #require(gateway.value(of: "port").flatMap { UInt16($0) }))
        #expect(try http.get("/health").status == 200)
        let ready = try http.get("/ready")
        #expect(ready.status == 503)
        #expect(coordinator.exitCode() == 1)
        #expect(coordinator.log.contains("worker 1 has not said HELLO"))
        #expect(worker.exitCode() == 1)
        let after = try http.post("/v1/completions", ["prompt": "x"])
        #expect(after.status == 503)
        #expect(after.errorMessage.contains("worker 1 has not said HELLO"), "\(after.text)")
    }

    /// A copy of the bundled model with one file changed.
    private func damaged(_ change: (URL) throws -> Void) throws -> URL {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("phalanx-\(UUID().uuidString)")
        try FileManager.default.copyItem(
            at: URL(fileURLWithPath: RunningCell.model("tiny-random")), to: folder)
        try change(folder)
        return folder
    }

    private func refusal(of folder: URL) throws -> (code: Int32?, log: String) {
        defer { try? FileManager.default.removeItem(at: folder) }
        let coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator", [folder.path, "--data-parallel-rpc-port", "0"])
        let port = try #require(coordinator.value(of: "endpoint")?.split(separator: ":").last)
        let worker = try RunningDaemon(
            "worker", "phalanx-engine-worker", ["--data-parallel-rpc-port", String(port)])
        return (worker.exitCode(), worker.log)
    }

    @Test func aTruncatedShardIsRefusedByName() throws {
        let name = "model-00002-of-00003.safetensors"
        let folder = try damaged { folder in
            let file = folder.appendingPathComponent(name)
            let data = try Data(contentsOf: file)
            try data.prefix(data.count * 2 / 3).write(to: file)
        }
        let (code, log) = try refusal(of: folder)
        #expect(code == 1)
        #expect(log.contains(name), "\(log)")
    }

    @Test func aCorruptHeaderIsRefusedByName() throws {
        let name = "model-00001-of-00003.safetensors"
        let folder = try damaged { folder in
            let file = folder.appendingPathComponent(name)
            var data = try Data(contentsOf: file)
            for place in 20..<60 { data[place] = 0xFF }
            try data.write(to: file)
        }
        let (code, log) = try refusal(of: folder)
        #expect(code == 1)
        #expect(log.contains(name), "\(log)")
    }

    @Test func aMissingShardIsRefusedByName() throws {
        let name = "model-00003-of-00003.safetensors"
        let folder = try damaged {
            try FileManager.default.removeItem(at: $0.appendingPathComponent(name))
        }
        let (code, log) = try refusal(of: folder)
        #expect(code == 1)
        #expect(log.contains(name), "\(log)")
    }

    @Test func aConfigThatIsNoJSONIsRefusedByName() throws {
        let folder = try damaged {
            try Data("{\"hidden_size\": ".utf8).write(to: $0.appendingPathComponent("config.json"))
        }
        let (code, log) = try refusal(of: folder)
        #expect(code == 1)
        #expect(log.contains("config.json"), "\(log)")
    }

    @Test func randomBytesOnEverySocketChangeNothing() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("SEED=\(seed)")
        var random = SplitMix(state: seed)
        let cell = try RunningCell(dp: 2)
        let expected = try cell.http.greedy([0, 9, 8], 16).tokens()
        let coordinator = try #require(cell.coordinator.value(of: "endpoint"))
        let leaders = try cell.workers.map { try #require($0.value(of: "endpoint")) }
        for endpoint in [coordinator] + leaders + ["tcp://127.0.0.1:\(cell.http.port)"] {
            let port = try #require(endpoint.split(separator: ":").last.flatMap { UInt16($0) })
            for _ in 0..<20 {
                let connection = try HTTPConnection(port: port)
                // The daemon may close it before everything is written.
                try? connection.write(
                    (0..<Int.random(in: 1...4096, using: &random)).map { _ in
                        UInt8.random(in: 0...255, using: &random)
                    })
                connection.close()
            }
        }
        try frames(to: [coordinator] + leaders, &random)
        #expect(try cell.http.greedy([0, 9, 8], 16).tokens() == expected)
        #expect(cell.coordinator.line(containing: "dropped a message") != nil)
        for worker in cell.workers {
            #expect(worker.line(containing: "dropped a message") != nil)
        }
        #expect(cell.stop() == [0, 0, 0, 0])
    }

    /// Well-formed transport, nonsense inside: every frame reaches a decoder.
    private func frames(to endpoints: [String], _ random: inout SplitMix) throws {
        let context = ZeroMQContext()
        let loop = EventLoop()
        for endpoint in endpoints {
            let identity: [UInt8] =
                [1] + (0..<8).map { _ in UInt8.random(in: 0...255, using: &random) }
            let socket = try ZeroMQSocket(
                .dealer(identity: identity), context: context, limits: SocketLimits())
            try socket.connect(endpoint)
            var answers = 0
            socket.attach(to: loop) { _, _ in answers += 1 }
            for _ in 0..<200 {
                let frame = (0..<Int.random(in: 0...300, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                while socket.send(frame) != .sent {
                    _ = loop.run(until: MonotonicClock.now() + .milliseconds(10)) { false }
                }
            }
            // A message that is answered proves that all before it were read.
            let sign =
                endpoint == endpoints[0]
                ? ControlMessage(
                    incarnation: Incarnation(rawValue: 1), view: 0, sequence: 1,
                    body: .viewJoined(view: 1)
                ).encoded()
                : GatewayMessage.open(
                    protocols: .ofThisBuild, gateway: Incarnation(rawValue: 1), view: 0
                ).encoded()
            _ = socket.send(sign)
            #expect(loop.run(until: MonotonicClock.now() + .seconds(20)) { answers > 0 })
            socket.detach()
        }
    }

    @Test func aWorkerThatIsKilledLosesNoRequest() throws {
        let cell = try RunningCell(
            dp: 2, options: ["--exchange-timeout", "5000", "--data-parallel-size-min", "2"])
        let body: [String: Any] = [
            "prompt": Array(40..<80), "max_tokens": 300, "temperature": 0.8, "seed": 3,
            "ignore_eos": true, "return_token_ids": true,
        ]
        let expected = try cell.http.post("/v1/completions", body).tokens()
        let streams = try (0..<6).map { _ in try cell.http.stream("/v1/completions", body) }
        for stream in streams { for _ in 0..<5 { _ = try stream.event() } }
        cell.workers[1].send(SIGKILL)
        #expect(cell.workers[1].exitCode() == -SIGKILL)
        // The gateway may see first that no leader takes requests, then why.
        try cell.wait("the end of the view") {
            let ready = try cell.http.get("/ready")
            return ready.status == 503 && ready.errorMessage.contains("waiting for: worker")
        }
        try cell.restartWorker(1)
        for stream in streams {
            let rest = try stream.wholeText()
            #expect(rest.tokens == Array(expected.suffix(rest.tokens.count)))
            #expect(rest.tokens.count == expected.count - 5)
        }
    }

    @Test func theCoordinatorMayDieWithoutATokenBeingLost() throws {
        let cell = try RunningCell(dp: 2, options: ["--lease", "1000"])
        let body: [String: Any] = [
            "prompt": Array(40..<80), "max_tokens": 400, "temperature": 0, "ignore_eos": true,
            "return_token_ids": true,
        ]
        let expected = try cell.http.post("/v1/completions", body).tokens()
        let stream = try cell.http.stream("/v1/completions", body)
        _ = try stream.event()
        cell.coordinator.send(SIGKILL)
        #expect(cell.coordinator.exitCode() == -SIGKILL)
        let rest = try stream.wholeText()
        #expect(rest.tokens == Array(expected.dropFirst()))
        // Nobody could wake the cell now, and it says so.
        try cell.wait("the silence") { try cell.http.get("/ready").status == 503 }
        #expect(try cell.http.get("/ready").errorMessage.contains("coordinator is silent"))
    }
}

struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
