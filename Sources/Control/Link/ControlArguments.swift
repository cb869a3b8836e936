internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// The command line of a command that talks to a deployment: options of its own, options of the
/// daemons (which it checks as they do, and which `--config` may hold), and words.
struct ControlArguments {
    static let timeoutDefault = 5
    static let timeoutsAllowed = 1...86_400
    /// What the package installs: the file of a command that is not told where the coordinator is.
    static let installedFile = "/etc/phalanx/phalanx.yaml"

    let words: [String]
    let options: Options
    let timeout: Interval
    private let flags: Set<String>

    /// - Parameters:
    ///   - flags: options without a value that only this command has, without dashes.
    ///   - shared: names of daemons' options that it takes as flags; nil for all of a worker's.
    ///   - timeoutSeconds: what `--timeout` is unless given.
    ///   - installed: the file to read where no daemon's option is given, if it is there.
    init(
        _ arguments: [String], command: String, flags known: [String],
        shared: [String]? = Self.coordinatorOptions, wordsMax: Int = 0,
        timeoutSeconds: Int = Self.timeoutDefault, installed: String? = Self.installedFile
    ) throws(ControlError) {
        var flags: Set<String> = []
        var words: [String] = []
        var rest: [String] = []
        var seconds = timeoutSeconds
        var index = 0
        while index < arguments.count {
            let argument = arguments[index]
            index += 1
            guard argument.hasPrefix("-") else {
                words.append(argument)
                continue
            }
            let name = String(argument.drop { $0 == "-" }.prefix { $0 != "=" })
                .replacing("_", with: "-")
            if known.contains(name), !argument.contains("=") {
                flags.insert(name)
                continue
            }
            var value: String?
            if let mark = argument.firstIndex(of: "=") {
                value = String(argument[argument.index(after: mark)...])
            } else if !Self.isFlag(name), index < arguments.count {
                value = arguments[index]
                index += 1
            }
            if name == "timeout" {
                seconds = try Self.seconds(value, command)
            } else {
                try Self.check(name, argument, command, known, shared)
                rest.append(value.map { "--\(name)=\($0)" } ?? "--\(name)")
            }
        }
        if words.count > wordsMax {
            throw .usage("\(command): \"\(words[wordsMax])\" is one argument too many")
        }
        if rest.isEmpty, let installed, access(installed, R_OK) == 0 {
            rest.append("--config=\(installed)")
        }
        self.flags = flags
        self.words = words
        timeout = .seconds(seconds)
        do throws(OptionError) {
            options = try Options(daemon: .worker, arguments: rest)
        } catch {
            throw .usage("\(command): \(error)")
        }
    }

    static let coordinatorOptions = [
        "config", "data-parallel-address", "data-parallel-rpc-port", "keys", "plaintext-links",
    ]

    func has(_ flag: String) -> Bool { flags.contains(flag) }

    /// `tcp://address:port` of the coordinator.
    var endpoint: String { DaemonProcess.coordinatorEndpoint(options) }

    /// Of the link to it.
    func security() throws(ControlError) -> LinkSecurity {
        do throws(KeyError) {
            return try LinkSecurity(
                options, role: .operator, peers: [.coordinator],
                addresses: ["data-parallel-address"])
        } catch {
            throw .failed(error.description)
        }
    }

    private static func isFlag(_ name: String) -> Bool {
        let positive = name.hasPrefix("no-") ? String(name.dropFirst(3)) : name
        return OptionTable.specification(of: positive)?.kind == .flag
    }

    private static func seconds(
        _ value: String?, _ command: String
    ) throws(ControlError) -> Int {
        guard let seconds = value.flatMap({ Int($0) }), timeoutsAllowed.contains(seconds) else {
            let given = value.map { "\"\($0)\"" } ?? "nothing"
            throw .usage(
                "\(command): --timeout takes \(timeoutsAllowed) whole seconds, not \(given)")
        }
        return seconds
    }

    private static func check(
        _ name: String, _ argument: String, _ command: String, _ flags: [String],
        _ shared: [String]?
    ) throws(ControlError) {
        guard let shared, !shared.contains(name) else { return }
        let known = flags + shared + ["timeout", "help"]
        let hint =
            OptionTable.nearest(to: name, among: known).map { "did you mean --\($0)?" }
            ?? "it takes \(known.map { "--\($0)" }.joined(separator: ", "))"
        throw .usage("\(command): unknown option \"\(argument)\"; \(hint)")
    }

    /// What the pages of these commands say of the common options.
    static let page = """
          --data-parallel-address ADDRESS   of the coordinator (default: 127.0.0.1)
          --data-parallel-rpc-port PORT     of the coordinator (default: 13389)
          --keys DIR                        keys of the deployment's links, with operator.secret
          --config FILE                     YAML file of the daemons, which may hold all of these
                                            (default: /etc/phalanx/phalanx.yaml, if it is there and
                                            none of these is given)

        """
}
