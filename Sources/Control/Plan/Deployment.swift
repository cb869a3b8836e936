/// What a plan is made of: the options that decide about processes, and the nodes. Nothing of it
/// has been checked against each other yet; that is ``Planner``'s part.
struct Deployment: Sendable {
    /// The three daemons.
    enum Role: String, CaseIterable, Sendable {
        case coordinator = "phalanx-coordinator"
        case worker = "phalanx-engine-worker"
        case gateway = "phalanx-gateway"
    }

    struct Node: Sendable {
        let name: String
        /// Where the node is described: "FILE line 12", or "the command line".
        let place: String
        let address: String
        /// nil: ``address`` is no IP address.
        let parsedAddress: NetworkAddress?
        let interface: String?
        /// In the order of their ranks, one worker each.
        let devices: [Int]
        let startRank: Int
        let localSize: Int
        let runsCoordinator: Bool
        let runsGateway: Bool
        let httpHost: String
        let httpPort: Int
        /// Of the host on which the plan is made, where that is this node.
        let hostInterfaces: [HostInterface]?
        /// What each daemon is started with, but for the device index of a worker.
        let commands: [Role: [String]]
    }

    let dataParallelSize: Int
    let tensorParallelSize: Int
    let maxNumSeqs: Int
    let maxNumBatchedTokens: Int
    let model: ModelFacts
    let coordinatorAddress: String
    let coordinatorPort: Int
    /// All nodes, or the one that a command line describes.
    let nodes: [Node]
    /// ``nodes`` are the whole deployment, so that the sum can be checked.
    let isWhole: Bool
}

/// What could be seen of the model's folder.
struct ModelFacts: Hashable, Sendable {
    /// Of its mixture of experts.
    struct Experts: Hashable, Sendable {
        let count: Int
        let perToken: Int
        let hiddenSize: Int
    }

    /// nil: none was given.
    let path: String?
    /// Why the folder will not do, or nil.
    let problem: String?
    let experts: Experts?
}

/// An IP address as text and as bytes in network order, four or sixteen.
struct NetworkAddress: Hashable, Sendable {
    let text: String
    let bytes: [UInt8]

    var isLoopback: Bool {
        bytes.count == 4
            ? bytes[0] == 127 : bytes.dropLast().allSatisfy { $0 == 0 } && bytes[15] == 1
    }

    var isUnspecified: Bool { bytes.allSatisfy { $0 == 0 } }

    /// Whether the first `length` bits are those of `other`.
    func sharesPrefix(of length: Int, with other: NetworkAddress) -> Bool {
        guard bytes.count == other.bytes.count else { return false }
        for (index, byte) in bytes.enumerated() {
            let bits = min(max(length - 8 * index, 0), 8)
            let mask = UInt8(truncatingIfNeeded: 0xFF00 >> bits)
            if (byte ^ other.bytes[index]) & mask != 0 { return false }
        }
        return true
    }
}

/// One address of one network interface of this host.
struct HostInterface: Hashable, Sendable {
    let name: String
    let address: NetworkAddress
    let prefixLength: Int
}
