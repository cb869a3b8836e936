import Protocol
import Testing

@testable import Gateway

@Suite struct GatewayMetricsTests {
    @Test func stagesOfTicksAreSecondsByRank() {
        let metrics = GatewayMetrics(model: "demo")
        var load = RankLoad()
        load.dpRank = 3
        load.stageTimes[.experts] = 1_500_000_000
        metrics.onLoad(load)
        load.stageTimes[.experts] = 2_500_000_000
        metrics.onLoad(load)
        let page = String(decoding: metrics.page(), as: UTF8.self)
        let lines = page.split(separator: "\n").filter { $0.contains("phalanx:tick_seconds") }
        #expect(lines.filter { !$0.hasPrefix("#") }.count == TickStage.allCases.count)
        let experts = lines.filter { $0.contains("stage=\"experts\"") }
        #expect(experts.count == 1 && experts.allSatisfy { $0.hasSuffix(" 2.5") })
        #expect(experts.allSatisfy { $0.contains("engine=\"3\"") })
    }
}
