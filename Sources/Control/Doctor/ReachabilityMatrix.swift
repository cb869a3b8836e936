internal import DaemonRuntime
internal import Protocol

/// Who reaches whom, as far as it is known: by connections that this host and every worker have
/// tried, else by the view that two workers have joined, because joining means an exchange with all
/// others. Pure.
struct ReachabilityMatrix {
    /// A larger one fits no screen.
    static let workersMax = 16

    struct Way: Hashable {
        let worker: UInt32
        let attempt: ConnectionProbe.Attempt
    }

    private let report: StatusReport
    private let ways: [Way]
    /// By workers; nil where the coordinator or all workers are too old for it.
    private let probes: ProbeReport?

    init(_ report: StatusReport, ways: [Way], probes: ProbeReport? = nil) {
        self.probes = probes
        self.report = report
        self.ways = ways
    }

    /// Empty where there is no worker, or too many.
    var text: String {
        let workers = report.workers
        guard !workers.isEmpty, workers.count <= Self.workersMax else { return "" }
        var table = TextTable(["FROM \\ TO"] + workers.map { "worker \($0.worker)" })
        table.add(
            ["this host"]
                + workers.map { worker in
                    switch ways.first(where: { $0.worker == worker.worker })?.attempt {
                    case .connected(let time): Readable.time(time)
                    case .failed: "FAILED"
                    case nil: "?"
                    }
                })
        for from in workers {
            table.add(
                ["worker \(from.worker)"]
                    + workers.map { cell(from, $0) })
        }
        return table.text
    }

    private func cell(_ from: PeerStatus, _ to: PeerStatus) -> String {
        if from.worker == to.worker { return "-" }
        let row = probes?.rows.first { $0.worker == from.worker }
        if let way = row?.ways.first(where: { $0.worker == to.worker }) {
            return way.time.map { Readable.time($0) } ?? "FAILED"
        }
        let view = report.view
        return from.isMember && to.isMember ? "view \(view)" : "?"
    }
}
