internal import Glibc
public import Protocol

/// Why the options of a daemon are refused: what, where, and what to do.
public struct OptionError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    public init(description: String) { self.description = description }
}

/// The options of one process: flags over file over defaults; each value checked against the table.
/// Where the file lists nodes, what it says of this process's node stands between flags and file.
public struct Options: Sendable {
    /// Whose options they are; nil for all daemons of a deployment together.
    public let daemon: DaemonKind?
    var values: [String: [String]] = [:]
    /// What the command line gave, in its order.
    let flags: [Given]
    private let arguments: [String]
    private let host: String
    /// The file's `nodes`.
    public private(set) var nodes: [NodeEntry] = []
    /// The one of them that this process runs on.
    public internal(set) var node: NodeEntry?

    /// - Parameters:
    ///   - arguments: without the program's name. A first argument that is no flag is the model, as
    ///     in `vllm serve MODEL`.
    ///   - host: the host's name, which chooses among the file's nodes without `--node-name`.
    /// - Throws: ``OptionError`` for an unknown flag or key (with the nearest known one), a value
    ///   out of range, a value that is refused, or an unreadable file (with the line).
    public init(
        daemon: DaemonKind?, arguments: [String], host: String = HostName.current
    ) throws(OptionError) {
        self.daemon = daemon
        self.arguments = arguments
        self.host = host
        flags = try Self.parse(arguments, for: daemon)
        if let path = flags.last(where: { $0.name == "config" })?.value {
            let file = try ConfigurationFile(path)
            for entry in file.given { try accept(entry) }
            nodes = file.nodes
            for entry in nodes.flatMap(\.given) { try check(entry) }
        }
        try takeFlags()
        if daemon != nil && !nodes.isEmpty { try take(try node(named: nil, host: host)) }
        try checkProtocols()
    }

    /// What command line and file say now.
    func readAgain() throws(OptionError) -> Options {
        try Options(daemon: daemon, arguments: arguments, host: host)
    }

    /// One option as it was given; `place` says where ("--port" or "file.yaml line 3").
    struct Given: Hashable {
        let name: String
        let value: String
        let place: String
    }

    mutating func takeFlags() throws(OptionError) {
        for name in Set(flags.map(\.name)) { values[name] = nil }
        for flag in flags { try accept(flag) }
    }

    mutating func accept(_ given: Given) throws(OptionError) {
        try check(given)
        if OptionTable.specification(of: given.name)?.kind == .list {
            values[given.name, default: []].append(given.value)
        } else {
            values[given.name] = [given.value]
        }
    }

    private func check(_ given: Given) throws(OptionError) {
        guard let specification = OptionTable.specification(of: given.name) else {
            throw Self.unknown(given)
        }
        if let problem = specification.problem(with: given.value) {
            throw OptionError(description: "\(given.place): \(given.name): \(problem)")
        }
    }

    static func unknown(_ given: Given) -> OptionError {
        let hint = OptionTable.nearest(to: given.name).map { "; did you mean \"\($0)\"?" } ?? ""
        if let other = VLLMOption.named(given.name) {
            return OptionError(
                description: "\(given.place): \(given.name): \(other.reason(for: given.value))")
        }
        return OptionError(description: "\(given.place): unknown option \"\(given.name)\"\(hint)")
    }

