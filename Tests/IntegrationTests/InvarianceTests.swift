import Foundation
import Testing

/// The same request gives the same tokens, whatever surrounds it.
@Suite(.serialized) struct InvarianceTests {
    static let prompt = Array(1000..<1060)

    /// Sampled, not greedy: every logit counts.
    private static func ask(_ http: HTTPClient, rank: Int? = nil) throws -> [Int] {
        let answer = try http.post(
            "/v1/completions",
            [
                "prompt": prompt, "max_tokens": 48, "temperature": 0.9, "top_p": 0.95, "seed": 7,
                "ignore_eos": true, "return_token_ids": true,
            ],
            headers: rank.map { ["X-data-parallel-rank": "\($0)"] } ?? [:])
        guard answer.status == 200 else { throw CellError(description: answer.text) }
        return answer.tokens()
    }

    private static func other(_ http: HTTPClient, _ index: Int) throws -> Int {
        try http.post(
            "/v1/completions",
            [
                "prompt": Array((index + 3)..<(index + 40 + 3 * index)), "max_tokens": 40 + index,
                "temperature": 1, "ignore_eos": true,
            ]
        ).status
    }

    @Test func aloneInABatchAndOnEveryRank() throws {
        let cell = try RunningCell(dp: 2)
        let http = cell.http
        let alone = try Self.ask(http)
        #expect(alone.count == 48)
        for rank in 0..<2 { #expect(try Self.ask(http, rank: rank) == alone) }
        // 32 others at once, and the request among them on both ranks.
        let answers = try http.all(34) { index in
            index < 32 ? [try Self.other(http, index)] : try Self.ask(http, rank: index - 32)
        }
        #expect(answers.prefix(32).allSatisfy { $0 == [200] })
        #expect(answers[32] == alone && answers[33] == alone)
    }

    @Test func chunkedOrNotAndInAnyNumberOfRanks() throws {
        let whole = try RunningCell(dp: 1, options: ["--max-num-batched-tokens", "512"])
        let expected = try Self.ask(whole.http)
        for (dp, batched) in [(1, 16), (2, 16), (4, 23)] {
            let cell = try RunningCell(
                dp: dp,
                options: ["--max-num-batched-tokens", "\(batched)", "--max-num-seqs", "8"])
            #expect(try Self.ask(cell.http) == expected, "dp \(dp), \(batched) tokens a tick")
        }
    }

    @Test func cachedOrComputedAndWithPromptsFirst() throws {
        let options = ["--no-enable-prefix-caching"]
        let plain = try RunningCell(dp: 1, options: options)
        let expected = try Self.ask(plain.http)
        #expect(try Self.ask(plain.http) == expected)
        #expect(try plain.metric("vllm:prefix_cache_queries_total") == 0)
        let scheduler = #"{"ascend_scheduler_config":{"enabled":true}}"#
        let cell = try RunningCell(
            dp: 1,
            options: [
                "--additional-config", scheduler, "--max-model-len", "512",
                "--max-num-batched-tokens", "512",
            ])
        for _ in 0..<2 { #expect(try Self.ask(cell.http) == expected) }
        // 60 tokens twice; the second time all full blocks of them are there.
        #expect(try cell.metric("vllm:prefix_cache_queries_total") == 120)
        #expect(try cell.metric("vllm:prefix_cache_hits_total") == 48)
    }

    /// One text over an int8 cache, whatever the division, the chunks and the others.
    @Test func overAnInt8Cache() throws {
        let int8 = ["--kv-cache-dtype", "int8"]
        let plain = try RunningCell(dp: 1, options: int8 + ["--no-enable-prefix-caching"])
        let expected = try Self.ask(plain.http)
        #expect(expected.count == 48)
        let cell = try RunningCell(
            dp: 2, options: int8 + ["--max-num-batched-tokens", "23", "--max-num-seqs", "8"])
        let http = cell.http
        for rank in 0..<2 { #expect(try Self.ask(http, rank: rank) == expected) }
        let answers = try http.all(14) { index in
            index < 12 ? [try Self.other(http, index)] : try Self.ask(http, rank: index - 12)
        }
        #expect(answers[12] == expected && answers[13] == expected)
    }

    @Test func preemptedOrNot() throws {
        let roomy = try RunningCell(dp: 1)
        let expected = try Self.ask(roomy.http)
        // 20 blocks of 16: three sequences of 108 tokens do not fit.
        let cell = try RunningCell(
            dp: 1, options: ["--num-gpu-blocks-override", "20", "--max-model-len", "200"])
        let http = cell.http
        let answers = try http.all(6) { _ in try Self.ask(http) }
        #expect(answers.count == 6 && answers.allSatisfy { $0 == expected })
        #expect(try cell.metric("vllm:num_preemptions_total") > 0)
        #expect(try cell.metric("vllm:kv_cache_usage_perc") == 0)
    }
}
