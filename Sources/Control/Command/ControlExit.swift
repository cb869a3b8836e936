internal import DaemonRuntime

/// How a command ended, as the process's exit code.
public enum ControlExit: Int32, Sendable {
    case success = 0
    /// It was done, and found or met something that somebody should look at.
    case finding = 1
    /// The command line or a file is refused (`EX_USAGE`).
    case usage = 64
}

/// Why a command could not do what it was asked.
public enum ControlError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was written is not acceptable: command line, configuration file.
    case usage(String)
    /// What was met is: no answer, no such worker.
    case failed(String)

    public var description: String {
        switch self {
        case .usage(let text), .failed(let text): text
        }
    }

    var exit: ControlExit {
        switch self {
        case .usage: .usage
        case .failed: .finding
        }
    }
}