    private static func parse(
        _ arguments: [String], for daemon: DaemonKind?
    ) throws(OptionError) -> [Given] {
        var given: [Given] = []
        var index = 0
        if let first = arguments.first, !first.hasPrefix("-") {
            given.append(Given(name: "model", value: first, place: "first argument"))
            index = 1
        }
        while index < arguments.count {
            let argument = arguments[index]
            index += 1
            guard argument.hasPrefix("--") else {
                throw OptionError(description: "\"\(argument)\": expected an option (--name)")
            }
            let parts = argument.dropFirst(2).split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0]).replacing("_", with: "-")
            if name.hasPrefix("no-"), parts.count == 1,
                OptionTable.specification(of: String(name.dropFirst(3)))?.kind == .flag
            {
                let positive = String(name.dropFirst(3))
                given.append(Given(name: positive, value: "false", place: argument))
                continue
            }
            guard let specification = OptionTable.specification(of: name) else {
                throw unknown(Given(name: name, value: "", place: argument))
            }
            if let daemon, !specification.belongs(to: daemon) {
                let of = specification.scope == .launcher ? ", but of phalanxctl serve" : ""
                throw OptionError(
                    description: "\(argument): is no option of \(daemon.rawValue)\(of)")
            }
            if parts.count == 2 {
                given.append(Given(name: name, value: String(parts[1]), place: "--\(name)"))
            } else if specification.kind == .flag {
                given.append(Given(name: name, value: "true", place: argument))
            } else if index < arguments.count, !arguments[index].hasPrefix("--") {
                given.append(Given(name: name, value: arguments[index], place: argument))
                index += 1
            } else {
                throw OptionError(
                    description: "\(argument): needs a value (\(argument)=VALUE for any)")
            }
        }
        return given
    }

    // MARK: Reading

    /// The value as text: given, or the default; nil when there is neither.
    public func text(_ name: String) -> String? {
        values[name]?.last ?? specification(name).defaultValue
    }

    /// Whether command line or file gave it.
    public func isGiven(_ name: String) -> Bool { values[name] != nil }

    /// What the command line gave, in its order; lists several times.
    public var commandLine: [(name: String, value: String)] { flags.map { ($0.name, $0.value) } }

    /// Every value that this daemon runs with, given or not, but for where it was read.
    public var all: [String: [String]] {
        var all: [String: [String]] = [:]
        for specification in OptionTable.all where specification.name != "config" {
            if let daemon, !specification.belongs(to: daemon) { continue }
            all[specification.name] =
                values[specification.name] ?? specification.defaultValue.map { [$0] }
        }
        return all
    }

    public func list(_ name: String) -> [String] { values[name] ?? [] }

    public func integer(_ name: String) -> Int? { text(name).flatMap(Int.init) }

    public func flag(_ name: String) -> Bool { text(name) == "true" }

    /// For options that have a default.
    public func requiredInteger(_ name: String) -> Int {
        guard let value = integer(name) else { preconditionFailure("--\(name) has no default") }
        return value
    }

    public func requiredText(_ name: String) -> String {
        guard let value = text(name) else { preconditionFailure("--\(name) has no default") }
        return value
    }

    private func specification(_ name: String) -> OptionSpecification {
        guard let specification = OptionTable.specification(of: name) else {
            preconditionFailure("--\(name) is not in the table")
        }
        return specification
    }

    // MARK: The deployment-wide part

    /// The deployment-wide keys that were given here, in the table's order: what must be the same
    /// at the coordinator. Limits that it may change meanwhile are not among them.
    public var declared: [ConfigurationEntry] {
        OptionTable.deployment.filter { !$0.isReloadable }.compactMap { specification in
            values[specification.name]?.last.map {
                ConfigurationEntry(key: specification.name, value: $0)
            }
        }
    }

    /// All deployment-wide keys that have a value, in the table's order: what the coordinator hands
    /// out.
    public var effective: [ConfigurationEntry] {
        OptionTable.deployment.compactMap { specification in
            text(specification.name).map { ConfigurationEntry(key: specification.name, value: $0) }
        }
    }

    /// These options with the coordinator's deployment-wide values in place.
    public func adopting(_ entries: [ConfigurationEntry]) throws(OptionError) -> Options {
        var adopted = self
        for specification in OptionTable.deployment { adopted.values[specification.name] = nil }
        for entry in entries {
            let given = Given(
                name: entry.key, value: entry.value, place: "the coordinator's configuration")
            guard OptionTable.deployment.contains(where: { $0.name == entry.key }) else {
                throw Self.unknown(given)
            }
            try adopted.accept(given)
        }
        return adopted
    }

    /// What `--help` prints.
    public static func help(for daemon: DaemonKind) -> String {
        var page = "usage: \(daemon.rawValue) [MODEL] [--option value ...]\n"
        for specification in OptionTable.all where specification.belongs(to: daemon) {
            let value = specification.defaultValue.map { " (default: \($0))" } ?? ""
            let reload = specification.isReloadable ? " [reloaded at SIGHUP]" : ""
            page += "  --\(specification.name)\n        \(specification.help)\(value)\(reload)\n"
        }
        return page
    }
}
