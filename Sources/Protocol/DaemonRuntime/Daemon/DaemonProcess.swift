internal import Glibc
public import Protocol

/// What every daemon's `main` does before its service runs: options, log, help and version.
public enum DaemonProcess {
    public static let version = "0.1.0"

    /// 4.3.3 closes CVE-2020-15166 and the heap overflows of CURVE and of its predecessors' peers.
    static let zeroMQVersionMin = 40_303

    /// Exit code of a refused command line or configuration file (`EX_USAGE`).
    public static let usageExitCode: Int32 = 64

    /// Parses the command line; prints help, version or what is wrong, and exits, where that is
    /// all.
    public static func start(_ daemon: DaemonKind) -> (options: Options, logger: Logger) {
        let arguments = Array(CommandLine.arguments.dropFirst())
        if arguments.contains("--help") || arguments.contains("-h") {
            print(Options.help(for: daemon), terminator: "")
            exit(0)
        }
        if arguments.contains("--version") {
            print("\(daemon.rawValue) \(version)")
            exit(0)
        }
        guard ZeroMQContext.version >= zeroMQVersionMin else {
            let error =
                "libzmq \(ZeroMQContext.version) has known holes before authentication: install "
                + "4.3.3 or later"
            Logger(daemon: daemon.rawValue).error(error)
            exit(1)
        }
        do throws(OptionError) {
            let options = try Options(daemon: daemon, arguments: arguments)
            let level = Logger.Level(name: options.requiredText("log-level")) ?? .info
            return (options, Logger(daemon: daemon.rawValue, threshold: level))
        } catch {
            Logger(daemon: daemon.rawValue).error("\(error)")
            exit(usageExitCode)
        }
    }

    /// The host's name, for messages.
    public static func nodeName(_ options: Options) -> String {
        options.text("node-name") ?? HostName.current
    }

    public static func coordinatorEndpoint(_ options: Options) -> String {
        let address = options.requiredText("data-parallel-address")
        let host = address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address
        return "tcp://\(host):\(options.requiredInteger("data-parallel-rpc-port"))"
    }

    /// The versions of the wire protocol that this process speaks.
    public static func protocols(_ options: Options) -> ProtocolRange {
        options.protocols ?? .ofThisBuild
    }

    public static func hello(_ role: PeerRole, _ options: Options) -> Hello {
        var hello = Hello(
            role: role,
            node: nodeName(options),
            device: UInt32(options.integer("device-index") ?? 0),
            pid: UInt32(getpid()),
            softwareVersion: version,
            declared: options.declared)
        let protocols = protocols(options)
        (hello.protocolMin, hello.protocolMax) = (protocols.oldest, protocols.newest)
        if role == .worker {
            hello.startRank = options.integer("data-parallel-start-rank").map { UInt32($0) }
            hello.devicePlace = UInt32(options.devicePlace)
        }
        return hello
    }
}
