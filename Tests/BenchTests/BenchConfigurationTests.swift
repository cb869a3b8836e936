import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import Bench

@Suite struct BenchConfigurationTests {
    static func refusal(_ arguments: [String]) -> String {
        do {
            _ = try BenchFixtures.configuration(arguments)
            return "accepted"
        } catch {
            return "\(error)"
        }
    }

    @Test func defaultsAreThoseOfVLLM() throws {
        let settings = try BenchFixtures.configuration([])
        #expect(settings.backend == .openai)
        #expect(settings.url.description == "http://127.0.0.1:8000")
        #expect(settings.endpoint == "/v1/completions")
        #expect(
            settings.shape == RandomPromptShape(count: 1000, inputLength: 1024, outputLength: 128))
        #expect(settings.requestRate == .infinity)
        #expect(settings.burstiness == 1)
        #expect(settings.maxConcurrency == nil)
        #expect(settings.percentileMetrics == [.ttft, .tpot, .itl])
        #expect(settings.metricPercentiles == [99])
        #expect(settings.extraBody == [])
        #expect(settings.limits.exchangeDeadline == .seconds(6 * 3600))
    }

    @Test func valuesAreTaken() throws {
        let settings = try BenchFixtures.configuration([
            "--input_len", "5", "--output-len=6", "--random-range-ratio",
            #"{"input": 0.5, "output": 0.25}"#, "--header", "a=b", "c=d=e", "--goodput", "tpot:9",
            "--base-url", "http://[::1]:81/x/", "--temperature", "0", "--top-p", "0.5",
            "--extra-body", #"{"top_p": 0.9, "seed": 3}"#, "--seed", "4",
        ])
        #expect(settings.shape.inputLength == 5 && settings.shape.outputLength == 6)
        #expect(settings.shape.inputRange == 0.5 && settings.shape.outputRange == 0.25)
        #expect(settings.shape.seed == 4)
        #expect(settings.headers.map(\.value) == ["b", "d=e"])
        #expect(settings.serviceLevels == [ServiceLevel(metric: .tpot, milliseconds: 9)])
        #expect(settings.url == BenchURL(host: "::1", port: 81, prefix: "/x"))
        #expect(
            settings.extraBody == [
                .init("top_p", .number(0.9)), .init("temperature", .integer(0)),
                .init("seed", .integer(3)),
            ])
    }

    @Test(arguments: [
        (["--num-promts", "3"], "did you mean \"num-prompts\"?"),
        (["--ramp-up-strategy", "linear"], "ramps are not supported"),
        (["--base-url", "https://a"], "https is not supported"),
        (["--base-url", "a:1"], "does not begin with http://"),
        (["--base-url", "http://a:x"], "is not http://host:port/path"),
        (["--dataset-name", "sharegpt"], "none of random"),
        (["--backend", "tgi"], "none of openai"),
        (["--backend", "openai-chat"], "ends with chat/completions"),
        (["--endpoint", "/v1/chat/completions"], "does not fit --backend openai"),
        (["--no-ignore-eos"], "random prompts need"),
        (["--random-range-ratio", "1"], "is neither a number"),
        (["--request-rate", "0"], "is not in"),
        (["--request-rate", "nan"], "is not in"),
        (["--metric-percentiles", "99,101"], "\"101\" is not in 0...100"),
        (["--percentile-metrics", "ttft,x"], "\"x\" is none of"),
        (["--goodput", "itl:4"], "is not ttft|tpot|e2el:MILLISECONDS"),
        (["--metadata", "a"], "is not KEY=VALUE"),
        (["--header", "a b=c"], "is no header field"),
        (["--header", "a=c\r\nd: e"], "is no header field"),
        (["--extra-body", "[1]"], "is no JSON object"),
        (["--num-prompts"], "needs a value"),
        (["serve"], "expected an option"),
        (
            [
                "--skip-tokenizer-init", "--backend", "openai-chat", "--endpoint",
                "/v1/chat/completions",
            ], "a chat needs text"
        ),
    ])
    func whatDoesNotFitIsRefusedWithTheReason(arguments: [String], reason: String) {
        let text = Self.refusal(arguments)
        #expect(text.contains(reason), "\(text)")
    }

    @Test func theBodyIsThatOfVLLM() throws {
        let prompt = BenchPrompt(content: .text("hi"), length: 1, outputLength: 7)
        let messages = BenchMessages(
            configuration: try BenchFixtures.configuration([
                "--host", "::1", "--header", "host=other", "x=y", "--extra-body", #"{"a": [1]}"#,
            ]), modelName: "m", requestIDPrefix: "p-", key: "k")
        let text = String(decoding: messages.completion(prompt, index: 3), as: UTF8.self)
        let body =
            #"{"model": "m", "prompt": "hi", "repetition_penalty": 1.0, "max_tokens": 7, "#
            + #""logprobs": null, "stream": true, "stream_options": {"include_usage": true}, "#
            + #""ignore_eos": true, "a": [1]}"#
        #expect(
            text == "POST /v1/completions HTTP/1.1\r\nAccept: */*\r\nAuthorization: Bearer k\r\n"
                + "host: other\r\nx: y\r\nContent-Type: application/json\r\n"
                + "Content-Length: \(body.utf8.count)\r\nx-request-id: p-3\r\n\r\n\(body)")
    }

    @Test func aChatIsAMessageOfOnePart() throws {
        let prompt = BenchPrompt(content: .text("hi"), length: 1, outputLength: 7)
        let messages = BenchMessages(
            configuration: try BenchFixtures.configuration([
                "--backend", "openai-chat", "--endpoint", "/v1/chat/completions",
            ]), modelName: "m", requestIDPrefix: "", key: nil)
        let body = String(
            decoding: JSONTree.object(messages.members(prompt)).bytes, as: UTF8.self)
        #expect(
            body == #"{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "#
                + #""text": "hi"}]}], "max_completion_tokens": 7, "stream": true, "#
                + #""stream_options": {"include_usage": true}, "ignore_eos": true}"#)
    }

    /// The tables of docs/benchmarks.md are those of the code.
    @Test func everyOptionIsDocumented() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../../docs/benchmarks.md").standardizedFileURL
        let rows = try String(contentsOf: root, encoding: .utf8)
            .split(separator: "\n").filter { $0.hasPrefix("| `--") }.map(String.init)
        let options = BenchOptionTable.all.map { option in
            "| `--\(option.name)` | \(option.defaultValue ?? "–") | \(option.help) |"
        }
        let refused = BenchOptionTable.refused.map { "| `--\($0.name)` | \($0.reason) |" }
        let expected = options + refused
        #expect(rows == expected, "expected:\n\(expected.joined(separator: "\n"))")
    }
}
