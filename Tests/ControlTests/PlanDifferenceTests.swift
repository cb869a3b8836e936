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

    static func coordinator(_ name: String, port: String, node: String? = nil)
        -> PlanDifference
        .Daemon
    {
        var options = [
            "data-parallel-address": ["127.0.0.1"], "data-parallel-rpc-port": [port],
        ]
        options["node-name"] = node.map { [$0] }
        return PlanDifference.Daemon(name: name, role: .coordinator, options: options)
    }

    @Test func anotherDeploymentIsNoDifference() {
        let running = [
            Self.coordinator("process 7", port: "2"),
            Self.coordinator("process 8", port: "1", node: "b"),
            Self.coordinator("process 9", port: "1"),
        ]
        let difference = PlanDifference(
            planned: [Self.coordinator("coordinator", port: "1")], running: running)
        #expect(difference.lines.isEmpty)
        #expect(difference.others.count == 2)
        #expect(difference.others[0].contains("process 7 is a phalanx-coordinator"))
        #expect(difference.others[0].contains("port 2"))
    }

    @Test func aSecondDaemonOfOneDeploymentIsExtra() {
        let running = ["process 8", "process 9"].map { Self.coordinator($0, port: "1") }
        let difference = PlanDifference(
            planned: [Self.coordinator("coordinator", port: "1")], running: running)
        #expect(difference.lines == ["extra: process 9 is a phalanx-coordinator of no plan"])
    }

    @Test func aPortThatIsPickedAtStartFitsAny() {
        let difference = PlanDifference(
            planned: [Self.coordinator("coordinator", port: "0")],
            running: [Self.coordinator("process 8", port: "4")])
        #expect(difference.lines.isEmpty && difference.others.isEmpty)
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
