import Protocol

@testable import Bench

enum BenchFixtures {
    static func configuration(_ arguments: [String]) throws -> BenchConfiguration {
        try BenchConfiguration(arguments: arguments)
    }

    /// A request that was answered with `tokens`, at these seconds.
    static func record(
        prompt: Int, start: Double, tokens: [Double], count: Int? = nil, text: String = ""
    ) -> RequestRecord {
        var record = RequestRecord(promptLength: prompt)
        let instant = { (seconds: Double) in Instant(nanoseconds: Int64(seconds * 1e9)) }
        record.start = instant(start)
        record.firstToken = tokens.first.map(instant)
        record.lastToken = tokens.last.map(instant)
        record.interTokenSeconds = zip(tokens, tokens.dropFirst()).map { $1 - $0 }
        record.completionTokens = count ?? tokens.count
        record.text = text
        record.isEnded = true
        return record
    }

    static func failure(prompt: Int, start: Double, _ error: String) -> RequestRecord {
        var record = record(prompt: prompt, start: start, tokens: [], count: nil)
        record.error = error
        return record
    }

    /// Three requests that succeed, with latencies 500, 1000 and 100 ms, and one that fails.
    static let records = [
        record(prompt: 10, start: 100, tokens: [100.1, 100.2, 100.5], text: "a\"b"),
        record(prompt: 20, start: 100.5, tokens: [100.8, 101.5], count: 5),
        failure(prompt: 30, start: 100.6, "HTTP 500"),
        record(prompt: 40, start: 103, tokens: [103.1]),
    ]

    static func metrics(_ levels: [ServiceLevel] = []) -> BenchMetrics {
        BenchMetrics(records: records, durationSeconds: 4, serviceLevels: levels) { _ in 0 }
    }
}
