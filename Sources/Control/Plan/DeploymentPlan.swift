/// Which process runs where, with which command line.
struct DeploymentPlan: Sendable {
    struct Process: Hashable, Sendable {
        /// "coordinator", "gateway", "worker-3".
        let name: String
        let role: Deployment.Role
        /// Of a worker.
        let ranks: Ranks?
        /// "tcp://ADDRESS:PORT", or what is picked at start.
        let endpoint: String
        /// Program first.
        let command: [String]
    }

    struct Ranks: Hashable, Sendable {
        let worker: Int
        let dataParallel: Int
        let tensorParallel: Int
        let device: Int
    }

    /// A variable of the environment that nobody needs to set.
    struct Variable: Hashable, Sendable {
        let name: String
        /// nil: without effect, or not known here.
        let value: String?
        /// Where the value comes from, or why there is none.
        let origin: String
    }

    struct Node: Sendable {
        let name: String
        let address: String
        let processes: [Process]
        let environment: [Variable]
    }

    let nodes: [Node]
    /// What an operator should know, and nothing is wrong with.
    let notes: [String]
}

/// Why a plan is refused: what, where, and what to do.
struct PlanFinding: Error, Hashable, Sendable, CustomStringConvertible {
    let place: String
    let what: String
    let remedy: String

    var description: String { "\(place): \(what); \(remedy)" }
}
