internal import Protocol

/// What `serve` shows: lines, and on a terminal one line that changes below them.
final class ServeScreen {
    private static let columnsMax = 110
    private let output: ControlOutput
    private var isDirty = false
    private var shown = ""
    /// Bytes of each worker's part of the model.
    private var loads: [String: (done: Int, whole: Int)] = [:]

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
        var isLoading = false
        for (name, status) in statuses {
            let words = status.split(separator: " ")
            if words.count == 7, words[0] == "loading", let part = Int(words[3]),
                let whole = Int(words[5])
            {
                isLoading = true
                loads[name] = (part, whole)
            } else if let load = loads[name] {
                // It has all, and says something else by now.
                loads[name] = (load.whole, load.whole)
            }
        }
        let done = loads.values.reduce(0) { $0 + $1.done }
        let total = loads.values.reduce(0) { $0 + $1.whole }
        guard isLoading, total > 0 else {
            progress(
                "handshake  "
                    + statuses.map { "\($0.name): \($0.status)" }.joined(separator: "; "))
            return
        }
        let percent = 100 * done / total
        let full = min(30, 30 * done / total)
        let bar = String(repeating: "#", count: full) + String(repeating: ".", count: 30 - full)
        let rate = Int(Double(done) / 1e6 / max(time.seconds, 1e-3))
        progress("loading    [\(bar)] \(percent) % \(rate) MB/s")
    }
}
