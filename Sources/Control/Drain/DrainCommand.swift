internal import DaemonRuntime
internal import Protocol

/// `phalanxctl drain RANK`: asks that the workers of a DP rank leave as at SIGTERM, and says what
/// happens until they have, or until the time is over.
enum DrainCommand {
    static let synopsis = (
        arguments: "RANK", summary: "let the worker of a DP rank finish its sequences and leave"
    )
    static let page = """
        usage: phalanxctl drain RANK [--option value ...]

        The coordinator asks the workers of DP rank RANK to drain, as SIGTERM does: they take no new
        sequences, finish those that they have (at most their --shutdown-timeout), and end with exit
        code 0. What they do not finish goes to other ranks, with the tokens that clients have. The
        other ranks go on without them, unless they are fewer than --data-parallel-size-min.

          --timeout SECONDS                 for all of it (default: 60)
        \(ControlArguments.page)
        Exit codes: 0 the workers have left; 1 refused, or not over in time (it goes on);
        64 for a refused command line.

        """
    static let timeoutSecondsDefault = 60
    static let lookEvery = Interval.milliseconds(250)
    /// For the first answer; the whole may take much longer.
    static let answerWithin = Interval.seconds(5)

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let arguments = try ControlArguments(
            arguments, command: "drain", flags: [], wordsMax: 1,
            timeoutSeconds: timeoutSecondsDefault)
        guard let word = arguments.words.first else {
            throw .usage("drain: which DP rank? phalanxctl status lists them")
        }
        guard let rank = UInt32(word) else {
            throw .usage("drain: \"\(word)\" is no DP rank; phalanxctl status lists them")
        }
        let link = try OperatorLink(
            endpoint: arguments.endpoint, security: arguments.security())
        defer { link.close() }
        let deadline = MonotonicClock.now() + arguments.timeout
        let first = min(answerWithin, arguments.timeout)
        let report = try link.ask(.drainRequest(dpRank: rank), within: first) {
            body -> DrainReport? in
            guard case .drainReport(let report) = body, report.dpRank == rank else { return nil }
            return report
        }
        guard report.isAccepted else { throw .failed("drain: \(report.text)") }
        output.write(TextTable.printable(report.text) + "\n")
        var progress = DrainProgress(report)
        while !progress.isOver {
            let status: StatusReport
            do throws(ControlError) {
                let left = deadline - MonotonicClock.now()
                status = try link.status(within: min(answerWithin, left))
            } catch {
                if MonotonicClock.now() < deadline { throw error }
                throw .failed(
                    "drain: not over after \(Readable.time(arguments.timeout)); it goes on, look "
                        + "with phalanxctl status")
            }
            for line in progress.onReport(status) { output.write(TextTable.printable(line) + "\n") }
            if !progress.isOver {
                let next = min(MonotonicClock.now() + lookEvery, deadline)
                _ = link.loop.run(until: next) { false }
            }
        }
        return .success
    }
}

/// Turns the reports that follow a drain into lines, one for each change. Pure.
struct DrainProgress {
    private let dpRank: UInt32
    private let leaving: Set<Incarnation>
    private var sequencesTold: UInt32?
    private(set) var isOver = false

    init(_ report: DrainReport) {
        dpRank = report.dpRank
        leaving = Set(report.incarnations)
    }

    mutating func onReport(_ report: StatusReport) -> [String] {
        let here = report.workers.filter { leaving.contains($0.incarnation) }
        if here.isEmpty {
            isOver = true
            // After a drain a worker's exit code is 0; how this one ended is for who started it.
            var lines = ["DP rank \(dpRank) has left"]
            if !report.viewReason.isEmpty { lines.append("the view ended: \(report.viewReason)") }
            return lines + [Self.afterwards(report)]
        }
        guard here.contains(where: { $0.stage == .draining }) else { return [] }
        let sequences = here.reduce(0) { $0 + $1.load.running + $1.load.waiting }
        guard sequences != sequencesTold else { return [] }
        sequencesTold = sequences
        return ["draining: \(Readable.plural(Int(sequences), "sequence")) left"]
    }

    private static func afterwards(_ report: StatusReport) -> String {
        if report.viewState == .active {
            let members = Readable.plural(report.workers.count { $0.isMember }, "worker")
            return "view \(report.view) is active with \(members)"
        }
        return "the other ranks go on without it; a worker that is started takes the place"
    }
}
