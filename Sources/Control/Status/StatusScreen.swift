internal import Protocol

/// `phalanxctl status` for people: one screen, the reason first. Pure.
enum StatusScreen {
    static func text(_ report: StatusReport, endpoint: String) -> String {
        let health = DeploymentHealth(report)
        var text = health.serves ? "serving\n" : "not serving: \(health.problems[0])\n"
        for problem in health.problems.dropFirst() { text += "also: \(problem)\n" }
        for note in health.notes { text += "note: \(note)\n" }
        text += "\n" + TextTable.printable(deployment(report)) + "\n"
        text +=
            "view \(report.view), \(report.viewState.word) for \(Readable.time(report.viewAge)), "
        text += "\(report.workers.count { $0.isMember }) of \(report.worldSize) workers in it\n"
        text +=
            TextTable.printable(
                "coordinator \(endpoint), version \(report.softwareVersion), up "
                    + "\(Readable.time(report.uptime))") + "\n\n"
        text += failedHandshakes(report)
        text += workers(report)
        if !report.gateways.isEmpty { text += "\n" + gateways(report) }
        return text
    }

    /// A line where some failed: somebody has no key or an old one, or probes ports.
    private static func failedHandshakes(_ report: StatusReport) -> String {
        var counts = report.peers.map { (DeploymentHealth.name($0), $0.failedHandshakes) }
        counts.insert(("the coordinator", report.failedHandshakes), at: 0)
        let failed = counts.filter { $0.1 > 0 }.map { "\($0.1) of \($0.0)" }
        guard !failed.isEmpty else { return "" }
        return TextTable.printable("failed handshakes: " + failed.joined(separator: ", ")) + "\n\n"
    }

    static func deployment(_ report: StatusReport) -> String {
        let model = report.option("served-model-name") ?? report.option("model") ?? "no model"
        let ranks = report.worldSize / report.tensorParallelSize
        let experts =
            report.option("enable-expert-parallel") == "true"
            ? "experts over \(report.worldSize) workers" : "no expert parallelism"
        return "\(model), DP \(ranks) x TP \(report.tensorParallelSize), \(experts)"
    }

    private static func workers(_ report: StatusReport) -> String {
        var table = TextTable([
            "WORKER", "DP", "TP", "NODE", "DEVICE", "PID", "STAGE", "TICK", "RUNNING", "WAITING",
            "KV", "IMBALANCE", "WAITED", "HEARD", "WAITS FOR",
        ])
        let ranks = Int(report.worldSize / report.tensorParallelSize)
        for index in 0..<report.worldSize {
            guard let peer = report.workers.first(where: { $0.worker == index }) else {
                let dpRank = index / report.tensorParallelSize
                let tpRank = index % report.tensorParallelSize
                table.add(
                    ["\(index)", "\(dpRank)", "\(tpRank)", "-", "-", "-", "missing"]
                        + Array(repeating: "-", count: 7) + ["its HELLO"])
                continue
            }
            let load = peer.load
            table.add([
                "\(peer.worker)", "\(peer.dpRank)", "\(peer.tpRank)", peer.node, "\(peer.device)",
                "\(peer.pid)", stage(peer), "\(load.tick)", "\(load.running)", "\(load.waiting)",
                Readable.percent(Double(load.kvCacheUsage)),
                load.imbalance(ranks: ranks).map { Readable.number($0, decimals: 2) } ?? "-",
                Readable.time(load.exchangeWait), Readable.time(peer.silence) + " ago",
                peer.waitsFor,
            ])
        }
        return table.text
    }

    static func stage(_ peer: PeerStatus) -> String {
        guard let stage = peer.stage else { return "new" }
        return stage == .loading ? "loading \(peer.percent) %" : stage.word
    }

    private static func gateways(_ report: StatusReport) -> String {
        var table = TextTable(["GATEWAY", "PID", "VERSION", "HEARD", "WAITS FOR"])
        for peer in report.gateways {
            table.add([
                peer.node, "\(peer.pid)", peer.softwareVersion,
                Readable.time(peer.silence) + " ago", peer.waitsFor,
            ])
        }
        return table.text
    }
}
