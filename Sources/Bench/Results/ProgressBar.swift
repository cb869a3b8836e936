internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// One line on stderr that shows how far a run is, as tqdm draws it; nothing unless stderr is a
/// terminal.
final class ProgressBar {
    static let barWidth = 30
    static let spacing = Interval.milliseconds(100)

    private let total: Int
    private let start = MonotonicClock.now()
    private let isShown: Bool
    private var lastDrawn: Instant?

    init(total: Int, isEnabled: Bool) {
        self.total = total
        isShown = isEnabled && isatty(STDERR_FILENO) == 1
    }

    func show(_ done: Int) {
        guard isShown else { return }
        let now = MonotonicClock.now()
        if done < total, let lastDrawn, now - lastDrawn < Self.spacing { return }
        lastDrawn = now
        StandardStreams.writeError(
            "\r" + Self.line(done: done, total: total, seconds: (now - start).seconds))
    }

    func end() {
        if isShown, lastDrawn != nil { StandardStreams.writeError("\n") }
    }

    /// " 46%|#####      | 23/50 [00:02<00:03,  8.91it/s]".
    static func line(done: Int, total: Int, seconds: Double) -> String {
        let part = total > 0 ? Double(done) / Double(total) : 1
        let filled = Int(part * Double(barWidth))
        let bar =
            String(repeating: "█", count: filled)
            + String(repeating: " ", count: barWidth - filled)
        let rate = seconds > 0 ? Double(done) / seconds : 0
        let left = rate > 0 ? clock(Double(total - done) / rate) : "?"
        let speed = rate > 0 ? fixed(rate, decimals: 2) : "?"
        let percent = "\(Int(part * 100))"
        let padding = String(repeating: " ", count: max(0, 3 - percent.count))
        return "\(padding)\(percent)%|\(bar)| \(done)/\(total) [\(clock(seconds))<\(left), "
            + "\(speed)it/s]"
    }

    private static func clock(_ seconds: Double) -> String {
        let whole = Int(min(seconds, 359_999))
        let parts = [whole / 3600, whole / 60 % 60, whole % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }
        return (whole < 3600 ? parts.dropFirst() : parts[...]).joined(separator: ":")
    }
}
