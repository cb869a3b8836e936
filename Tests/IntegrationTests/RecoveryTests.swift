import Foundation
import Testing

/// Every daemon is killed, stopped or drained while streams run; what clients get stays the same.
@Suite(.serialized) struct RecoveryTests {
    private func body(seed: Int, tokens: Int) -> [String: Any] {
        [
            "prompt": Array(40..<60), "max_tokens": tokens, "temperature": 0.8, "seed": seed,
            "ignore_eos": true, "return_token_ids": true,
        ]
    }

    /// No group with fewer workers: everybody waits for those who are missing.
    private static let fixed = ["--lease", "1000", "--data-parallel-size-min", "2"]

    private func waitUntilReady(_ cell: RunningCell) throws {
        try cell.wait("readiness") { try cell.http.get("/ready").status == 200 }
    }

    private func waitUntilNotReady(_ cell: RunningCell) throws {
        try cell.wait("the end of the view") { try cell.http.get("/ready").status == 503 }
    }

    /// The streams have had `events` tokens each; the rest is what an undisturbed run has there.
    private func expectRest(
        _ streams: [HTTPConnection], after events: Int, _ expected: [[Int]], _ cell: RunningCell
    ) throws {
        for (stream, expected) in zip(streams, expected) {
            let rest = try stream.wholeText()
            #expect(rest.tokens == Array(expected.dropFirst(events)), "\(cell.logs)")
            #expect(rest.finish == "length")
        }
    }

    @Test func theSequencesOfAKilledGatewayAreFreed() throws {
        let cell = try RunningCell(dp: 2, options: ["--lease", "1000"])
        let other = try cell.anotherGateway()
        let streams = try (0..<4).map {
            try cell.http.stream("/v1/completions", body(seed: $0, tokens: 1800))
        }
        for stream in streams { _ = try stream.event() }
        try cell.wait("the sequences") {
            try cell.metric("vllm:num_requests_running", of: other.http) == 4
        }
        cell.gateway.send(SIGKILL)
        try cell.wait("their end") {
            try cell.metric("vllm:num_requests_running", of: other.http) == 0
                && cell.metric("vllm:kv_cache_usage_perc", of: other.http) == 0
        }
        #expect(try cell.metric("vllm:generation_tokens_total", of: other.http) < 4 * 1800)
        #expect(try other.http.greedy([0, 9, 8], 8).tokens().count == 8)
    }

    /// As a client sees a worker that is restarted: `/ready` says 503, and a new call waits.
    @Test func aCallThatComesBetweenTwoViewsIsAnsweredInTheNextOne() throws {
        let cell = try RunningCell(dp: 2, options: Self.fixed)
        let expected = try cell.http.post("/v1/completions", body(seed: 3, tokens: 20)).tokens()
        cell.workers[1].send(SIGKILL)
        #expect(cell.workers[1].exitCode() == -SIGKILL)
        try waitUntilNotReady(cell)
        var streaming = body(seed: 3, tokens: 20)
        streaming["stream"] = true
        let call = try cell.http.stream("/v1/completions", streaming)
        #expect(try cell.http.get("/ready").status == 503)
        try cell.restartWorker(1)
        #expect(try call.wholeText().tokens == expected, "\(cell.logs)")
    }

    @Test func aGatewayThatStoodStillLeavesNoHoleInItsStreams() throws {
        let cell = try RunningCell(dp: 2, options: ["--lease", "30000"])
        let other = try cell.anotherGateway()
        let expected = try other.http.post("/v1/completions", body(seed: 1, tokens: 1400)).tokens()
        let stream = try cell.http.stream("/v1/completions", body(seed: 1, tokens: 1400))
        _ = try stream.event()
        cell.gateway.send(SIGSTOP)
        // Its connections are given up; what leaders sent it meanwhile is lost.
        try cell.wait("the end of its sequences") {
            try cell.metric("vllm:num_requests_running", of: other.http) == 0
        }
        #expect(try cell.metric("vllm:generation_tokens_total", of: other.http) < 2 * 1400)
        cell.gateway.send(SIGCONT)
        try expectRest([stream], after: 1, [expected], cell)
    }

    @Test func aWorkerThatStoodStillComesBack() throws {
        let cell = try RunningCell(dp: 2, options: Self.fixed)
        let expected = try (0..<4).map {
            try cell.http.post("/v1/completions", body(seed: $0, tokens: 200)).tokens()
        }
        let streams = try (0..<4).map {
            try cell.http.stream("/v1/completions", body(seed: $0, tokens: 200))
        }
        for stream in streams { _ = try stream.event() }
        cell.workers[1].send(SIGSTOP)
        try waitUntilNotReady(cell)
        cell.workers[1].send(SIGCONT)
        try expectRest(streams, after: 1, expected, cell)
        #expect(cell.stop() == [0, 0, 0, 0])
    }

