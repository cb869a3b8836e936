internal import DaemonRuntime
internal import Protocol

/// The gateway's page of metrics, with vLLM's names; what belongs to a DP rank carries its index as
/// `engine`.
final class GatewayMetrics {
    private static let latencyBounds: [Double] = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20,
        40, 80, 160, 640, 2560,
    ]
    private static let tokenBounds: [Double] = [
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
        80,
    ]
    private static let requestBounds: [Double] = [
        0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920,
        7680,
    ]
    private static let lengthBounds: [Double] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000,
        200_000,
    ]

    private static let choiceBounds: [Double] = [1, 2, 5, 10, 20]
    private static let iterationBounds: [Double] = [
        1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384,
    ]

    private struct TickSeries {
        let iterationTokens: MetricsRegistry.SeriesID
        let ticks: MetricsRegistry.SeriesID
        let dummyTicks: MetricsRegistry.SeriesID
        let tickTokens: MetricsRegistry.SeriesID
        let tickTokensMax: MetricsRegistry.SeriesID
        let paddedTokens: MetricsRegistry.SeriesID
        let exchangeWait: MetricsRegistry.SeriesID
        let submissions: MetricsRegistry.SeriesID
        let relativeLoad: MetricsRegistry.SeriesID
        /// By ``TickStage/rawValue``.
        let stageTimes: [MetricsRegistry.SeriesID]
    }

    private struct RankSeries {
        let routingPending: MetricsRegistry.SeriesID
        let running: MetricsRegistry.SeriesID
        let waiting: MetricsRegistry.SeriesID
        let cacheUsage: MetricsRegistry.SeriesID
        let preemptions: MetricsRegistry.SeriesID
        let promptTokens: MetricsRegistry.SeriesID
        let generationTokens: MetricsRegistry.SeriesID
        let prefixQueries: MetricsRegistry.SeriesID
        let prefixHits: MetricsRegistry.SeriesID
        let tick: TickSeries
        let queueTime: MetricsRegistry.SeriesID
        let prefillTime: MetricsRegistry.SeriesID
        let inferenceTime: MetricsRegistry.SeriesID
        let decodeTime: MetricsRegistry.SeriesID
        let timeToFirstToken: MetricsRegistry.SeriesID
        let interTokenLatency: MetricsRegistry.SeriesID
        let timePerOutputToken: MetricsRegistry.SeriesID
        let requestLatency: MetricsRegistry.SeriesID
        let promptLength: MetricsRegistry.SeriesID
        let generationLength: MetricsRegistry.SeriesID
        let choiceCount: MetricsRegistry.SeriesID
        let tokensMax: MetricsRegistry.SeriesID
        let success: [FinishReason: MetricsRegistry.SeriesID]
    }

    private let registry = MetricsRegistry()
    private let model: String
    private var ranks: [Int: RankSeries] = [:]
    private let httpRequests: [Int: MetricsRegistry.SeriesID]
    private let otherStatus: MetricsRegistry.SeriesID
    private let activeView: MetricsRegistry.SeriesID
    private let groupImbalance: MetricsRegistry.SeriesID
    private let affinityTokens: MetricsRegistry.SeriesID
    private let refusals: MetricsRegistry.SeriesID
    private let handshakesOfCoordinator: MetricsRegistry.SeriesID
    private let handshakesOfLeaders: MetricsRegistry.SeriesID
    private var imbalance = TickImbalance()
    /// DP ranks of the active view.
    private var rankCount = 0
    /// The last report of each rank.
    private var reported: [Int: RankLoad] = [:]

    init(model: String) {
        self.model = model
        let name = "phalanx:http_requests_total"
        let help = "Answers by status."
        var byStatus: [Int: MetricsRegistry.SeriesID] = [:]
        for status in [200, 400, 401, 404, 405, 413, 429, 500, 503] {
            byStatus[status] = registry.register(
                name, .counter, help: help, labels: ["status": "\(status)"])
        }
        httpRequests = byStatus
        otherStatus = registry.register(name, .counter, help: help, labels: ["status": "other"])
        activeView = registry.register(
            "phalanx:active_view", .gauge, help: "Number of the active view; 0 while there is none."
        )
        groupImbalance = registry.register(
            "phalanx:tick_imbalance", .gauge,
            help: "Rows of the ticks' busiest ranks as a multiple of the mean, of the last second.",
            labels: ["model_name": model])
        affinityTokens = registry.register(
            "phalanx:routing_affinity_tokens_total", .counter,
            help: "Prompt tokens sent to a rank that should have them cached.",
            labels: ["model_name": model])
        refusals = registry.register(
            "phalanx:routing_refusals_total", .counter,
            help: "Sequences that a rank refused to take.", labels: ["model_name": model])
        let registry = registry
        func failures(of peer: String) -> MetricsRegistry.SeriesID {
            registry.register(
                "phalanx:failed_handshakes_total", .counter,
                help: "Connections that did not come about, by whom they were to.",
                labels: ["peer": peer])
        }
        handshakesOfCoordinator = failures(of: "coordinator")
        handshakesOfLeaders = failures(of: "leader")
    }

    func onFailedHandshakes(coordinator: UInt64, leaders: UInt64) {
        registry.set(handshakesOfCoordinator, Double(coordinator))
        registry.set(handshakesOfLeaders, Double(leaders))
    }

    /// - Parameters:
    ///   - pendingTokens: prompt tokens that the rank has not computed, as this gateway knows.
    ///   - affinityTokens: sent so far to ranks that should have them cached.
    ///   - refusals: sequences that ranks have refused so far.
    func onRouting(rank: Int, pendingTokens: Int, affinityTokens: UInt64, refusals: UInt64) {
        registry.set(series(of: rank).routingPending, Double(pendingTokens))
        registry.set(self.affinityTokens, Double(affinityTokens))
        registry.set(self.refusals, Double(refusals))
    }

    func onAnswer(status: Int) { registry.add(httpRequests[status] ?? otherStatus) }

    /// - Parameter ranks: its DP ranks; none between two views, when all keep their sequences.
    func onView(_ number: UInt32, ranks: [Int]) {
        registry.set(activeView, Double(number))
        rankCount = ranks.count
        imbalance.onView()
        if number != 0 { onlyTheseRun(ranks) }
    }

    /// Whose rank is gone runs nothing and holds nothing; what it has counted stays.
    func onlyTheseRun(_ ranks: [Int]) {
        for rank in reported.keys where !ranks.contains(rank) {
            let series = series(of: rank)
            for gauge in [series.running, series.waiting, series.cacheUsage] {
                registry.set(gauge, 0)
            }
        }
    }

    func onLoad(_ load: RankLoad, at now: Instant) {
        let series = series(of: Int(load.dpRank))
        observeTicks(load, series)
        if let reading = imbalance.onLoad(load, ranks: rankCount, at: now) {
            registry.set(groupImbalance, reading.group)
            registry.set(series.tick.relativeLoad, reading.rank)
        }
        registry.set(series.tick.tickTokens, Double(load.tickTokens))
        registry.set(series.tick.tickTokensMax, Double(load.tickTokensMax))
        registry.set(series.tick.paddedTokens, Double(load.paddedTokens))
        registry.set(series.tick.exchangeWait, load.exchangeWait.seconds)
        registry.set(series.tick.submissions, Double(load.submissions))
        registry.set(series.running, Double(load.running))
        registry.set(series.waiting, Double(load.waiting))
        registry.set(series.cacheUsage, Double(load.kvCacheUsage))
        registry.set(series.preemptions, Double(load.preemptions))
        registry.set(series.promptTokens, Double(load.promptTokens))
        registry.set(series.generationTokens, Double(load.generationTokens))
        registry.set(series.prefixQueries, Double(load.prefixCacheQueries))
        registry.set(series.prefixHits, Double(load.prefixCacheHits))
        registry.set(series.tick.ticks, Double(load.tick))
        registry.set(series.tick.dummyTicks, Double(load.dummyTicks))
        for stage in TickStage.allCases {
            registry.set(
                series.tick.stageTimes[stage.rawValue], Double(load.stageTimes[stage]) / 1e9)
        }
    }

    /// Rows a tick. A report that ends several ticks counts once, with their mean.
    private func observeTicks(_ load: RankLoad, _ series: RankSeries) {
        let old = reported.updateValue(load, forKey: Int(load.dpRank))
        guard let old, load.tick > old.tick, load.tickTokens > old.tickTokens else { return }
        let ticks = Double(load.tick - old.tick)
        registry.observe(
            series.tick.iterationTokens, Double(load.tickTokens - old.tickTokens) / ticks)
    }

    func onFirstToken(rank: Int, timeToFirstToken: Interval, queued: Interval) {
        let series = series(of: rank)
        registry.observe(series.timeToFirstToken, timeToFirstToken.seconds)
        registry.observe(series.queueTime, queued.seconds)
        registry.observe(series.prefillTime, max(timeToFirstToken.seconds - queued.seconds, 0))
    }

    func onToken(rank: Int, sincePrevious: Interval) {
        registry.observe(series(of: rank).interTokenLatency, sincePrevious.seconds)
    }

    /// - Parameters:
    ///   - queued: before its first tick.
    ///   - decode: from the first token to the last.
    ///   - choices: `n` of its call.
    ///   - tokensMax: that it could have generated.
    func onFinished(
        rank: Int, reason: FinishReason, latency: Interval, queued: Interval, decode: Interval,
        promptTokens: Int, outputTokens: Int, choices: Int, tokensMax: Int
    ) {
        let series = series(of: rank)
        registry.observe(series.requestLatency, latency.seconds)
        registry.observe(series.inferenceTime, max(latency.seconds - queued.seconds, 0))
        registry.observe(series.choiceCount, Double(choices))
        registry.observe(series.tokensMax, Double(tokensMax))
        registry.observe(series.decodeTime, decode.seconds)
        registry.observe(series.promptLength, Double(promptTokens))
        registry.observe(series.generationLength, Double(outputTokens))
        if outputTokens > 1 {
            registry.observe(series.timePerOutputToken, decode.seconds / Double(outputTokens - 1))
        }
        if let id = series.success[reason] { registry.add(id) }
    }

    func page() -> [UInt8] { Array(registry.exposition().utf8) }

    private func series(of rank: Int) -> RankSeries {
        if let known = ranks[rank] { return known }
        let new = makeSeries(rank)
        ranks[rank] = new
        return new
    }

    private func makeStageTimes(_ rank: Int) -> [MetricsRegistry.SeriesID] {
        TickStage.allCases.map { stage in
            registry.register(
                "phalanx:tick_seconds_total", .counter, help: "Time of ticks, by stage.",
                labels: ["model_name": model, "engine": "\(rank)", "stage": stage.name])
        }
    }

    private func makeOne(
        _ rank: Int, _ name: String, _ kind: MetricsRegistry.Kind, _ help: String,
        _ bounds: [Double]
    ) -> MetricsRegistry.SeriesID {
        registry.register(
            name, kind, help: help, labels: ["model_name": model, "engine": "\(rank)"],
            bounds: bounds)
    }

    private func makeTickSeries(_ rank: Int) -> TickSeries {
        func make(
            _ name: String, _ kind: MetricsRegistry.Kind, _ help: String, _ bounds: [Double] = []
        ) -> MetricsRegistry.SeriesID {
            makeOne(rank, name, kind, help, bounds)
        }
        return TickSeries(
            iterationTokens: make(
                "vllm:iteration_tokens_total", .histogram, "Rows a tick.", Self.iterationBounds),
            ticks: make("phalanx:ticks_total", .counter, "Lock-step ticks of the current view."),
            dummyTicks: make("phalanx:dummy_ticks_total", .counter, "Ticks without tokens here."),
            tickTokens: make(
                "phalanx:tick_tokens_total", .counter, "Rows of this rank's step plans."),
            tickTokensMax: make(
                "phalanx:tick_tokens_max_total", .counter,
                "Rows of each tick's busiest rank, summed."),
            paddedTokens: make(
                "phalanx:padded_tokens_total", .counter, "Rows computed to fill batches up."),
            exchangeWait: make(
                "phalanx:exchange_wait_seconds_total", .counter,
                "Time of waiting for other ranks in the exchanges of ticks."),
            submissions: make(
                "phalanx:submissions_total", .counter, "Sequences submitted by gateways."),
            relativeLoad: make(
                "phalanx:tick_tokens_relative", .gauge,
                "Rows of this rank as a multiple of the mean rank's, of the last second."),
            stageTimes: makeStageTimes(rank))
    }

    private func makeSuccess(_ rank: Int) -> [FinishReason: MetricsRegistry.SeriesID] {
        var success: [FinishReason: MetricsRegistry.SeriesID] = [:]
        for reason in FinishReason.allCases {
            success[reason] = registry.register(
                "vllm:request_success_total", .counter, help: "Sequences that ended, by reason.",
                labels: [
                    "model_name": model, "engine": "\(rank)", "finished_reason": "\(reason)",
                ])
        }
        return success
    }

    private func makeSeries(_ rank: Int) -> RankSeries {
        func make(
            _ name: String, _ kind: MetricsRegistry.Kind, _ help: String, _ bounds: [Double] = []
        ) -> MetricsRegistry.SeriesID {
            makeOne(rank, name, kind, help, bounds)
        }
        return RankSeries(
            routingPending: make(
                "phalanx:routing_pending_tokens", .gauge,
                "Prompt tokens that the rank has not computed, as this gateway knows."),
            running: make("vllm:num_requests_running", .gauge, "Sequences in the batch."),
            waiting: make("vllm:num_requests_waiting", .gauge, "Sequences that wait."),
            cacheUsage: make("vllm:kv_cache_usage_perc", .gauge, "Used part of the KV cache, 0-1."),
            preemptions: make("vllm:num_preemptions_total", .counter, "Preemptions."),
            promptTokens: make(
                "vllm:prompt_tokens_total", .counter, "Prompt tokens computed or found cached."),
            generationTokens: make("vllm:generation_tokens_total", .counter, "Tokens generated."),
            prefixQueries: make(
                "vllm:prefix_cache_queries_total", .counter,
                "Tokens looked up in the prefix cache."),
            prefixHits: make(
                "vllm:prefix_cache_hits_total", .counter, "Tokens found in the prefix cache."),
            tick: makeTickSeries(rank),
            queueTime: make(
                "vllm:request_queue_time_seconds", .histogram,
                "Time between arrival at the leader and the first tick.", Self.requestBounds),
            prefillTime: make(
                "vllm:request_prefill_time_seconds", .histogram,
                "Time between the end of the queue and the first token.", Self.requestBounds),
            inferenceTime: make(
                "vllm:request_inference_time_seconds", .histogram,
                "Time between the end of the queue and the last token.", Self.requestBounds),
            decodeTime: make(
                "vllm:request_decode_time_seconds", .histogram,
                "Time between the first and the last token.", Self.requestBounds),
            timeToFirstToken: make(
                "vllm:time_to_first_token_seconds", .histogram, "TTFT.", Self.latencyBounds),
            interTokenLatency: make(
                "vllm:inter_token_latency_seconds", .histogram, "ITL.", Self.tokenBounds),
            timePerOutputToken: make(
                "vllm:request_time_per_output_token_seconds", .histogram, "TPOT.",
                Self.tokenBounds),
            requestLatency: make(
                "vllm:e2e_request_latency_seconds", .histogram, "Whole request.",
                Self.requestBounds),
            promptLength: make(
                "vllm:request_prompt_tokens", .histogram, "Tokens a prompt.", Self.lengthBounds),
            generationLength: make(
                "vllm:request_generation_tokens", .histogram, "Tokens an output.",
                Self.lengthBounds),
            choiceCount: make(
                "vllm:request_params_n", .histogram, "The request's n.", Self.choiceBounds),
            tokensMax: make(
                "vllm:request_params_max_tokens", .histogram, "The request's max_tokens.",
                Self.lengthBounds),
            success: makeSuccess(rank))
    }
}
