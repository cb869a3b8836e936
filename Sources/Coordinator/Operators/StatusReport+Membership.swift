import Protocol

extension StatusReport {
    /// What is known of everybody, cut to what a message may hold.
    init(membership: Membership, view: View, ranksMin: UInt32, at now: Instant) {
        self.init()
        worldSize = membership.extent
        tensorParallelSize = membership.tensorParallelSize
        lease = membership.lease
        self.view = view.number
        viewState = view.state
        let missing = view.state == .retired ? membership.missing(ranksMin: ranksMin) : []
        missingCount = UInt32(missing.count)
        self.missing = missing.prefix(CodecLimits.statusMissingMax).map { Self.cut($0) }
        configuration = membership.configuration.map {
            ConfigurationEntry(key: $0.key, value: Self.cut($0.value, toBytes: Self.valueBytesMax))
        }
        let tensorParallelSize = membership.tensorParallelSize
        // Reading counts what was looked at, in a copy here.
        var known = membership
        peers = known.peers.prefix(CodecLimits.statusPeersMax).map { peer in
            peer.status(view: view, tensorParallelSize: tensorParallelSize, at: now)
        }
    }
}

extension Peer {
    func status(view: View, tensorParallelSize: UInt32, at now: Instant) -> PeerStatus {
        var status = PeerStatus(role: role)
        status.node = StatusReport.cut(node)
        status.device = device
        if role == .worker {
            status.worker = worker
            status.dpRank = worker / tensorParallelSize
            status.tpRank = worker % tensorParallelSize
        }
        status.incarnation = incarnation
        status.pid = pid
        status.softwareVersion = StatusReport.cut(softwareVersion)
        status.protocolVersion = protocolVersion
        status.silence = max(now - lastHeard, .zero)
        if case .joined(_, view.number) = stage { status.isMember = true }
        status.endpoint = StatusReport.cut(ready?.endpoint ?? "")
        status.modelDigest = StatusReport.cut(ready?.modelDigest ?? "")
        if let reported {
            status.stage = reported.stage
            status.percent = min(reported.percent, 100)
            status.tickAge = reported.tickAge
            status.load = reported.load
            status.failedHandshakes = reported.failedHandshakes
            if let waitingSince { status.waited = now - waitingSince }
        }
        status.isSuspected = isHung
        status.waitsFor = StatusReport.cut(waitsFor(view))
        return status
    }

    /// What keeps it from working, for people; empty when nothing does.
    private func waitsFor(_ view: View) -> String {
        if role == .gateway { return view.state == .active ? "" : "a view" }
        guard let reported else { return "its first heartbeat" }
        if isHung { return "an answer of its own: it hangs" }
        if let wait = reported.wait, view.state != .retired {
            return CoordinatorCore.names(wait.workers)
        }
        switch reported.stage {
        case .joining: return "its configuration"
        case .loading: return "the model, \(reported.percent) %"
        case .standby where isHeldBack: return "another try: it could not be connected"
        case .standby: return ready == nil ? "new collectives" : "the other workers"
        case .connecting: return "connections to the other workers"
        case .idle, .running: return drainAskedBy == nil ? "" : "its own drain"
        case .draining:
            let left = UInt64(reported.load.running) + UInt64(reported.load.waiting)
            return "the end of its \(left) sequences, then it leaves"
        }
    }
}
