import DaemonRuntime
import Foundation
import Testing

@testable import Bench

@Suite struct ResultTests {
    /// By hand: TTFT 100, 300 and 100 ms; TPOT (500 - 100) / 2 and (1000 - 300) / 4 ms; gaps 100,
    /// 300 and 700 ms; 70 tokens in and 9 out in 4 s.
    static let table = """
        ============ Serving Benchmark Result ============
        Successful requests:                     3_________
        Failed requests:                         1_________
        Maximum request concurrency:             8_________
        Request rate configured (RPS):           2.50______
        Benchmark duration (s):                  4.00______
        Total input tokens:                      70________
        Total generated tokens:                  9_________
        Request throughput (req/s):              0.75______
        Request goodput (req/s):                 0.50______
        Output token throughput (tok/s):         2.25______
        Peak output token throughput (tok/s):    4.00______
        Peak concurrent requests:                2.00______
        Total token throughput (tok/s):          19.75_____
        ---------------Time to First Token----------------
        Mean TTFT (ms):                          166.67____
        Median TTFT (ms):                        100.00____
        P50 TTFT (ms):                           100.00____
        P90.4 TTFT (ms):                         261.60____
        -----Time per Output Token (excl. 1st token)------
        Mean TPOT (ms):                          187.50____
        Median TPOT (ms):                        187.50____
        P50 TPOT (ms):                           187.50____
        P90.4 TPOT (ms):                         197.60____
        ---------------Inter-token Latency----------------
        Mean ITL (ms):                           366.67____
        Median ITL (ms):                         300.00____
        P50 ITL (ms):                            300.00____
        P90.4 ITL (ms):                          623.20____
        ----------------End-to-end Latency----------------
        Mean E2EL (ms):                          533.33____
        Median E2EL (ms):                        500.00____
        P50 E2EL (ms):                           500.00____
        P90.4 E2EL (ms):                         904.00____
        ==================================================
        """.replacing("_", with: " ").split(separator: "\n").map(String.init)

    static let arguments = [
        "--max-concurrency", "8", "--request-rate", "2.5", "--goodput", "ttft:200", "e2el:600",
        "--percentile-metrics", "e2el,ttft,tpot,itl", "--metric-percentiles", "50,90.4",
        "--num-prompts", "4", "--metadata", "tp=1", "note=a=b",
    ]

