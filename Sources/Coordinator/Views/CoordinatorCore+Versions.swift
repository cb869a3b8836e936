import Protocol

/// What goes to whom in which version of the protocol, what is a worker's to say, and who is late.
extension CoordinatorCore {
    /// In which what goes to a connection is written: the one chosen with a peer's HELLO, the
    /// oldest for those that have no place.
    func protocolVersion(toward identity: PeerIdentity) -> UInt32 {
        membership.peer(identity)?.protocolVersion ?? membership.protocols.oldest
    }

    static func isOfWorkers(_ body: ControlBody) -> Bool {
        switch body {
        case .ready, .viewJoined, .wakeRequest, .wakeAck, .peerSilent, .prepared, .askToLeave,
            .probeResult:
            true
        case .hello, .config, .refuse, .view, .heartbeat, .heartbeatAck, .wake, .loadUpdate,
            .leave, .prepare, .statusRequest, .statusReport, .drainRequest, .drainReport, .drain,
            .probeRequest, .probe, .probeReport:
            false
        }
    }

    /// Who is waited for when the time is over, for people.
    mutating func onDeadlineText() -> String {
        if view.state == .forming {
            let late = membership.workers.filter { peer in
                guard case .joined = peer.stage else { return true }
                return false
            }
            return "not connected to the others: \(late.map(\.description).joined(separator: "; "))"
        }
        let missing = membership.missing(ranksMin: settings.ranksMin)
        return missing.isEmpty ? "no view became active" : missing.joined(separator: "; ")
    }
}
