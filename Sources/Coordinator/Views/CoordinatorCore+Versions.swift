import Protocol

/// What goes to whom in which version of the protocol, and what is a worker's to say.
extension CoordinatorCore {
    /// In which what goes to a connection is written: the one chosen with a peer's HELLO, the
    /// oldest for those that have no place.
    func protocolVersion(toward identity: PeerIdentity) -> UInt32 {
        membership.peer(identity)?.protocolVersion ?? membership.protocols.oldest
    }

    static func isOfWorkers(_ body: ControlBody) -> Bool {
        switch body {
        case .ready, .viewJoined, .wakeRequest, .wakeAck, .peerSilent, .prepared, .askToLeave:
            true
        case .hello, .config, .refuse, .view, .heartbeat, .heartbeatAck, .wake, .loadUpdate,
            .leave, .prepare, .statusRequest, .statusReport, .drainRequest, .drainReport, .drain:
            false
        }
    }
}
