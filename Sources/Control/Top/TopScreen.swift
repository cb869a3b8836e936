internal import Protocol

/// `phalanxctl top` as text: a screen, or lines. Pure.
enum TopScreen {
    static func lines(_ state: TopState, endpoint: String) -> [String] {
        guard let report = state.report else { return ["waiting for \(endpoint)"] }
        let health = DeploymentHealth(report)
        let time = TopState.clock(report.wallClockMicroseconds)
        var lines = [
            "\(time) UTC  \(StatusScreen.deployment(report))  view \(report.view) "
                + "\(report.viewState.word) for \(Readable.time(report.viewAge))",
            health.serves ? "serving" : "not serving: \(health.problems[0])",
            totals(state, report),
            "",
        ]
        lines += table(state, report)
        if !state.events.isEmpty { lines += [""] + state.events }
        return lines.map(TextTable.printable)
    }

    static func totals(_ state: TopState, _ report: StatusReport) -> String {
        let rates = report.workers.compactMap { state.rates(of: $0.worker) }
        let leaders = report.workers.filter { $0.tpRank == 0 }
        let leading = leaders.compactMap { state.rates(of: $0.worker) }
        let running = leaders.reduce(0) { $0 + Int($1.load.running) }
        let waiting = leaders.reduce(0) { $0 + Int($1.load.waiting) }
        let imbalance = rates.compactMap(\.imbalance).max()
        return "ticks/s \(number(rates.map(\.ticks).max()))"
            + "  tokens/s in \(number(sum(leading, \.promptTokens)))"
            + " out \(number(sum(leading, \.generationTokens)))"
            + "  running \(running)  waiting \(waiting)"
            + "  imbalance \(imbalance.map { Readable.number($0, decimals: 2) } ?? "-")"
    }

    private static func sum(
        _ rates: [TopState.Rates], _ path: KeyPath<TopState.Rates, Double>
    ) -> Double? {
        rates.isEmpty ? nil : rates.reduce(0) { $0 + $1[keyPath: path] }
    }

    private static func number(_ value: Double?) -> String {
        value.map { Readable.number($0) } ?? "-"
    }

    private static func percent(_ value: Double?) -> String {
        value.map { Readable.percent($0) } ?? "-"
    }

    /// What matters most stands first: a narrow window cuts the rest.
    private static func table(_ state: TopState, _ report: StatusReport) -> [String] {
        var table = TextTable([
            "W", "DP", "TP", "STAGE", "TICKS/S", "IN/S", "OUT/S", "RUN", "WAIT", "KV", "ROWS",
            "DUMMY", "WAITED", "PREFILL", "HEARD", "NODE",
        ])
        for peer in report.workers {
            let rates = state.rates(of: peer.worker)
            let relative = rates?.relative
            table.add([
                "\(peer.worker)", "\(peer.dpRank)", "\(peer.tpRank)",
                StatusScreen.stage(peer), number(rates?.ticks), number(rates?.promptTokens),
                number(rates?.generationTokens), "\(peer.load.running)", "\(peer.load.waiting)",
                Readable.percent(Double(peer.load.kvCacheUsage)),
                relative.map { Readable.number($0, decimals: 2) } ?? "-",
                percent(rates?.dummies), percent(rates?.waited),
                "\(peer.load.pendingPrefillTokens)", Readable.time(peer.silence) + " ago",
                peer.node,
            ])
        }
        return table.text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            .map(String.init)
    }

    /// For what is no terminal: one line a worker, `key=value`.
    static func plain(_ state: TopState) -> [String] {
        guard let report = state.report else { return [] }
        let time = TopState.clock(report.wallClockMicroseconds)
        let total =
            "\(time) view=\(report.view) state=\(report.viewState.word) "
            + "serving=\(DeploymentHealth(report).serves) gateways=\(report.gateways.count)"
        return [total]
            + report.workers.map { peer in
                let rates = state.rates(of: peer.worker)
                let imbalance = rates?.imbalance.map { Readable.number($0, decimals: 2) } ?? "-"
                let relative = rates?.relative.map { Readable.number($0, decimals: 2) } ?? "-"
                return TextTable.printable(
                    "\(time) worker=\(peer.worker) dp_rank=\(peer.dpRank) tp_rank=\(peer.tpRank) "
                        + "stage=\(peer.stage?.word ?? "new") tick=\(peer.load.tick) "
                        + "ticks_per_s=\(number(rates?.ticks)) "
                        + "in_per_s=\(number(rates?.promptTokens)) "
                        + "out_per_s=\(number(rates?.generationTokens)) "
                        + "running=\(peer.load.running) waiting=\(peer.load.waiting) "
                        + "kv=\(Readable.number(Double(peer.load.kvCacheUsage), decimals: 3)) "
                        + "imbalance=\(imbalance) rows_per_mean=\(relative) "
                        + "dummy=\(rates.map { Readable.number($0.dummies, decimals: 3) } ?? "-") "
                        + "waited=\(rates.map { Readable.number($0.waited, decimals: 3) } ?? "-")")
            }
    }
}
