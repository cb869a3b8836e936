/// The table that `vllm bench serve` prints, line for line, so that what reads the one reads the
/// other: labels padded to 40, values to 10, headings centred in 50.
struct ResultTable: Sendable {
    static let width = 50
    static let labelWidth = 40
    static let valueWidth = 10

    let lines: [String]

    init(_ metrics: BenchMetrics, _ settings: BenchConfiguration) {
        var lines = [Self.heading(" Serving Benchmark Result ", "=")]
        lines.append(Self.row("Successful requests:", metrics.completed))
        lines.append(Self.row("Failed requests:", metrics.failed))
        if let limit = settings.maxConcurrency {
            lines.append(Self.row("Maximum request concurrency:", limit))
        }
        if settings.requestRate.isFinite {
            lines.append(Self.row("Request rate configured (RPS):", settings.requestRate))
        }
        lines.append(Self.row("Benchmark duration (s):", metrics.durationSeconds))
        lines.append(Self.row("Total input tokens:", metrics.totalInput))
        lines.append(Self.row("Total generated tokens:", metrics.totalOutput))
        lines.append(Self.row("Request throughput (req/s):", metrics.requestThroughput))
        if let goodput = metrics.goodput {
            lines.append(Self.row("Request goodput (req/s):", goodput))
        }
        lines.append(Self.row("Output token throughput (tok/s):", metrics.outputThroughput))
        lines.append(
            Self.row("Peak output token throughput (tok/s):", Double(metrics.peakOutputTokens)))
        lines.append(Self.row("Peak concurrent requests:", Double(metrics.peakConcurrent)))
        lines.append(Self.row("Total token throughput (tok/s):", metrics.totalThroughput))
        for metric in LatencyMetric.allCases where settings.percentileMetrics.contains(metric) {
            let statistics = metrics.statistics(metric)
            lines.append(Self.heading(metric.title, "-"))
            lines.append(Self.row("Mean \(metric.name) (ms):", statistics.mean))
            lines.append(Self.row("Median \(metric.name) (ms):", statistics.median))
            for percent in settings.metricPercentiles {
                lines.append(
                    Self.row(
                        "P\(Self.word(percent)) \(metric.name) (ms):",
                        statistics.percentile(percent)))
            }
        }
        lines.append(String(repeating: "=", count: Self.width))
        self.lines = lines
    }

    var text: String { lines.joined(separator: "\n") + "\n" }

    /// "99" and "99.9".
    static func word(_ percent: Double) -> String {
        percent == percent.rounded() ? "\(Int(percent))" : "\(percent)"
    }

    /// Of an odd number of fill characters one more stands on the right, as in Python.
    static func heading(_ text: String, _ fill: Character) -> String {
        let space = max(0, width - text.count)
        return String(repeating: fill, count: space / 2) + text
            + String(repeating: fill, count: space - space / 2)
    }

    static func row(_ label: String, _ value: Int) -> String { row(label, "\(value)") }

    static func row(_ label: String, _ value: Double) -> String {
        row(label, fixed(value, decimals: 2))
    }

    private static func row(_ label: String, _ value: String) -> String {
        padded(label, labelWidth) + " " + padded(value, valueWidth)
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
