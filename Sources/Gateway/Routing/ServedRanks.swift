public import Protocol

/// Why a way of balancing cannot be had.
public struct ServedRanksError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}

/// Which DP ranks a gateway serves, after the three ways of `vllm serve`: all of them, those of
/// its own node, or a single one, with a balancer outside that chooses the gateway.
public enum ServedRanks: Hashable, Sendable {
    /// The default: this gateway balances over all ranks.
    case all
    /// `--data-parallel-hybrid-lb`
    case node(String)
    /// `--data-parallel-external-lb`
    case one(Int)

    /// - Throws: for options that contradict each other.
    public init(
        hybrid: Bool, external: Bool, rank: Int?, node: String
    ) throws(ServedRanksError) {
        if hybrid && (external || rank != nil) {
            let other = external ? "--data-parallel-external-lb" : "--data-parallel-rank"
            throw ServedRanksError(
                description: "--data-parallel-hybrid-lb serves all ranks of this node, \(other) a "
                    + "single one: leave one of them out")
        }
        if external && rank == nil {
            throw ServedRanksError(
                description: "--data-parallel-external-lb needs --data-parallel-rank: which rank "
                    + "this gateway serves")
        }
        // As in vLLM, naming a rank is enough.
        self = hybrid ? .node(node) : rank.map { .one($0) } ?? .all
    }

    /// Why this cannot be in a deployment of so many ranks at most; nil if it can.
    public func problem(rankCountMax: Int) -> String? {
        guard case .one(let rank) = self, rank >= rankCountMax else { return nil }
        return "--data-parallel-rank \(rank) is out of range [0, \(rankCountMax)): the deployment "
            + "has that many DP ranks at most (--data-parallel-size-max)"
    }

    /// Leaders that this gateway connects to, in the order of their ranks.
    public func leaders(of members: [Member]) -> [Member] {
        members.filter { member in
            guard member.isLeader else { return false }
            return switch self {
            case .all: true
            case .node(let node): member.node == node
            case .one(let rank): Int(member.dpRank) == rank
            }
        }
    }

    /// Why an active view has nobody for this gateway.
    public func emptyReason(members: [Member]) -> String {
        switch self {
        case .all:
            return "the view has no members"
        case .node(let node):
            var nodes: [String] = []
            for member in members where !nodes.contains(member.node) { nodes.append(member.node) }
            return "no rank is on node \(node) (--data-parallel-hybrid-lb; ranks are on "
                + "\(nodes.joined(separator: ", "))): give gateway and workers the same "
                + "--node-name"
        case .one(let rank):
            return "rank \(rank) (--data-parallel-rank) is not in the view"
        }
    }
}
