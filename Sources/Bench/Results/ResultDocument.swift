internal import Protocol

/// What `--save-result` writes, with vLLM's keys in vLLM's order.
struct ResultDocument: Sendable {
    let tree: JSONTree

    /// What the run knows beside its configuration and its figures.
    struct Identity: Hashable, Sendable {
        /// YYYYMMDD-HHMMSS, local time.
        let date: String
        let modelID: String
        let tokenizerID: String?
    }

    init(
        _ metrics: BenchMetrics, records: [RequestRecord], identity: Identity,
        _ settings: BenchConfiguration
    ) {
        var members: [JSONTree.Member] = [
            .init("date", .text(identity.date)),
            .init("endpoint_type", .text(settings.backend.rawValue)),
            .init("backend", .text(settings.backend.rawValue)),
            .init("label", settings.label.map { .text($0) } ?? .null),
            .init("model_id", .text(identity.modelID)),
            .init("tokenizer_id", identity.tokenizerID.map { .text($0) } ?? .null),
            .init("num_prompts", .integer(settings.shape.count)),
        ]
        members = JSONTree.merged(
            members, with: settings.metadata.map { .init($0.key, .text($0.value)) })
        let rest: [JSONTree.Member] =
            [
                .init(
                    "request_rate",
                    settings.requestRate.isFinite ? .number(settings.requestRate) : .text("inf")),
                .init("burstiness", .number(settings.burstiness)),
                .init("max_concurrency", settings.maxConcurrency.map { .integer($0) } ?? .null),
            ] + Self.totals(metrics)
            + (settings.savesDetailed ? Self.details(records, metrics) : [])
            + [
                .init("max_output_tokens_per_s", .number(Double(metrics.peakOutputTokens))),
                .init("max_concurrent_requests", .integer(metrics.peakConcurrent)),
                .init("rtfx", .number(0)),
            ] + Self.latencies(metrics, settings)
        tree = .object(JSONTree.merged(members, with: rest))
    }

    private static func totals(_ metrics: BenchMetrics) -> [JSONTree.Member] {
        [
            .init("duration", .number(metrics.durationSeconds)),
            .init("completed", .integer(metrics.completed)),
            .init("failed", .integer(metrics.failed)),
            .init("total_input_tokens", .integer(metrics.totalInput)),
            .init("total_output_tokens", .integer(metrics.totalOutput)),
            .init("request_throughput", .number(metrics.requestThroughput)),
            .init("request_goodput", metrics.goodput.map { .number($0) } ?? .null),
            .init("output_throughput", .number(metrics.outputThroughput)),
            .init("total_token_throughput", .number(metrics.totalThroughput)),
        ]
    }

    /// By request, in the order in which they were sent.
    private static func details(
        _ records: [RequestRecord], _ metrics: BenchMetrics
    ) -> [JSONTree.Member] {
        [
            .init("input_lens", .integers(records.map(\.promptLength))),
            .init("output_lens", .integers(metrics.outputLengths)),
            .init("ttfts", .numbers(records.map(\.ttftSeconds))),
            .init("itls", .array(records.map { .numbers($0.interTokenSeconds) })),
            .init(
                "start_times", .numbers(records.map { Double($0.start?.nanoseconds ?? 0) / 1e9 })),
            .init("generated_texts", .array(records.map { .text($0.text) })),
            .init("errors", .array(records.map { .text($0.error ?? "") })),
        ]
    }

    private static func latencies(
        _ metrics: BenchMetrics, _ settings: BenchConfiguration
    ) -> [JSONTree.Member] {
        LatencyMetric.allCases.filter(settings.percentileMetrics.contains).flatMap {
            metric -> [JSONTree.Member] in
            let statistics = metrics.statistics(metric)
            let name = metric.rawValue
            return [
                .init("mean_\(name)_ms", .number(statistics.mean)),
                .init("median_\(name)_ms", .number(statistics.median)),
                .init("std_\(name)_ms", .number(statistics.deviation)),
            ]
                + settings.metricPercentiles.map { percent in
                    .init(
                        "p\(ResultTable.word(percent))_\(name)_ms",
                        .number(statistics.percentile(percent)))
                }
        }
    }

    /// `<label or backend>-<rate>qps[-concurrency<n>]-<last part of the model>-<date>.json`.
    static func defaultFileName(identity: Identity, _ settings: BenchConfiguration) -> String {
        let label = settings.label ?? settings.backend.rawValue
        let limit = settings.maxConcurrency.map { "-concurrency\($0)" } ?? ""
        let parts = identity.modelID.split(separator: "/")
        let model = parts.last.map(String.init) ?? identity.modelID
        return "\(label)-\(settings.requestRate)qps\(limit)-\(model)-\(identity.date).json"
    }
}
