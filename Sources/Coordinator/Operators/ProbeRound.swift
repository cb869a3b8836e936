import Protocol

/// One round of trying all ways between workers, for all operators that ask while it runs. A round
/// costs a connection a pair, so there is one at a time, and whoever asks soon after it gets the
/// same report. Pure.
struct ProbeRound {
    /// Workers give up before that.
    static let deadline = Interval.seconds(4)
    /// For so long a report is new enough.
    static let validFor = Interval.seconds(5)
    static let askersMax = 16

    enum RequestAction: Equatable {
        case begin
        /// The round that runs answers this one too.
        case wait
        case answer(ProbeReport)
    }

    struct Finished: Equatable {
        let report: ProbeReport
        let askers: [PeerIdentity]
    }

    private var round: UInt64 = 0
    private var askers: [PeerIdentity] = []
    private var began: Instant?
    /// Whose answer is missing.
    private var open: Set<UInt32> = []
    private var rows: [UInt32: ProbeReport.Row] = [:]
    private var last: (report: ProbeReport, at: Instant)?

    mutating func onRequest(of identity: PeerIdentity, at now: Instant) -> RequestAction {
        if let last, began == nil, now - last.at <= Self.validFor { return .answer(last.report) }
        if !askers.contains(identity), askers.count < Self.askersMax { askers.append(identity) }
        return began == nil ? .begin : .wait
    }

    /// - Parameter problems: of workers that are not asked.
    /// - Returns: the name of the round.
    mutating func begin(
        asking workers: [UInt32], problems: [UInt32: String], at now: Instant
    ) -> UInt64 {
        round += 1
        began = now
        open = Set(workers)
        rows = problems.reduce(into: [:]) { rows, entry in
            rows[entry.key] = ProbeReport.Row(worker: entry.key, problem: entry.value)
        }
        return round
    }

    mutating func onResult(_ result: ProbeResult, of worker: UInt32) {
        guard began != nil, result.round == round, open.remove(worker) != nil else { return }
        rows[worker] = ProbeReport.Row(worker: worker, ways: ProbeWay.bounded(result.ways))
    }

    mutating func finishIfComplete(at now: Instant) -> Finished? {
        began != nil && open.isEmpty ? finish(at: now) : nil
    }

    mutating func onTimer(at now: Instant) -> Finished? {
        guard let began, now - began >= Self.deadline else { return nil }
        for worker in open {
            rows[worker] = ProbeReport.Row(worker: worker, problem: "has not answered in time")
        }
        return finish(at: now)
    }

    private mutating func finish(at now: Instant) -> Finished {
        let report = ProbeReport(
            round: round, rows: rows.values.sorted { $0.worker < $1.worker })
        defer { (askers, began, open, rows) = ([], nil, [], [:]) }
        last = (report, now)
        return Finished(report: report, askers: askers)
    }
}
