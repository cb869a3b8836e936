internal import Protocol

/// What `serve` shows: lines, and on a terminal one line that changes below them.
final class ServeScreen {
    private static let columnsMax = 110
    private let output: ControlOutput
    private var isDirty = false
    private var shown = ""

    init(_ output: ControlOutput) { self.output = output }

    func line(_ text: String) {
        output.write((isDirty ? "\r\u{1B}[K" : "") + text + "\n")
        isDirty = false
        shown = ""
    }

    func progress(_ text: String) {
        guard output.isTerminal, text != shown else { return }
        shown = text
        isDirty = true
        output.write("\r\u{1B}[K" + text.prefix(Self.columnsMax))
    }

    /// The workers' `loading P % B of T bytes` as one bar with a rate; else what they say.
    func showLoading(_ statuses: [(name: String, status: String)], for time: Interval) {
        var (done, total) = (0, 0)
        for (_, status) in statuses {
            let words = status.split(separator: " ")
            guard words.count == 7, words[0] == "loading", let part = Int(words[3]),
                let whole = Int(words[5])
            else { continue }
            done += part
            total += whole
        }
        guard total > 0 else {
            progress(
                "handshake  "
                    + statuses.map { "\($0.name): \($0.status)" }.joined(separator: "; "))
            return
        }
        let percent = 100 * done / total
        let full = 30 * done / total
        let bar = String(repeating: "#", count: full) + String(repeating: ".", count: 30 - full)
        let rate = Int(Double(done) / 1e6 / max(time.seconds, 1e-3))
        progress("loading    [\(bar)] \(percent) % \(rate) MB/s")
    }
}
