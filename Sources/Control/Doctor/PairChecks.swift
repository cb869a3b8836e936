internal import DaemonRuntime
internal import Protocol

/// What is known of the ways between workers. Pure.
enum PairChecks {
    /// Ways that are named one by one; the others are counted.
    static let namedMax = 16

    /// By what the workers have tried, where they could be asked, else by the view.
    static func pairs(_ report: StatusReport, _ probes: ProbeReport?) -> [Finding] {
        guard let probes, !probes.rows.isEmpty else { return [pairs(report)] }
        let failed = probes.rows.flatMap { row in
            row.ways.filter { $0.time == nil }.map { (from: row.worker, way: $0) }
        }
        var findings = failed.prefix(namedMax).map { failure -> Finding in
            let reason = failure.way.problem.isEmpty ? "" : ": \(failure.way.problem)"
            return .error(
                "\(name(failure.from, report)) to \(name(failure.way.worker, report))",
                "not connected\(reason)",
                "look at routes and firewalls between the two hosts, and at --worker-address")
        }
        if failed.count > namedMax {
            findings.append(
                .error(
                    "workers", "\(failed.count - namedMax) more ways are not connected",
                    "the table has them all"))
        }
        findings += probes.rows.filter { !$0.problem.isEmpty }.map {
            .note(name($0.worker, report), "its ways are not tried: it \($0.problem)")
        }
        let times = probes.rows.flatMap { $0.ways.compactMap(\.time) }
        if let slowest = times.max(), failed.isEmpty {
            findings.append(
                .ok(
                    "workers",
                    "\(Readable.plural(times.count, "way")) between workers tried by them, all "
                        + "connected, the slowest in \(Readable.time(slowest))"))
        }
        return findings
    }

    private static func name(_ worker: UInt32, _ report: StatusReport) -> String {
        report.workers.first { $0.worker == worker }.map(DeploymentHealth.name)
            ?? "worker \(worker)"
    }

    /// Connections between workers are theirs to make; an active view is the proof that all pairs
    /// work, because its first operation is an exchange of all with all.
    static func pairs(_ report: StatusReport) -> Finding {
        let count = Int(report.worldSize)
        if report.viewState == .active {
            return .ok(
                "workers",
                "view \(report.view) has proven all \(count * (count - 1)) ways between "
                    + "\(Readable.plural(count, "worker"))")
        }
        let missing = report.workers.filter { !$0.isMember }.map { "\($0.worker)" }
        let names = missing.isEmpty ? "" : "; not connected: \(missing.joined(separator: ", "))"
        return .note(
            "workers", "no view is active, so nothing proves the ways between them\(names)",
            "run this on each host; a failed exchange names both workers in the log")
    }
}
