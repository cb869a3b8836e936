import Protocol
import Testing

@testable import Gateway

@Suite struct GatewayMetricsTests {
    @Test func stagesOfTicksAreSecondsByRank() {
        let metrics = GatewayMetrics(model: "demo")
        var load = RankLoad()
        load.dpRank = 3
        load.stageTimes[.experts] = 1_500_000_000
        metrics.onLoad(load, at: Instant(nanoseconds: 0))
        load.stageTimes[.experts] = 2_500_000_000
        metrics.onLoad(load, at: Instant(nanoseconds: 0))
        let page = String(decoding: metrics.page(), as: UTF8.self)
        let lines = page.split(separator: "\n").filter { $0.contains("phalanx:tick_seconds") }
        #expect(lines.filter { !$0.hasPrefix("#") }.count == TickStage.allCases.count)
        let experts = lines.filter { $0.contains("stage=\"experts\"") }
        #expect(experts.count == 1 && experts.allSatisfy { $0.hasSuffix(" 2.5") })
        #expect(experts.allSatisfy { $0.contains("engine=\"3\"") })
    }

    @Test func whatRoutingKnowsIsShown() {
        let metrics = GatewayMetrics(model: "demo")
        metrics.onRouting(rank: 1, pendingTokens: 70, affinityTokens: 160, refusals: 2)
        metrics.onRouting(rank: 1, pendingTokens: 30, affinityTokens: 320, refusals: 2)
        let page = String(decoding: metrics.page(), as: UTF8.self)
        let pending = "phalanx:routing_pending_tokens{model_name=\"demo\",engine=\"1\"} 30.0\n"
        #expect(page.contains(pending))
        #expect(page.contains("phalanx:routing_affinity_tokens_total{model_name=\"demo\"} 320.0\n"))
        #expect(page.contains("phalanx:routing_refusals_total{model_name=\"demo\"} 2.0\n"))
    }

    @Test func handshakesThatFailedAreCountedByPeer() {
        let metrics = GatewayMetrics(model: "demo")
        metrics.onFailedHandshakes(coordinator: 2, leaders: 30)
        let page = String(decoding: metrics.page(), as: UTF8.self)
        #expect(page.contains("phalanx:failed_handshakes_total{peer=\"coordinator\"} 2.0\n"))
        #expect(page.contains("phalanx:failed_handshakes_total{peer=\"leader\"} 30.0\n"))
    }

    @Test func imbalanceIsThatOfTheLastWindow() {
        let metrics = GatewayMetrics(model: "demo")
        metrics.onView(4, ranks: [0, 1, 2, 3])
        var load = RankLoad()
        load.dpRank = 2
        (load.tick, load.tickTokens, load.tickTokensMax, load.tickTokensGroup) = (5, 70, 900, 950)
        metrics.onLoad(load, at: Instant(nanoseconds: 0))
        // Two ticks: this rank had 10 rows, the busiest 60 in all, everybody together 80.
        (load.tick, load.tickTokens, load.tickTokensMax, load.tickTokensGroup) = (7, 80, 960, 1030)
        (load.paddedTokens, load.submissions) = (12, 3)
        load.exchangeWait = .milliseconds(1500)
        metrics.onLoad(load, at: Instant(nanoseconds: 1_000_000_000))
        let page = String(decoding: metrics.page(), as: UTF8.self)
        let labels = "{model_name=\"demo\",engine=\"2\"}"
        #expect(page.contains("phalanx:tick_imbalance{model_name=\"demo\"} 3.0\n"))
        #expect(page.contains("phalanx:tick_tokens_relative\(labels) 0.5\n"))
        #expect(page.contains("phalanx:padded_tokens_total\(labels) 12.0\n"))
        #expect(page.contains("phalanx:exchange_wait_seconds_total\(labels) 1.5\n"))
        #expect(page.contains("phalanx:submissions_total\(labels) 3.0\n"))
        #expect(page.contains("vllm:iteration_tokens_total_sum\(labels) 5.0\n"))
    }

    @Test func whoIsGoneRunsNothing() {
        let metrics = GatewayMetrics(model: "demo")
        metrics.onView(1, ranks: [0, 1])
        for rank in [0, 1] as [UInt32] {
            var load = RankLoad()
            (load.dpRank, load.running, load.waiting, load.generationTokens) = (rank, 7, 2, 90)
            metrics.onLoad(load, at: Instant(nanoseconds: 0))
        }
        func has(_ line: String) -> Bool {
            String(decoding: metrics.page(), as: UTF8.self).contains(line + "\n")
        }
        func running(_ rank: Int) -> String {
            "vllm:num_requests_running{model_name=\"demo\",engine=\"\(rank)\"}"
        }
        // Sequences outlive the end of a view.
        metrics.onView(0, ranks: [])
        #expect(has(running(1) + " 7.0"))
        metrics.onView(3, ranks: [0])
        #expect(has(running(0) + " 7.0") && has(running(1) + " 0.0"))
        #expect(has("vllm:num_requests_waiting{model_name=\"demo\",engine=\"1\"} 0.0"))
        #expect(has("vllm:generation_tokens_total{model_name=\"demo\",engine=\"1\"} 90.0"))
    }
}
