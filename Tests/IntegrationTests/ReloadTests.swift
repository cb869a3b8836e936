import Foundation
import Testing

/// SIGHUP and keys that change, in real deployments that go on serving.
@Suite(.serialized) struct ReloadTests {
    static var body: [String: Any] {
        [
            "prompt": "In the beginning", "max_tokens": 3, "temperature": 0, "ignore_eos": true,
        ]
    }

    static func folder() -> URL {
        FileManager.default.temporaryDirectory.appendingPathComponent(
            "phalanx-reload-\(getpid())-\(UInt64.random(in: 0...UInt64.max))")
    }

    /// Waits for the line that a daemon logs for the n-th time.
    static func wait(
        _ cell: RunningCell, _ daemon: RunningDaemon, _ text: String, times: Int = 1
    ) throws {
        try cell.wait("\"\(text)\" of \(daemon.name)") {
            sched_yield()
            return daemon.log.components(separatedBy: text).count > times
        }
    }

    static func rotate(_ role: String, in folder: String) throws {
        let rotation = try RunningDaemon("keys", "phalanxctl", ["keys", folder, "--rotate", role])
        #expect(rotation.exitCode(within: 30) == 0)
    }

    static func reload(_ cell: RunningCell, _ times: Int = 1) throws {
        for daemon in cell.daemons { daemon.send(SIGHUP) }
        for daemon in cell.daemons { try wait(cell, daemon, ": reloaded", times: times) }
    }

    @Test func aGatewayTakesOverItsFileAndGoesOn() throws {
        let folder = Self.folder()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("phalanx.yaml").path
        func write(_ text: String) throws {
            try text.write(toFile: file, atomically: true, encoding: .utf8)
        }
        try write("api-key: [first]\n")
        let cell = try RunningCell(dp: 1, gatewayOptions: ["--config", file])
        func status(_ key: String) throws -> Int {
            let headers = ["authorization": "Bearer \(key)"]
            return try cell.http.post("/v1/completions", Self.body, headers: headers).status
        }
        #expect(try status("first") == 200 && status("second") == 401)
        try write("api-key: [second]\nhost: 127.0.0.2\n")
        cell.gateway.send(SIGHUP)
        try Self.wait(cell, cell.gateway, "reloaded --api-key: 1 hidden becomes 1 hidden")
        try Self.wait(cell, cell.gateway, "--host: 127.0.0.1 becomes 127.0.0.2 needs a restart")
        #expect(try status("first") == 401 && status("second") == 200)
        try write("api-key: [third]\nlog-level: loud\n")
        cell.gateway.send(SIGHUP)
        try Self.wait(cell, cell.gateway, "phalanx.yaml line 2: log-level: \"loud\" is none of")
        #expect(try status("second") == 200 && status("third") == 401)
        #expect(!cell.gateway.log.contains("first") && !cell.gateway.log.contains("second"))
        #expect(cell.stop() == [0, 0, 0])
    }

    /// The deployment's limits are the coordinator's, which tells workers and gateways.
    @Test func limitsChangeWhereTheCoordinatorIsReloaded() throws {
        let folder = Self.folder()
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("phalanx.yaml").path
        func write(_ queued: Int, _ logprobs: Int, _ lease: Int) throws {
            let text = """
                max-num-seqs: 2
                max-num-queued-reqs: \(queued)
                max-logprobs: \(logprobs)
                lease: \(lease)

                """
            try text.write(toFile: file, atomically: true, encoding: .utf8)
        }
        try write(1, 2, 5000)
        let cell = try RunningCell(dp: 1, options: ["--config", file])
        func status(_ fields: [String: Any]) throws -> Int {
            let body = Self.body.merging(fields) { $1 }
            return try cell.http.post("/v1/completions", body).status
        }
        func status(sequences: Int) throws -> Int {
            try status(["prompt": Array(repeating: "In the beginning", count: sequences)])
        }
        #expect(try status(sequences: 3) == 200 && status(sequences: 4) == 400)
        #expect(try status(["logprobs": 2]) == 200 && status(["logprobs": 3]) == 400)
        try write(3, 3, 1000)
        cell.coordinator.send(SIGHUP)
        try Self.wait(cell, cell.coordinator, "reloaded --lease: 5000 becomes 1000")
        try Self.wait(cell, cell.workers[0], "the coordinator has another --max-num-queued-reqs")
        try Self.wait(cell, cell.gateway, "the coordinator has another --max-logprobs")
        #expect(try status(["logprobs": 3]) == 200)
        try cell.wait("room for five sequences", within: 30) { try status(sequences: 5) == 200 }
        #expect(try status(sequences: 6) == 400)
        try write(0, 1, 5000)
        cell.coordinator.send(SIGHUP)
        try Self.wait(
            cell, cell.workers[0], "the coordinator has another --max-num-queued-reqs", times: 2)
        try cell.wait("room for two sequences", within: 30) { try status(sequences: 3) == 400 }
        #expect(try status(sequences: 2) == 200 && status(["logprobs": 2]) == 400)
        #expect(!cell.workers[0].log.contains("left the view"))
        #expect(cell.stop() == [0, 0, 0])
    }

