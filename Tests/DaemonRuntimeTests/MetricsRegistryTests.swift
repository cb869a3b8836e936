import DaemonRuntime
import Testing

@Suite struct MetricsRegistryTests {
    @Test func thePageIsPrometheusText() {
        let registry = MetricsRegistry()
        let ok = registry.register(
            "requests_total", .counter, help: "All.", labels: ["code": "200"])
        let gauge = registry.register("running", .gauge, help: "Now.")
        let bad = registry.register(
            "requests_total", .counter, help: "All.", labels: ["code": "500"])
        registry.add(ok)
        registry.add(ok, 2)
        registry.set(gauge, 0.5)
        #expect(registry.value(ok) == 3 && registry.value(bad) == 0)
        #expect(
            registry.exposition() == """
                # HELP requests_total All.
                # TYPE requests_total counter
                requests_total{code="200"} 3.0
                requests_total{code="500"} 0.0
                # HELP running Now.
                # TYPE running gauge
                running 0.5

                """)
    }

    @Test func bucketsOfAHistogramAreCumulative() {
        let registry = MetricsRegistry()
        let id = registry.register(
            "seconds", .histogram, help: "Time.", labels: ["rank": "0"], bounds: [0.5, 1, 2])
        for value in [0.25, 0.5, 1.5, 1.75, 8] { registry.observe(id, value) }
        #expect(
            registry.exposition() == """
                # HELP seconds Time.
                # TYPE seconds histogram
                seconds_bucket{rank="0",le="0.5"} 2
                seconds_bucket{rank="0",le="1.0"} 2
                seconds_bucket{rank="0",le="2.0"} 4
                seconds_bucket{rank="0",le="+Inf"} 5
                seconds_sum{rank="0"} 12.0
                seconds_count{rank="0"} 5

                """)
    }

    @Test func labelsAreEscaped() {
        let registry = MetricsRegistry()
        _ = registry.register(
            "m", .gauge, help: "x", labels: ["a": "q\"b\\s\nn", "z": "", "b": "ü"])
        #expect(registry.exposition().contains(#"m{a="q\"b\\s\nn",z="",b="ü"} 0.0"#))
    }

    @Test func anEmptyRegistryIsAnEmptyPage() {
        #expect(MetricsRegistry().exposition() == "")
    }
}
