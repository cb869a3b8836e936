internal import Glibc

/// Where a command writes: standard output for what was asked, standard error for what went wrong.
/// Tests put collectors in their places.
public struct ControlOutput {
    public let write: (String) -> Void
    public let complain: (String) -> Void
    /// Standard output is a terminal, so that a screen can be drawn again.
    public let isTerminal: Bool

    public init(
        isTerminal: Bool, write: @escaping (String) -> Void,
        complain: @escaping (String) -> Void
    ) {
        self.isTerminal = isTerminal
        self.write = write
        self.complain = complain
    }

    /// Of the process.
    public static func standard() -> ControlOutput {
        ControlOutput(
            isTerminal: isatty(STDOUT_FILENO) == 1,
            write: { writeAll($0, to: STDOUT_FILENO) },
            complain: { writeAll("phalanxctl: \($0)\n", to: STDERR_FILENO) })
    }

    private static func writeAll(_ text: String, to descriptor: Int32) {
        let bytes = Array(text.utf8)
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count < 0 && errno == EINTR { continue }
            // Nobody reads any more, as with `phalanxctl status | head`.
            if count <= 0 { return }
            written += count
        }
    }
}
