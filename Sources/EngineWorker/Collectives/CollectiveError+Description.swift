internal import Protocol

extension CollectiveError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .timeout(let peers, let tag):
            let names = peers.map(String.init).joined(separator: ", ")
            return "no answer from worker \(names) in \(tag)"
        case .peerLost(let peer, let tag, let reason):
            return "worker \(peer) is lost in \(tag): \(reason)"
        case .mismatch(let peer, let expected, let received):
            return "worker \(peer) is in \(received), this one in \(expected)"
        case .setup(let reason):
            return reason
        }
    }

    /// Whether these workers were only late, which is no proof that they are gone.
    var isTimeout: Bool {
        switch self {
        case .timeout: true
        case .peerLost, .mismatch, .setup: false
        }
    }

    /// The workers that it names, for the coordinator.
    var peers: [Int] {
        switch self {
        case .timeout(let peers, _): peers
        case .peerLost(let peer, _, _), .mismatch(let peer, _, _): [peer]
        case .setup: []
        }
    }
}