    @Test func theTableIsThatOfVLLMLineForLine() throws {
        let settings = try BenchFixtures.configuration(Self.arguments)
        let metrics = BenchFixtures.metrics(settings.serviceLevels)
        let lines = ResultTable(metrics, settings).lines
        #expect(lines.count == Self.table.count)
        for (line, expected) in zip(lines, Self.table) { #expect(line == expected) }
    }

    @Test func linesThatAreNotAskedForAreLeftOut() throws {
        let settings = try BenchFixtures.configuration([])
        let lines = ResultTable(BenchFixtures.metrics(), settings).lines
        let absent = ["Maximum", "Request rate", "Request goodput", "P50", "Mean E2EL"]
        #expect(lines.count == 24)
        for start in absent { #expect(!lines.contains { $0.hasPrefix(start) }, "\(start)") }
        #expect(lines.contains { $0.hasPrefix("P99 TTFT (ms): ") })
    }

    static let keys = [
        "date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts",
        "tp", "note", "request_rate", "burstiness", "max_concurrency", "duration", "completed",
        "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
        "request_goodput", "output_throughput", "total_token_throughput",
        "max_output_tokens_per_s", "max_concurrent_requests", "rtfx", "mean_ttft_ms",
        "median_ttft_ms", "std_ttft_ms", "p50_ttft_ms", "p90.4_ttft_ms", "mean_tpot_ms",
        "median_tpot_ms", "std_tpot_ms", "p50_tpot_ms", "p90.4_tpot_ms", "mean_itl_ms",
        "median_itl_ms", "std_itl_ms", "p50_itl_ms", "p90.4_itl_ms", "mean_e2el_ms",
        "median_e2el_ms", "std_e2el_ms", "p50_e2el_ms", "p90.4_e2el_ms",
    ]
    static let identity = ResultDocument.Identity(
        date: "20250102-030405", modelID: "a/model", tokenizerID: nil)

    static func document(_ arguments: [String]) throws -> JSONValue {
        let settings = try BenchFixtures.configuration(arguments)
        let document = ResultDocument(
            BenchFixtures.metrics(settings.serviceLevels), records: BenchFixtures.records,
            identity: identity, settings)
        return try JSONDocument(document.tree.bytes).root
    }

    @Test func theDocumentHasTheKeysInOrder() throws {
        let root = try Self.document(Self.arguments)
        #expect(root.members?.map(\.key) == Self.keys)
        #expect(root["completed"]?.integer == 3)
        #expect(root["request_rate"]?.double == 2.5)
        #expect(root["request_goodput"]?.double == 0.5)
        #expect(root["note"]?.string == "a=b")
        #expect(root["tokenizer_id"]?.isNull == true)
        #expect(root["max_output_tokens_per_s"]?.double == 4)
    }

    @Test func withoutLimitsTheDocumentSaysSo() throws {
        let root = try Self.document([])
        #expect(root["request_rate"]?.string == "inf")
        #expect(root["max_concurrency"]?.isNull == true)
        #expect(root["request_goodput"]?.isNull == true)
        #expect(root["mean_e2el_ms"] == nil)
        #expect(root["p99_itl_ms"] != nil)
    }

    @Test func detailsAreByRequest() throws {
        let root = try Self.document(["--save-detailed"])
        #expect(root["input_lens"]?.array?.compactMap(\.integer) == [10, 20, 30, 40])
        #expect(root["output_lens"]?.array?.compactMap(\.integer) == [3, 5, 0, 1])
        #expect(root["itls"]?.array?.map { $0.array?.count ?? -1 } == [2, 1, 0, 0])
        #expect(root["generated_texts"]?.array?.first?.string == "a\"b")
        #expect(root["errors"]?.array?.compactMap(\.string) == ["", "", "HTTP 500", ""])
        #expect(root["start_times"]?.array?.first?.double == 100)
        #expect(root["ttfts"]?.array?.count == 4)
    }

    @Test func theFileIsNamedAfterWhatWasRun() throws {
        let name = { (arguments: [String]) in
            ResultDocument.defaultFileName(
                identity: Self.identity, try BenchFixtures.configuration(arguments))
        }
        #expect(try name([]) == "openai-infqps-model-20250102-030405.json")
        #expect(
            try name(["--label", "x", "--request-rate", "10", "--max-concurrency", "4"])
                == "x-10.0qps-concurrency4-model-20250102-030405.json")
    }

    @Test func appendingMakesALineEach() throws {
        let folder = NSTemporaryDirectory() + "bench-\(UUID().uuidString)"
        try ResultFile.makeFolder(folder + "/deep/er")
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(atPath: folder) } }
        let path = folder + "/deep/er/result.json"
        try ResultFile.write(Array("1".utf8), to: path, appends: true)
        try ResultFile.write(Array("2".utf8), to: path, appends: true)
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "1\n2")
        try ResultFile.write(Array("3".utf8), to: path, appends: false)
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "3")
        #expect(throws: BenchError.self) {
            try ResultFile.write([], to: folder + "/missing/result.json", appends: false)
        }
    }

    @Test func aServerThatDoesNotCountTokensIsHelped() {
        var record = BenchFixtures.record(prompt: 1, start: 0, tokens: [1, 2], count: nil)
        record.completionTokens = nil
        let metrics = BenchMetrics(records: [record], durationSeconds: 1, serviceLevels: []) { _ in
            7
        }
        #expect(metrics.totalOutput == 7)
    }

    @Test func theProgressLineIsThatOfTqdm() {
        let line = ProgressBar.line(done: 15, total: 30, seconds: 4)
        let bar = String(repeating: "█", count: 15) + String(repeating: " ", count: 15)
        #expect(line == " 50%|\(bar)| 15/30 [00:04<00:04, 3.75it/s]")
        #expect(ProgressBar.line(done: 0, total: 3, seconds: 0).hasSuffix("0/3 [00:00<?, ?it/s]"))
    }
}
