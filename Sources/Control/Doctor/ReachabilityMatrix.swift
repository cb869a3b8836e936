internal import Protocol

/// Who reaches whom, as far as it is known: from this host by connections that were tried, between
/// workers by the view that they have joined, because joining means an exchange with all others.
/// Pure.
struct ReachabilityMatrix {
    /// A larger one fits no screen.
    static let workersMax = 16

    struct Way: Hashable {
        let worker: UInt32
        let attempt: ConnectionProbe.Attempt
    }

    private let report: StatusReport
    private let ways: [Way]

    init(_ report: StatusReport, ways: [Way]) {
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
                    + workers.map { Self.cell(from, $0, view: report.view) })
        }
        return table.text
    }

    private static func cell(_ from: PeerStatus, _ to: PeerStatus, view: UInt32) -> String {
        if from.worker == to.worker { return "-" }
        return from.isMember && to.isMember ? "view \(view)" : "?"
    }
}
