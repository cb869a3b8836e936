/// What one check of `phalanxctl doctor` found.
struct Finding: Hashable, Sendable {
    enum Severity: Int, Hashable, Comparable, Sendable {
        case ok = 0
        /// Worth knowing; nothing is wrong.
        case note = 1
        /// It works, worse than it could, or not for long.
        case warning = 2
        /// It does not work.
        case error = 3

        static func < (left: Severity, right: Severity) -> Bool { left.rawValue < right.rawValue }

        var word: String {
            switch self {
            case .ok: "ok"
            case .note: "note"
            case .warning: "warning"
            case .error: "error"
            }
        }
    }

    let severity: Severity
    /// The thing that was looked at: a port, a path, a worker.
    let place: String
    let text: String
    /// What to do; empty when nothing is to be done.
    let remedy: String

    static func ok(_ place: String, _ text: String) -> Finding {
        Finding(severity: .ok, place: place, text: text, remedy: "")
    }

    static func note(_ place: String, _ text: String, _ remedy: String = "") -> Finding {
        Finding(severity: .note, place: place, text: text, remedy: remedy)
    }

    static func warning(_ place: String, _ text: String, _ remedy: String) -> Finding {
        Finding(severity: .warning, place: place, text: text, remedy: remedy)
    }

    static func error(_ place: String, _ text: String, _ remedy: String) -> Finding {
        Finding(severity: .error, place: place, text: text, remedy: remedy)
    }
}

/// One entry of the doctor's table: what it looks at, and how.
struct DoctorCheck: Sendable {
    let name: String
    let run: @Sendable (DoctorContext) -> [Finding]
}

/// The findings of all checks, for people and for programs. Pure.
struct DoctorReport {
    struct Entry: Hashable {
        let check: String
        let finding: Finding
    }

    let entries: [Entry]

    var worst: Finding.Severity { entries.map(\.finding.severity).max() ?? .ok }

    func exit(isStrict: Bool) -> ControlExit {
        switch worst {
        case .ok, .note: .success
        case .warning: isStrict ? .finding : .success
        case .error: .finding
        }
    }

    private func count(_ severity: Finding.Severity) -> Int {
        entries.count { $0.finding.severity == severity }
    }

    /// In the order of the table, and what is wrong again at the end.
    func text(matrix: String = "") -> String {
        var text = ""
        for entry in entries { text += Self.line(entry) }
        text += matrix.isEmpty ? "\n" : "\n\(matrix)\n"
        let bad = entries.filter { $0.finding.severity >= .warning }
            .sorted { $0.finding.severity > $1.finding.severity }
        for entry in bad { text += Self.line(entry) }
        let counts =
            "\(Readable.plural(count(.error), "error")), "
            + "\(Readable.plural(count(.warning), "warning")), "
            + "\(Readable.plural(count(.note), "note"))"
        return text + counts + "\n"
    }

    private static func line(_ entry: Entry) -> String {
        let finding = entry.finding
        let severity = pad(finding.severity.word, to: 8)
        var line = "\(severity)\(pad(entry.check, to: 14))\(finding.place): \(finding.text)"
        if !finding.remedy.isEmpty { line += " -> \(finding.remedy)" }
        return TextTable.printable(line) + "\n"
    }

    private static func pad(_ text: String, to width: Int) -> String {
        text + String(repeating: " ", count: max(width - text.count, 1))
    }

    var json: String {
        JSONText.members([
            "worst": .string(worst.word),
            "errors": .integer(Int64(count(.error))),
            "warnings": .integer(Int64(count(.warning))),
            "findings": .array(
                entries.map { entry in
                    .members([
                        "severity": .string(entry.finding.severity.word),
                        "check": .string(entry.check),
                        "where": .string(entry.finding.place),
                        "what": .string(entry.finding.text),
                        "remedy": .string(entry.finding.remedy),
                    ])
                }),
        ]).text + "\n"
    }
}
