/// What a plan's node has and what runs there, compared: processes that are missing, that nobody
/// planned, and that run with other options. A daemon of another coordinator, or of another node's
/// name, belongs to another deployment on this host and is no difference.
struct PlanDifference: Hashable, Sendable {
    /// A daemon, planned or running, as its options.
    struct Daemon: Hashable, Sendable {
        /// Its name in the plan, or "process 123".
        let name: String
        let role: Deployment.Role
        /// Why its command line is not understood, or nil.
        var problem: String?
        let options: [String: [String]]
    }

    /// One line each.
    let lines: [String]
    /// Daemons of other deployments, one line each.
    let others: [String]

    private static let address = "data-parallel-address"
    private static let port = "data-parallel-rpc-port"
    /// The coordinator picks its port at start.
    private static let anyPort = ["0"]

    init(planned: [Daemon], running: [Daemon]) {
        var left = running
        var (lines, others): ([String], [String]) = ([], [])
        for daemon in planned {
            let candidates = left.indices.filter { Self.areOnePlace(daemon, left[$0]) }
            // Of several cells that can be meant, the one that differs least.
            let best = candidates.min {
                let (first, second) = (
                    Self.changes(daemon, left[$0]), Self.changes(daemon, left[$1])
                )
                return (first.count, $0) < (second.count, $1)
            }
            guard let best else {
                lines.append("missing: \(daemon.name) does not run")
                continue
            }
            let other = left.remove(at: best)
            if let problem = other.problem {
                lines.append("other options: \(daemon.name) (\(other.name)): \(problem)")
            }
            for change in Self.changes(daemon, other) {
                lines.append("other options: \(daemon.name) (\(other.name)) has \(change)")
            }
        }
        for daemon in left {
            let isOurs = planned.contains {
                $0.options[Self.port] != Self.anyPort && Self.areOneDeployment($0, daemon)
            }
            if isOurs || daemon.problem != nil {
                lines.append("extra: \(daemon.name) is a \(daemon.role.rawValue) of no plan")
            } else {
                others.append(
                    "another deployment: \(daemon.name) is a \(daemon.role.rawValue), coordinator "
                        + "at \(Self.text(daemon.options[Self.address])) port "
                        + Self.text(daemon.options[Self.port]))
            }
        }
        self.lines = lines
        self.others = others
    }

    private static func areOnePlace(_ planned: Daemon, _ running: Daemon) -> Bool {
        guard planned.role == running.role else { return false }
        if running.problem != nil { return true }
        guard areOneDeployment(planned, running) else { return false }
        return planned.role != .worker
            || planned.options["device-index"] == running.options["device-index"]
    }

    private static func areOneDeployment(_ planned: Daemon, _ running: Daemon) -> Bool {
        let (wanted, found) = (planned.options, running.options)
        return wanted[address] == found[address] && wanted["node-name"] == found["node-name"]
            && (wanted[port] == anyPort || wanted[port] == found[port])
    }

    private static func changes(_ planned: Daemon, _ running: Daemon) -> [String] {
        if running.problem != nil { return [] }
        let names = Set(planned.options.keys).union(running.options.keys).sorted()
        return names.compactMap { name in
            let (wanted, found) = (planned.options[name], running.options[name])
            if wanted == found || (name == port && wanted == anyPort) { return nil }
            if name == "api-key" { return "another api-key" }
            return "\(name) \(text(found)), planned \(text(wanted))"
        }
    }

    private static func text(_ values: [String]?) -> String {
        values.map { $0.joined(separator: ",") } ?? "unset"
    }
}
