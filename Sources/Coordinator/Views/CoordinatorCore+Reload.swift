import Protocol

/// What a peer is told of the deployment, and what of it may change while the group stands: limits
/// that no two peers must have in common at every moment.
extension CoordinatorCore {
    mutating func assignment(of peer: Peer, at now: Instant) -> AssignedConfiguration {
        let tensorParallelSize = settings.tensorParallelSize
        var configuration = AssignedConfiguration(
            worker: peer.worker,
            dpRank: peer.worker / tensorParallelSize,
            tpRank: peer.worker % tensorParallelSize,
            entries: settings.configuration,
            lease: settings.lease,
            readyDeadline: deadline.map { $0 - now } ?? settings.readyTimeout,
            position: peer.role == .worker
                ? membership.expectedPosition(of: peer.worker)
                : GroupPosition(rank: 0, worldSize: settings.worldSize))
        configuration.protocolVersion = peer.protocolVersion
        return configuration
    }

    /// The coordinator was reloaded: all peers hear what counts from now on, also where nothing is
    /// new, so that another reload reaches one whose connection broke at the first. A release that
    /// does not listen goes on with what it has, and its heartbeats in the rhythm that it knows.
    ///
    /// - Parameter configuration: the same keys as before.
    mutating func onReload(
        configuration: [ConfigurationEntry], lease: Interval, readyTimeout: Interval,
        at now: Instant
    ) -> [Action] {
        precondition(
            configuration.map(\.key) == settings.configuration.map(\.key), "other keys than before")
        if let deadline {
            let began = Instant(
                nanoseconds: deadline.nanoseconds - settings.readyTimeout.nanoseconds)
            self.deadline = began + readyTimeout
        }
        let former = max(settings.lease, membership.lease)
        settings.configuration = configuration
        settings.lease = lease
        settings.readyTimeout = readyTimeout
        membership.configuration = configuration
        membership.lease = max(former, lease)
        leaseBegins = now + former
        return membership.peers.map { .send($0.identity, .config(assignment(of: $0, at: now))) }
            + statusIfChanged()
    }

    mutating func beginLease(at now: Instant) {
        guard let begins = leaseBegins, now >= begins else { return }
        leaseBegins = nil
        membership.lease = settings.lease
    }
}
