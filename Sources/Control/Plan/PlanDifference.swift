/// What a plan's node has and what runs there, compared: processes that are missing, that nobody
/// planned, and that run with other options.
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

    init(planned: [Daemon], running: [Daemon]) {
        var left = running
        var lines: [String] = []
        for daemon in planned {
            let candidates = left.indices.filter { Self.areOnePlace(daemon, left[$0]) }
            // Of several cells on a host, the one that is meant differs least.
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
            lines.append("extra: \(daemon.name) is a \(daemon.role.rawValue) of no plan")
        }
        self.lines = lines
    }

    private static func areOnePlace(_ planned: Daemon, _ running: Daemon) -> Bool {
        guard planned.role == running.role else { return false }
        guard planned.role == .worker, running.problem == nil else { return true }
        return planned.options["device-index"] == running.options["device-index"]
    }

    private static func changes(_ planned: Daemon, _ running: Daemon) -> [String] {
        if running.problem != nil { return [] }
        let names = Set(planned.options.keys).union(running.options.keys).sorted()
        return names.compactMap { name in
            let (wanted, found) = (planned.options[name], running.options[name])
            if wanted == found { return nil }
            if name == "api-key" { return "another api-key" }
            return "\(name) \(text(found)), planned \(text(wanted))"
        }
    }

    private static func text(_ values: [String]?) -> String {
        values.map { $0.joined(separator: ",") } ?? "unset"
    }
}
