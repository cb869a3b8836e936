/// The three daemons, as options know them.
public enum DaemonKind: String, Hashable, Sendable, CaseIterable {
    case gateway = "phalanx-gateway"
    case coordinator = "phalanx-coordinator"
    case worker = "phalanx-engine-worker"
}

/// One option: a flag `--name value`, and the key `name` of the configuration file.
public struct OptionSpecification: Sendable {
    public enum Kind: Hashable, Sendable {
        case integer(ClosedRange<Int>)
        case number(ClosedRange<Double>)
        case text
        case choice([String])
        /// `--name` and `--no-name`; `true` and `false` in a file.
        case flag
        /// May be given several times; a sequence in a file.
        case list
    }

    public enum Scope: Hashable, Sendable {
        /// The same on every node: the coordinator's value counts, and whoever declares another one
        /// is refused.
        case deployment
        /// Of this process. The file may hold it for other daemons too.
        case node([DaemonKind])
        /// Of `phalanxctl`, which chooses the processes of a node. The file may hold it.
        case launcher
    }

    public let name: String
    public let kind: Kind
    public let scope: Scope
    /// nil: no value unless given.
    public let defaultValue: String?
    public let help: String
    /// A running process takes another value over (SIGHUP); for the others it must be restarted.
    public let isReloadable: Bool
    /// Values that vLLM knows and Phalanx refuses, with the reason.
    public let refused: [String: String]
    /// What else may be wrong with a value of this kind, or nil.
    private let check: (@Sendable (String) -> String?)?

    public init(
        _ name: String,
        _ kind: Kind,
        _ scope: Scope,
        default defaultValue: String? = nil,
        refused: [String: String] = [:],
        check: (@Sendable (String) -> String?)? = nil,
        isReloadable: Bool = false,
        help: String
    ) {
        self.name = name
        self.kind = kind
        self.scope = scope
        self.defaultValue = defaultValue
        self.refused = refused
        self.check = check
        self.isReloadable = isReloadable
        self.help = help
    }

    /// Whether `daemon` takes it as a flag.
    public func belongs(to daemon: DaemonKind) -> Bool {
        switch scope {
        case .deployment: true
        case .node(let daemons): daemons.contains(daemon)
        case .launcher: false
        }
    }

    /// Why `value` is not acceptable, or nil.
    public func problem(with value: String) -> String? {
        if let reason = refused[value] { return reason }
        switch kind {
        case .integer(let range):
            guard let number = Int(value) else { return "\"\(value)\" is not a whole number" }
            if range.contains(number) { return nil }
            return "\(number) is not in \(range.lowerBound)...\(range.upperBound)"
        case .number(let range):
            guard let number = Double(value) else { return "\"\(value)\" is not a number" }
            if range.contains(number) { return nil }
            return "\(number) is not in \(range.lowerBound)...\(range.upperBound)"
        case .choice(let choices):
            if choices.contains(value) { return nil }
            return "\"\(value)\" is none of \(choices.joined(separator: ", "))"
        case .flag:
            return value == "true" || value == "false" ? nil : "\"\(value)\" is not true or false"
        case .text, .list:
            return check?(value)
        }
    }
}
