internal import CSystemd
internal import Glibc
internal import Protocol

/// Structured log lines: to the journal as fields when the daemon's stderr is the journal, and
/// else as one line each on stderr, `<severity> daemon: message key=value …`.
public final class Logger: Sendable {
    public enum Level: Int32, Comparable, Sendable, CaseIterable {
        case error = 3
        case warning = 4
        case notice = 5
        case info = 6
        case debug = 7

        public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }

        public init?(name: String) {
            switch name {
            case "error": self = .error
            case "warning": self = .warning
            case "notice": self = .notice
            case "info": self = .info
            case "debug": self = .debug
            default: return nil
            }
        }

        var name: String {
            switch self {
            case .error: "error"
            case .warning: "warning"
            case .notice: "notice"
            case .info: "info"
            case .debug: "debug"
            }
        }
    }

    public typealias Fields = KeyValuePairs<String, Any>

    /// Which of the messages that an outsider can provoke are logged.
    struct Throttle {
        private var last: [String: Instant] = [:]
        private var suppressed: [String: Int] = [:]

        /// How many were left out before this one, or nil when this one is left out too.
        mutating func admit(_ message: String, at now: Instant) -> Int? {
            if let last = last[message] {
                if now - last < .seconds(1) {
                    suppressed[message, default: 0] += 1
                    return nil
                }
            } else if last.count >= Logger.throttledMessagesMax {
                return nil
            }
            last[message] = now
            return suppressed.removeValue(forKey: message) ?? 0
        }
    }

    private let daemon: String
    private let threshold: Lock<Level>
    private let descriptor: Int32
    private let toJournal: Bool
    private let throttle = Lock(Throttle())
    /// Distinct throttled messages remembered; beyond it they are no longer logged one by one.
    static let throttledMessagesMax = 1000

    public init(daemon: String, threshold: Level = .info) {
        self.daemon = daemon
        self.threshold = Lock(threshold)
        descriptor = STDERR_FILENO
        toJournal = Self.isJournal(STDERR_FILENO)
    }

    /// Lines go to `descriptor`, never to the journal.
    init(daemon: String, threshold: Level, descriptor: Int32) {
        self.daemon = daemon
        self.threshold = Lock(threshold)
        self.descriptor = descriptor
        toJournal = false
    }

    /// From now on.
    public func setThreshold(_ level: Level) { threshold.withLock { $0 = level } }

    /// systemd.exec(5): the variable names the device and inode of the stream, because a process
    /// whose stderr was redirected inherits it too.
    private static func isJournal(_ descriptor: Int32) -> Bool {
        guard let stream = getenv("JOURNAL_STREAM") else { return false }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return false }
        return String(cString: stream) == "\(status.st_dev):\(status.st_ino)"
    }

    public func error(_ message: String, _ fields: Fields = [:]) { log(.error, message, fields) }
    public func warning(_ message: String, _ fields: Fields = [:]) {
        log(.warning, message, fields)
    }
    public func notice(_ message: String, _ fields: Fields = [:]) { log(.notice, message, fields) }
    public func info(_ message: String, _ fields: Fields = [:]) { log(.info, message, fields) }
    public func debug(_ message: String, _ fields: Fields = [:]) { log(.debug, message, fields) }

    /// For what an outsider can provoke: at most once a second for each `message`, with a count of
    /// what was left out.
    public func throttledWarning(_ message: String, _ fields: Fields = [:]) {
        let now = MonotonicClock.now()
        let suppressed = throttle.withLock { $0.admit(message, at: now) }
        guard let suppressed else { return }
        let note = suppressed > 0 ? " (and \(suppressed) more in the last second)" : ""
        log(.warning, message + note, fields)
    }

    private func log(_ level: Level, _ message: String, _ fields: Fields) {
        guard level <= threshold.withLock({ $0 }) else { return }
        if toJournal && sendToJournal(level, message, fields) { return }
        var line = "\(level.name) \(daemon): \(message)"
        for (key, value) in fields {
            let text = "\(value)"
            line += text.contains(" ") ? " \(key)=\"\(text)\"" : " \(key)=\(text)"
        }
        line = String(line.map { $0 == "\n" ? " " : $0 }) + "\n"
        // One write a line, so that lines of several processes do not mix.
        var line8 = line
        line8.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
    }

    private func sendToJournal(_ level: Level, _ message: String, _ fields: Fields) -> Bool {
        var entries = [
            "MESSAGE=\(message)", "PRIORITY=\(level.rawValue)", "SYSLOG_IDENTIFIER=\(daemon)",
        ]
        for (key, value) in fields { entries.append("PHALANX_\(key.uppercased())=\(value)") }
        let copies = entries.map { strdup($0) }
        defer { for copy in copies { free(copy) } }
        let vectors = copies.map { iovec(iov_base: $0, iov_len: $0.map { strlen($0) } ?? 0) }
        return sd_journal_sendv(vectors, Int32(vectors.count)) == 0
    }
}
