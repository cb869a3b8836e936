internal import Protocol

/// The four latencies that are reported, in the order of the report.
enum LatencyMetric: String, Hashable, Sendable, CaseIterable {
    case ttft, tpot, itl, e2el

    var name: String { rawValue.uppercased() }

    var title: String {
        switch self {
        case .ttft: "Time to First Token"
        case .tpot: "Time per Output Token (excl. 1st token)"
        case .itl: "Inter-token Latency"
        case .e2el: "End-to-end Latency"
        }
    }
}

/// A service level: the largest value of a metric that counts as good.
struct ServiceLevel: Hashable, Sendable {
    let metric: LatencyMetric
    let milliseconds: Double
}

/// All figures of a run, as vLLM defines them. Latencies are over successful requests only.
struct BenchMetrics: Hashable, Sendable {
    let durationSeconds: Double
    let completed: Int
    let failed: Int
    let totalInput: Int
    let totalOutput: Int
    /// Requests that met every service level, a second; nil without levels.
    let goodput: Double?
    /// Most events with tokens in one of the seconds after the first start.
    let peakOutputTokens: Int
    /// Most requests that touched one of those seconds.
    let peakConcurrent: Int
    /// In milliseconds.
    let latencies: [LatencyMetric: Statistics]
    /// By request; 0 for one that failed.
    let outputLengths: [Int]

    /// - Parameter countTokens: how many tokens a text has, for servers that do not say.
    init(
        records: [RequestRecord], durationSeconds: Double, serviceLevels: [ServiceLevel],
        countTokens: (RequestRecord) -> Int
    ) {
        let lengths = records.map { record in
            record.hasSucceeded ? record.completionTokens ?? countTokens(record) : 0
        }
        let good = zip(records, lengths).filter { $0.0.hasSucceeded }
        self.durationSeconds = durationSeconds
        outputLengths = lengths
        completed = good.count
        failed = records.count { $0.hasFailed }
        totalInput = good.reduce(0) { $0 + $1.0.promptLength }
        totalOutput = lengths.reduce(0, +)
        // A single token has no time per token: 0 for goodput, left out of the statistics.
        let tpots = good.map { record, length in
            length > 1 ? (record.latencySeconds - record.ttftSeconds) / Double(length - 1) : 0
        }
        let meeting = zip(good, tpots).count { pair in
            serviceLevels.allSatisfy { level in
                let seconds: Double
                switch level.metric {
                case .ttft: seconds = pair.0.0.ttftSeconds
                case .tpot, .itl: seconds = pair.1
                case .e2el: seconds = pair.0.0.latencySeconds
                }
                return seconds * 1000 <= level.milliseconds
            }
        }
        goodput =
            serviceLevels.isEmpty ? nil : Self.rate(Double(meeting), durationSeconds)
        let seconds: [LatencyMetric: [Double]] = [
            .ttft: good.map { $0.0.ttftSeconds },
            .tpot: zip(good, tpots).compactMap { $0.0.1 > 1 ? $0.1 : nil },
            .itl: good.flatMap { $0.0.interTokenSeconds },
            .e2el: good.map { $0.0.latencySeconds },
        ]
        latencies = seconds.mapValues { Statistics($0.map { $0 * 1000 }) }
        let peaks = Self.peaks(good.map { $0.0 })
        peakOutputTokens = peaks.tokens
        peakConcurrent = peaks.concurrent
    }

    var requestThroughput: Double { Self.rate(Double(completed), durationSeconds) }
    var outputThroughput: Double { Self.rate(Double(totalOutput), durationSeconds) }
    var totalThroughput: Double { Self.rate(Double(totalInput + totalOutput), durationSeconds) }

    func statistics(_ metric: LatencyMetric) -> Statistics { latencies[metric] ?? Statistics([]) }

    private static func rate(_ count: Double, _ seconds: Double) -> Double {
        seconds > 0 ? count / seconds : 0
    }

    /// Maxima over bins of one second.
    private static func peaks(_ records: [RequestRecord]) -> (tokens: Int, concurrent: Int) {
        let starts = records.compactMap(\.start)
        guard let first = starts.min() else { return (0, 0) }
        let end = records.compactMap(\.lastToken).max() ?? first
        let binCount = Int((end - first).seconds) + 1
        var tokens = [Int](repeating: 0, count: binCount)
        // Begun minus ended, summed up below.
        var changes = [Int](repeating: 0, count: binCount + 1)
        for record in records {
            guard let start = record.start, let firstToken = record.firstToken,
                let lastToken = record.lastToken
            else { continue }
            changes[Int((start - first).seconds)] += 1
            changes[Int((lastToken - first).seconds) + 1] -= 1
            var time = (firstToken - first).seconds
            tokens[min(Int(time), binCount - 1)] += 1
            for gap in record.interTokenSeconds {
                time += gap
                tokens[min(Int(time), binCount - 1)] += 1
            }
        }
        var concurrent = 0
        var peak = 0
        for change in changes {
            concurrent += change
            peak = max(peak, concurrent)
        }
        return (tokens.max() ?? 0, peak)
    }
}
