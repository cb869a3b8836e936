import Protocol

/// Reports of made-up deployments.
enum ReportFixture {
    static func worker(
        _ index: UInt32, stage: WorkerStage = .running, tensorParallelSize: UInt32 = 1
    ) -> PeerStatus {
        var peer = PeerStatus(role: .worker)
        peer.node = "node-\(index)"
        peer.device = index
        peer.worker = index
        peer.dpRank = index / tensorParallelSize
        peer.tpRank = index % tensorParallelSize
        peer.incarnation = Incarnation(rawValue: 100 + UInt64(index))
        peer.pid = 1000 + index
        peer.softwareVersion = "0.1.0"
        peer.stage = stage
        peer.silence = .milliseconds(200)
        peer.isMember = true
        peer.endpoint = "tcp://10.0.0.\(index + 1):7000"
        peer.modelDigest = "abc"
        return peer
    }

    static func gateway() -> PeerStatus {
        var peer = PeerStatus(role: .gateway)
        peer.node = "front"
        peer.pid = 77
        peer.incarnation = Incarnation(rawValue: 900)
        peer.softwareVersion = "0.1.0"
        return peer
    }

    /// Two workers and a gateway that serve.
    static func active(workers: UInt32 = 2) -> StatusReport {
        var report = StatusReport()
        report.softwareVersion = "0.1.0"
        report.wallClockMicroseconds = 1_700_000_000_000_000
        report.uptime = .seconds(3700)
        report.worldSize = workers
        report.lease = .seconds(5)
        report.view = 3
        report.viewState = .active
        report.viewAge = .seconds(42)
        report.configuration = [
            ConfigurationEntry(key: "served-model-name", value: "demo"),
            ConfigurationEntry(key: "enable-expert-parallel", value: "true"),
            ConfigurationEntry(key: "exchange-timeout", value: "30000"),
        ]
        report.peers = (0..<workers).map { worker($0) } + [gateway()]
        return report
    }

    /// Worker 1 is missing.
    static func retired() -> StatusReport {
        var report = active()
        report.viewState = .retired
        report.viewReason = "worker 1 (node b, device 0) left: stopped"
        report.readyDeadline = .seconds(590)
        report.missing = ["worker 1 has not said HELLO"]
        report.missingCount = 1
        report.peers = [worker(0, stage: .standby), gateway()]
        report.peers[0].isMember = false
        report.peers[0].waitsFor = "the other workers"
        return report
    }
}