    /// The node of the coordinator and of a worker is gone: no other view comes.
    @Test func callsEndWhereNobodyMakesAnotherView() throws {
        let cell = try RunningCell(dp: 2, options: ["--lease", "1000"])
        let streams = try (0..<4).map {
            try cell.http.stream("/v1/completions", body(seed: $0, tokens: 1800))
        }
        for stream in streams { _ = try stream.event() }
        cell.coordinator.send(SIGKILL)
        cell.workers[1].send(SIGKILL)
        for stream in streams {
            let error = #expect(throws: CellError.self) { _ = try stream.wholeText() }
            #expect(error?.description.contains("503") == true, "\(String(describing: error))")
        }
        #expect(try cell.http.get("/load").text == #"{"server_load":0}"#, "\(cell.logs)")
    }

    @Test(arguments: [false, true])
    func aRestartedCoordinatorFindsItsCellAgain(streaming: Bool) throws {
        let cell = try RunningCell(dp: 2, options: ["--lease", "1000"])
        let expected = try (0..<3).map {
            try cell.http.post("/v1/completions", body(seed: $0, tokens: 300)).tokens()
        }
        let streams = try (0..<(streaming ? 3 : 0)).map {
            try cell.http.stream("/v1/completions", body(seed: $0, tokens: 300))
        }
        for stream in streams { _ = try stream.event() }
        cell.coordinator.send(SIGKILL)
        #expect(cell.coordinator.exitCode() == -SIGKILL)
        try cell.restartCoordinator()
        #expect(cell.coordinator.line(containing: "the deployment serves", within: 30) != nil)
        try expectRest(streams, after: 1, expected, cell)
        try cell.wait("an answer") {
            let answer = try cell.http.post("/v1/completions", body(seed: 1, tokens: 300))
            guard answer.status == 200 else { return false }
            #expect(answer.tokens() == expected[1])
            return true
        }
        #expect(cell.stop() == [0, 0, 0, 0])
    }

    @Test func fiveKillsInARowChangeNoToken() throws {
        let cell = try RunningCell(dp: 2, options: Self.fixed)
        let count = 4
        let expected = try (0..<count).map {
            try cell.http.post("/v1/completions", body(seed: $0, tokens: 120)).tokens()
        }
        var streams: [HTTPConnection] = []
        let descriptors = try openDescriptors(cell.workers[0].pid)
        for kill in 0..<5 {
            let fresh = try (0..<count).map {
                try cell.http.stream("/v1/completions", body(seed: $0, tokens: 120))
            }
            for stream in fresh { _ = try stream.event() }
            streams += fresh
            cell.workers[1].send(SIGKILL)
            #expect(cell.workers[1].exitCode() == -SIGKILL)
            try waitUntilNotReady(cell)
            try cell.restartWorker(1)
            try waitUntilReady(cell)
            #expect(try cell.http.get("/ready").status == 200, "kill \(kill)")
        }
        let all = (0..<5).flatMap { _ in expected }
        try expectRest(streams, after: 1, all, cell)
        try cell.wait("the end of all sequences") {
            try cell.metric("vllm:num_requests_running") == 0
                && cell.metric("vllm:kv_cache_usage_perc") == 0
        }
        // The survivor has been through six views and keeps nothing of them.
        #expect(try openDescriptors(cell.workers[0].pid) <= descriptors + 2)
    }

    private func openDescriptors(_ pid: Int32) throws -> Int {
        try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count
    }

    @Test func aDrainedWorkerFinishesItsSequences() throws {
        let cell = try RunningCell(dp: 2, options: Self.fixed)
        let expected = try (0..<4).map {
            try cell.http.post("/v1/completions", body(seed: $0, tokens: 300)).tokens()
        }
        let streams = try (0..<4).map {
            try cell.http.stream("/v1/completions", body(seed: $0, tokens: 300))
        }
        for stream in streams { _ = try stream.event() }
        cell.workers[1].send(SIGTERM)
        #expect(cell.workers[1].line(containing: "draining") != nil)
        #expect(cell.workers[1].exitCode() == 0)
        #expect(cell.workers[1].log.contains("sequences=2"), "\(cell.workers[1].log)")
        #expect(!cell.workers[1].log.contains("go elsewhere"))
        try cell.restartWorker(1)
        try expectRest(streams, after: 1, expected, cell)
        try waitUntilReady(cell)
    }

    @Test func aSecondProcessForADeviceWaitsWhileTheFirstLives() throws {
        let cell = try RunningCell(dp: 2, options: Self.fixed)
        let second = try cell.secondWorker(1)
        #expect(second.line(containing: "waiting for a place") != nil)
        #expect(try cell.http.greedy([0, 9, 8], 16).tokens().count == 16)
        #expect(cell.coordinator.line(containing: "view 1 ends", within: 0) == nil)
        cell.workers[1].send(SIGKILL)
        #expect(second.line(containing: "view is active", within: 30) != nil)
        try cell.wait("an answer") { try cell.http.greedy([0, 9, 8], 16).status == 200 }
    }
}
