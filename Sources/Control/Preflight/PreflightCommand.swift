internal import DaemonRuntime
internal import Protocol

/// `phalanxctl doctor --preflight ROLE`: what a unit runs before its daemon. It looks at what
/// concerns that daemon on this host alone, asks nobody over the network, and is over within
/// ``deadline`` whatever hangs. Only what the daemon would fail at, or serve wrongly with, is an
/// error; what cannot be seen from inside a hardened unit is none.
enum PreflightCommand {
    /// For all checks together, which run side by side.
    static let deadline = Interval.seconds(2)

    static let page = """
          --preflight ROLE                  before a daemon starts, for ExecStartPre=: only what
                                            concerns a coordinator, gateway or worker on this host,
                                            within 2 s and without asking anybody; takes the
                                            daemon's own options and prints lines of the journal
          --preflight-refuse WHAT           exit code 1 for error (default), warning too, or never

        """

    /// What makes the exit code 1, so that the unit does not start.
    enum Refusal: String, CaseIterable {
        case error
        case warning
        case never

        func refuses(_ worst: Finding.Severity) -> Bool {
            switch self {
            case .error: worst >= .error
            case .warning: worst >= .warning
            case .never: false
            }
        }
    }

    struct Arguments {
        let daemon: DaemonKind
        let refusal: Refusal
        let options: Options

        /// The options of the daemon, as its own command line has them, and those of the check.
        init(_ arguments: [String]) throws(ControlError) {
            var role: String?
            var refusal: String?
            var rest: [String] = []
            var left = arguments[...]
            while let argument = left.popFirst() {
                let parts = argument.split(separator: "=", maxSplits: 1)
                switch parts.first {
                case "--preflight":
                    role = parts.count == 2 ? String(parts[1]) : left.popFirst()
                case "--preflight-refuse":
                    refusal = parts.count == 2 ? String(parts[1]) : left.popFirst()
                default:
                    rest.append(argument)
                }
            }
            guard let daemon = Self.daemon(role ?? "") else {
                throw .usage(
                    "doctor: --preflight takes coordinator, gateway or worker, not "
                        + "\"\(role ?? "")\"")
            }
            guard let known = Refusal(rawValue: refusal ?? Refusal.error.rawValue) else {
                throw .usage(
                    "doctor: --preflight-refuse takes "
                        + Refusal.allCases.map(\.rawValue).joined(separator: ", ")
                        + ", not \"\(refusal ?? "")\"")
            }
            self.daemon = daemon
            self.refusal = known
            do throws(OptionError) {
                options = try Options(daemon: daemon, arguments: rest)
            } catch {
                throw .usage("doctor: \(error)")
            }
        }

        private static func daemon(_ role: String) -> DaemonKind? {
            switch role {
            case "coordinator": .coordinator
            case "gateway": .gateway
            case "worker": .worker
            default: nil
            }
        }
    }

    static func isAsked(_ arguments: [String]) -> Bool {
        arguments.contains { $0.prefix { $0 != "=" }.hasPrefix("--preflight") }
    }

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let arguments = try Arguments(arguments)
        let checks = PreflightChecks.all(of: arguments.daemon)
        let report = PreflightReport(
            daemon: arguments.daemon,
            entries: entries(checks, arguments.options, within: deadline))
        output.write(report.text)
        return arguments.refusal.refuses(report.worst) ? .finding : .success
    }

    private struct Answer: Sendable {
        let index: Int
        let findings: [Finding]
    }

    /// Each check in a thread of its own: one that hangs (on a network file system, on a name
    /// server) keeps the others from nothing, and ends with the process.
    static func entries(
        _ checks: [PreflightCheck], _ options: Options, within limit: Interval
    ) -> [DoctorReport.Entry] {
        let answers = Mailbox<Answer>(capacity: checks.count)
        let end = MonotonicClock.now() + limit
        for (index, check) in checks.enumerated() {
            _ = NamedThread("preflight") {
                _ = answers.post(Answer(index: index, findings: check.run(options)))
            }
        }
        var known: [Int: [Finding]] = [:]
        var taken: [Answer] = []
        while known.count < checks.count && MonotonicClock.now() < end {
            answers.wait(until: end)
            answers.takeAll(into: &taken)
            for answer in taken { known[answer.index] = answer.findings }
            taken.removeAll()
        }
        return checks.enumerated().flatMap { index, check in
            let late = Finding.warning(
                check.name, "not known after \(Readable.time(limit))",
                "look at the disk or the name server that it waits for")
            return (known[index] ?? [late]).map {
                DoctorReport.Entry(check: check.name, finding: $0)
            }
        }
    }
}

/// One thing to look at before a daemon starts.
struct PreflightCheck: Sendable {
    let name: String
    let run: @Sendable (Options) -> [Finding]
}

/// The findings as lines of the journal: with the priority that `sd-daemon(3)` defines before each,
/// and one line that says how it went. Pure.
struct PreflightReport {
    let daemon: DaemonKind
    let entries: [DoctorReport.Entry]

    var worst: Finding.Severity { entries.map(\.finding.severity).max() ?? .ok }

    var text: String {
        var text = ""
        for entry in entries where entry.finding.severity > .ok {
            let finding = entry.finding
            let remedy = finding.remedy.isEmpty ? "" : " -> \(finding.remedy)"
            text += line(
                finding.severity, "\(entry.check): \(finding.place): \(finding.text)\(remedy)")
        }
        let bad = entries.count { $0.finding.severity >= .warning }
        return text
            + line(
                .ok,
                "\(Readable.plural(entries.count, "thing")) looked at, "
                    + "\(bad == 0 ? "nothing" : "\(bad)") to mend")
    }

    private func line(_ severity: Finding.Severity, _ text: String) -> String {
        "<\(Self.priority(severity))>preflight of \(daemon.rawValue): "
            + TextTable.printable(text) + "\n"
    }

    /// Of syslog: 3 error, 4 warning, 5 notice, 6 information.
    private static func priority(_ severity: Finding.Severity) -> Int {
        switch severity {
        case .error: 3
        case .warning: 4
        case .note: 5
        case .ok: 6
        }
    }
}