    /// What systemd hears: Type=notify-reload waits for exactly this.
    @Test func aReloadIsReportedToTheServiceManager() throws {
        let path = Self.folder().path
        defer { unlink(path) }
        let socket = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(socket) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(bound == 0)
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(
            socket, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        func next() -> String? {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = recv(socket, &bytes, bytes.count, 0)
            return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
        }
        let daemon = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            [RunningCell.model("demo-w8a8"), "--data-parallel-rpc-port", "0"],
            environment: ["NOTIFY_SOCKET": path])
        var states: [String] = []
        while states.last != "READY=1" { states.append(try #require(next())) }
        daemon.send(SIGHUP)
        while true {
            let state = try #require(next())
            guard state.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") else { continue }
            let microseconds = try #require(UInt64(state.split(separator: "=").last ?? ""))
            #expect(microseconds > 0)
            break
        }
        var following = try #require(next())
        while following.hasPrefix("STATUS=") { following = try #require(next()) }
        #expect(following == "READY=1")
    }

    /// Every kind of key is changed while the deployment runs. After each change daemons with the
    /// old key and with the new one are side by side, as on nodes that are changed one by one.
    @Test func keysAreRotatedInARunningDeployment() throws {
        let keys = try DeploymentKeys()
        let options = ["--keys", keys.folder]
        let cell = try RunningCell(
            dp: 2, options: options + ["--data-parallel-size-min", "2"], workerOptions: options,
            gatewayOptions: options)
        func served(_ text: String) throws {
            try cell.wait(text, within: 60) {
                try cell.http.post("/v1/completions", Self.body).status == 200
            }
        }
        // Workers: one is restarted, the other one still listens with its old key.
        try Self.rotate("worker", in: keys.folder)
        try Self.reload(cell)
        #expect(cell.workers[0].log.contains("worker.secret is another one"))
        #expect(try cell.http.post("/v1/completions", Self.body).status == 200)
        cell.workers[0].send(SIGTERM)
        #expect(cell.workers[0].exitCode(within: 60) == 0)
        try cell.restartWorker(0)
        try served("an answer of a worker with the new key and one with the old key")
        for rank in ["0", "1"] {
            let headers = ["x-data-parallel-rank": rank]
            let answer = try cell.http.post("/v1/completions", Self.body, headers: headers)
            #expect(answer.status == 200)
        }
        // Coordinator: it still has the old key, and a gateway comes that expects the new one.
        try Self.rotate("coordinator", in: keys.folder)
        let (late, lateHTTP) = try cell.anotherGateway(options: options)
        #expect(try lateHTTP.post("/v1/completions", Self.body).status == 200)
        late.send(SIGTERM)
        #expect(late.exitCode(within: 60) == 0)
        // Gateways: the running one changes its key, and the old one is deleted under it.
        try Self.rotate("gateway", in: keys.folder)
        for daemon in cell.daemons { daemon.send(SIGHUP) }
        try Self.wait(cell, cell.gateway, "gateway.secret is another one")
        try Self.wait(cell, cell.coordinator, "gateway.public has 1 new keys and 0 fewer")
        let file = keys.folder + "/gateway.public"
        let current = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n")[0]
        try "\(current)\n".write(toFile: file, atomically: true, encoding: .utf8)
        for daemon in cell.daemons { daemon.send(SIGHUP) }
        try Self.wait(cell, cell.coordinator, "gateway.public has 0 new keys and 1 fewer")
        try Self.wait(cell, cell.workers[1], "gateway.public has 0 new keys and 1 fewer")
        try served("an answer over connections with the new key")
        // The view has lived through all but the restart.
        #expect(cell.workers[1].log.components(separatedBy: "left the view").count == 2)
    }
}
