import DaemonRuntime
import Foundation
import Protocol
import Testing

/// Which rank a request goes to, with real processes.
@Suite(.serialized) struct BalancingTests {
    /// Prompt tokens that each of two ranks has computed or found, as a gateway shows them.
    private func promptTokens(_ http: HTTPClient) throws -> [Double] {
        let page = try http.get("/metrics").text
        return (0..<2).map { rank in
            let line = page.split(separator: "\n").first {
                $0.hasPrefix("vllm:prompt_tokens_total{") && $0.contains("engine=\"\(rank)\"")
            }
            return Double(line?.split(separator: " ").last ?? "") ?? 0
        }
    }

    private func withRank(_ http: HTTPClient, _ rank: String) throws -> HTTPClient.Answer {
        try http.post(
            "/v1/completions", ["prompt": [0, 5, 6], "max_tokens": 2],
            headers: ["X-data-parallel-rank": rank])
    }

    @Test func aGatewayServesTheRanksThatItWasGiven() throws {
        let cell = try RunningCell(dp: 2, workerOptions: ["--node-name", "here"])
        // One rank, with a balancer outside: that rank is 0 to its clients.
        let external = try cell.anotherGateway(
            options: ["--data-parallel-external-lb", "--data-parallel-rank", "1"])
        for _ in 0..<4 { #expect(try external.http.greedy([0, 5, 6], 4).status == 200) }
        #expect(try withRank(external.http, "0").status == 200)
        let refused = try withRank(external.http, "1")
        #expect(refused.status == 400)
        #expect(refused.errorMessage.contains("1 is out of range [0, 1)"), "\(refused.text)")
        let tokens = try promptTokens(external.http)
        #expect(tokens == [0, 15], "all went to rank 1")

        let hybrid = try cell.anotherGateway(
            options: ["--data-parallel-hybrid-lb", "--node-name", "here"])
        for rank in ["0", "1"] { #expect(try withRank(hybrid.http, rank).status == 200) }
        #expect(try withRank(hybrid.http, "2").errorMessage.contains("2 is out of range [0, 2)"))
        let elsewhere = try cell.anotherGateway(
            options: ["--data-parallel-hybrid-lb", "--node-name", "elsewhere"],
            line: "no rank is on node elsewhere")
        let unready = try elsewhere.http.greedy([0, 5, 6], 4)
        #expect(unready.status == 503)
        #expect(unready.errorMessage.contains("ranks are on here"), "\(unready.text)")

        // The default serves all, and its clients count all.
        #expect(try withRank(cell.http, "1").status == 200)
        #expect(try withRank(cell.http, "2").errorMessage.contains("2 is out of range [0, 2)"))
    }

    @Test func aPromptThatBeginsLikeAnEarlierOneGoesToItsRank() throws {
        let cell = try RunningCell(dp: 2)
        let common = (0..<160).map { 5 + $0 % 50 }
        #expect(try cell.http.greedy([0] + common + [7], 2).status == 200)
        for tail in 8..<14 {
            #expect(try cell.http.greedy([0] + common + [tail], 2).status == 200)
        }
        // 161 common tokens are ten full blocks.
        #expect(try cell.metric("phalanx:routing_affinity_tokens_total") == 6 * 160)
        #expect(try cell.metric("vllm:prefix_cache_hits_total") == 6 * 160)
        let counted = try promptTokens(cell.http)
        #expect(counted.contains(0) && counted.contains(7 * 162), "\(counted)")
        // What follows an answer begins with it.
        let opening = (0..<40).map { 60 + $0 }
        let answer = try cell.http.greedy([0] + opening, 40).tokens()
        let before = try cell.metric("phalanx:routing_affinity_tokens_total")
        #expect(try cell.http.greedy([0] + opening + answer + [5], 2).status == 200)
        // 41 tokens and 39 of the answer are five full blocks.
        #expect(try cell.metric("phalanx:routing_affinity_tokens_total") == before + 80)
        try cell.wait("an empty account") {
            try cell.metric("phalanx:routing_pending_tokens") == 0
        }
        #expect(try cell.metric("phalanx:routing_refusals_total") == 0)
    }

    @Test(arguments: [
        (["--data-parallel-hybrid-lb", "--data-parallel-rank", "0"], "leave one of them out"),
        (["--data-parallel-external-lb"], "needs --data-parallel-rank"),
    ])
    func waysThatContradictEachOtherEndTheGateway(options: [String], reason: String) throws {
        let ports = ["--port", "0", "--data-parallel-rpc-port", "1"]
        let gateway = try RunningDaemon("gateway", "phalanx-gateway", ports + options)
        #expect(gateway.exitCode() == 1)
        #expect(gateway.log.contains(reason), "\(gateway.log)")
    }

    @Test func aRankThatTheDeploymentHasNotEndsTheGateway() throws {
        let cell = try RunningCell(dp: 1, options: ["--data-parallel-size-max", "1"])
        let gateway = try cell.anotherGateway(
            options: ["--data-parallel-rank", "3"], line: "out of range [0, 1)")
        #expect(gateway.daemon.exitCode() == 1)
    }

    @Test func aBoundForPromptsThatAreComputedWholeIsRefused() throws {
        let coordinator = try RunningDaemon(
            "coordinator", "phalanx-coordinator",
            [
                RunningCell.model("demo-w8a8"), "--data-parallel-rpc-port", "0",
                "--no-enable-chunked-prefill", "--max-prefill-tokens-per-tick", "64",
            ])
        #expect(coordinator.exitCode() == 1)
        #expect(coordinator.log.contains("without chunked prefill"), "\(coordinator.log)")
    }

    /// A prompt of many pieces beside decoding: the same tokens as alone, and every way of cutting
    /// it up.
    @Test(arguments: [
        ["--max-prefill-tokens-per-tick", "0"],
        ["--max-prefill-tokens-per-tick", "8"],
        ["--max-prefill-tokens-per-tick", "64", "--prefill-schedule-interval", "3"],
    ])
    func promptsBesideDecodingGetTheSameTokens(options: [String]) throws {
        let cell = try RunningCell(dp: 2, options: options + ["--no-enable-prefix-caching"])
        let prompt = [0] + (0..<300).map { 5 + $0 * 7 % 90 }
        let http = cell.http
        let alone = try http.greedy(prompt, 8).tokens()
        let answers = try http.all(6) { number in
            number < 4
                ? try http.greedy([0, 5, 6 + number], 60, rank: number % 2)
                : try http.greedy(prompt, 8, rank: number % 2)
        }
        for answer in answers { #expect(answer.status == 200, "\(answer.text)") }
        for answer in answers.suffix(2) { #expect(answer.tokens() == alone) }
    }
}
