import Testing

@testable import Control

@Suite struct PlanDifferenceTests {
    static func worker(_ device: Int, _ name: String, threads: Int = 1) -> PlanDifference.Daemon {
        PlanDifference.Daemon(
            name: name, role: .worker,
            options: ["device-index": ["\(device)"], "worker-threads": ["\(threads)"]])
    }

    static func gateway(_ name: String, keys: [String]? = nil) -> PlanDifference.Daemon {
        var options = ["port": ["8000"]]
        options["api-key"] = keys
        return PlanDifference.Daemon(name: name, role: .gateway, options: options)
    }

    @Test func whatRunsAsPlannedIsNoDifference() {
        let planned = [Self.worker(0, "worker-0"), Self.worker(1, "worker-1"), Self.gateway("g")]
        let running = [Self.gateway("7"), Self.worker(1, "8"), Self.worker(0, "9")]
        #expect(PlanDifference(planned: planned, running: running).lines.isEmpty)
    }

    @Test func missingExtraAndChangedAreToldApart() {
        let planned = [Self.worker(0, "worker-0"), Self.worker(1, "worker-1")]
        let running = [Self.worker(0, "process 8", threads: 4), Self.gateway("process 9")]
        #expect(
            PlanDifference(planned: planned, running: running).lines == [
                "other options: worker-0 (process 8) has worker-threads 4, planned 1",
                "missing: worker-1 does not run",
                "extra: process 9 is a phalanx-gateway of no plan",
            ])
    }

    @Test func ofTwoCellsTheNearerOneIsMeant() {
        let running = [Self.worker(0, "process 8", threads: 4), Self.worker(0, "process 9")]
        #expect(
            PlanDifference(planned: [Self.worker(0, "worker-0")], running: running).lines == [
                "extra: process 8 is a phalanx-engine-worker of no plan"
            ])
    }

    @Test func keysAreNotShown() {
        let lines = PlanDifference(
            planned: [Self.gateway("gateway", keys: ["secret"])],
            running: [Self.gateway("process 8", keys: ["other"])]
        ).lines
        #expect(lines == ["other options: gateway (process 8) has another api-key"])
    }

    @Test func aCommandLineThatIsRefusedNowSaysWhy() {
        var running = Self.gateway("process 8")
        running.problem = "file line 3: unknown option"
        let lines = PlanDifference(planned: [Self.gateway("gateway")], running: [running]).lines
        #expect(lines == ["other options: gateway (process 8): file line 3: unknown option"])
    }
}
