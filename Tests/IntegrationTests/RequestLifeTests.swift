import Foundation
import Testing

/// What happens to requests: streams, hang-ups, drains, overload.
@Suite(.serialized) struct RequestLifeTests {
    @Test func aStreamSaysWhatTheWholeAnswerSays() throws {
        let cell = try RunningCell(dp: 2)
        let body: [String: Any] = [
            "prompt": "In the beginning", "max_tokens": 60, "temperature": 0, "ignore_eos": true,
            "return_token_ids": true, "stop": ["house of the LORD"],
        ]
        let whole = try cell.http.post("/v1/completions", body)
        let stream = try cell.http.stream("/v1/completions", body).wholeText()
        #expect(stream.text == whole.choices[0]["text"] as? String)
        #expect(stream.tokens == whole.tokens())
        #expect(stream.finish == "stop")
        #expect(whole.choices[0]["stop_reason"] as? String == "house of the LORD")
        #expect(!stream.text.contains("house of the LORD"))
    }

    @Test func anEchoWithoutOutputIsAnswered() throws {
        let cell = try RunningCell(dp: 2)
        let body: [String: Any] = ["prompt": "In the beginning", "max_tokens": 0, "echo": true]
        let whole = try cell.http.post("/v1/completions", body)
        #expect(whole.choices[0]["text"] as? String == "In the beginning")
        #expect(whole.choices[0]["logprobs"] is NSNull)
        #expect(whole.choices[0]["prompt_logprobs"] is NSNull)
        let stream = try cell.http.stream("/v1/completions", body).wholeText()
        #expect(stream.text == "In the beginning")
        #expect(stream.finish == "length")
    }

    @Test func aClientThatLeavesFreesItsBlocks() throws {
        let cell = try RunningCell(dp: 2)
        let connection = try cell.http.stream(
            "/v1/completions", ["prompt": "The whale", "max_tokens": 2000, "ignore_eos": true])
        for _ in 0..<3 { _ = try connection.event() }
        try cell.wait("the sequence") {
            try cell.metric("vllm:kv_cache_usage_perc") > 0
                && cell.metric("vllm:num_requests_running") == 1
        }
        connection.close()
        try cell.wait("the end of the sequence") {
            try cell.metric("vllm:kv_cache_usage_perc") == 0
                && cell.metric("vllm:num_requests_running") == 0
        }
        #expect(try cell.metric("vllm:generation_tokens_total") < 2000)
    }

    @Test func aDrainingGatewayFinishesWhatRunsAndRefusesWhatComes() throws {
        let cell = try RunningCell(dp: 2)
        let connection = try cell.http.stream(
            "/v1/completions",
            [
                "prompt": "The whale", "max_tokens": 400, "ignore_eos": true,
                "return_token_ids": true,
            ])
        _ = try connection.event()
        cell.gateway.send(SIGTERM)
        #expect(cell.gateway.line(containing: "draining") != nil)
        let refused = try cell.http.post("/v1/completions", ["prompt": "x"])
        #expect(refused.status == 503)
        #expect(refused.headers["retry-after"] != nil)
        #expect(try cell.http.get("/ready").status == 503)
        let rest = try connection.wholeText()
        #expect(rest.finish == "length")
        #expect(rest.tokens.count == 399)
        #expect(cell.gateway.exitCode() == 0)
    }

    @Test func aFullServerAnswers429WithATime() throws {
        let cell = try RunningCell(
            dp: 1, options: ["--max-num-seqs", "1", "--max-num-queued-reqs", "1"])
        // Room for two running or waiting sequences, and one a tick in the queue.
        var streams: [HTTPConnection] = []
        var refused: HTTPClient.Answer?
        for _ in 0..<8 where refused == nil {
            let probe = try cell.http.stream(
                "/v1/completions", ["prompt": "x", "max_tokens": 1500, "ignore_eos": true])
            if streams.isEmpty { _ = try probe.event() }
            streams.append(probe)
            if streams.count > 3 {
                refused = try cell.http.post("/v1/completions", ["prompt": "x", "max_tokens": 2])
            }
        }
        #expect(refused?.status == 429)
        #expect((refused?.headers["retry-after"]).flatMap { Int($0) } ?? 0 >= 1)
        // What can never fit is no matter of time.
        let tooMany = try cell.http.post("/v1/completions", ["prompt": "x", "n": 3, "seed": 1])
        #expect(tooMany.status == 400, "\(tooMany.text)")
        #expect(refused?.errorMessage.contains("overloaded") == true)
    }

    @Test func anIdleCellUsesNoCPUAndWakesAtTheNextRequest() throws {
        // Every rank reports its ticks several times a second.
        let cell = try RunningCell(dp: 2, options: ["--lease", "1000"])
        let first = try cell.http.greedy([0, 5, 6], 8)
        try cell.wait("idleness") { try cell.metric("vllm:num_requests_running") == 0 }
        // Two seconds of nothing, in halves: this measures, it does not wait for anything.
        let before = (cpu: cell.cpuTicks, sleeps: cell.sleeps)
        Thread.sleep(forTimeInterval: 1)
        let ticks = try cell.metric("phalanx:ticks_total")
        Thread.sleep(forTimeInterval: 1)
        let used = cell.cpuTicks - before.cpu
        let sleeps = cell.sleeps - before.sleeps
        #expect(ticks > 0)
        #expect(try cell.metric("phalanx:ticks_total") == ticks, "an idle group made ticks")
        print("idle cell: \(used * 10) ms of CPU and \(sleeps) sleeps in 2 s")
        // Heartbeats (ten a peer) and ZeroMQ's pings wake threads; polling every 10 ms would do it
        // 200 times a thread.
        #expect(sleeps <= 600, "\(sleeps) sleeps of \(cell.daemons.count) processes in 2 s")
        // CPU time depends on how busy the machine is; one thread that spins uses 2 s.
        #expect(used <= 50, "\(used * 10) ms of CPU in 2 s")
        #expect(try cell.http.greedy([0, 5, 6], 8).tokens() == first.tokens())
    }
}
