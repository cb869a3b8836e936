import Protocol

/// What operators may ask. They have no lease and no place, and nothing that they ask waits for
/// another process: the answer is what is known now.
extension CoordinatorCore {
    mutating func onOperator(
        _ message: ControlMessage, from identity: PeerIdentity, at now: Instant
    ) -> [Action] {
        guard allowance.take(at: now) else { return [] }
        switch message.body {
        case .statusRequest:
            return [.report(identity, status(at: now), version: versionOfAnswer(to: message))]
        case .drainRequest(let dpRank):
            return onDrainRequest(dpRank, by: message.incarnation, identity)
        case .probeRequest:
            return onProbeRequest(identity, at: now)
        case .hello, .config, .refuse, .ready, .view, .viewJoined, .heartbeat, .heartbeatAck,
            .wakeRequest, .wake, .wakeAck, .peerSilent, .loadUpdate, .leave, .statusReport,
            .drainReport, .drain, .prepare, .prepared, .askToLeave, .probe, .probeResult,
            .probeReport:
            return [.warn("an operator sent a message that is not an operator's")]
        }
    }

    /// An operator says no HELLO: it writes in the newest version that it speaks.
    private func versionOfAnswer(to message: ControlMessage) -> UInt32 {
        let protocols = membership.protocols
        return min(max(message.protocolVersion, protocols.oldest), protocols.newest)
    }

    private func status(at now: Instant) -> StatusReport {
        var report = StatusReport(
            membership: membership, view: view, ranksMin: settings.ranksMin, at: now)
        report.uptime = now - started
        report.protocolVersion = membership.protocols.newest
        report.viewProtocolVersion = view.protocolVersion
        report.viewAge = now - viewChanged
        report.viewReason = StatusReport.cut(lastEnd, toBytes: StatusReport.valueBytesMax)
        noteWaits(in: &report, at: now)
        report.readyDeadline = deadline.map { max($0 - now, .zero) }
        return report
    }

    private func noteWaits(in report: inout StatusReport, at now: Instant) {
        guard !waits.waiters.isEmpty else { return }
        let graph = waitsForGraph(at: now)
        guard case .suspects(let workers) = graph.verdict else { return }
        for index in report.peers.indices
        where report.peers[index].role == .worker && workers.contains(report.peers[index].worker) {
            report.peers[index].isSuspected = true
            report.peers[index].waitingWorkers = UInt32(
                graph.waitingCount(for: report.peers[index].worker))
        }
    }

    /// Asks the workers of a DP rank to leave. An operator that asks twice, because it has heard no
    /// answer, hears the same one; another operator hears that it is too late.
    private mutating func onDrainRequest(
        _ dpRank: UInt32, by operatorIncarnation: Incarnation, _ identity: PeerIdentity
    ) -> [Action] {
        func refuse(_ text: String) -> [Action] {
            let report = DrainReport(dpRank: dpRank, isAccepted: false, text: text)
            return [.send(identity, .drainReport(report))]
        }
        let ranks = membership.extent / membership.tensorParallelSize
        guard dpRank < ranks else {
            let known = ranks == 1 ? "only DP rank 0" : "DP ranks 0 to \(ranks - 1)"
            return refuse("there is no DP rank \(dpRank): the deployment has \(known)")
        }
        let workers = membership.workers.filter {
            $0.worker / membership.tensorParallelSize == dpRank
        }
        if workers.isEmpty {
            return refuse("DP rank \(dpRank) has no worker that could drain: it is missing already")
        }
        let draining = workers.first {
            $0.drainAskedBy.map { $0 != operatorIncarnation } ?? ($0.reported?.stage == .draining)
        }
        if let draining {
            return refuse("DP rank \(dpRank) drains already: \(draining.description) leaves")
        }
        for worker in workers {
            membership.update(worker.identity) { $0.drainAskedBy = operatorIncarnation }
        }
        let names = workers.map(\.description).joined(separator: ", ")
        let report = DrainReport(
            dpRank: dpRank, isAccepted: true, text: "\(names) is asked to drain",
            incarnations: workers.map(\.incarnation))
        return [.log("an operator drains DP rank \(dpRank): \(names)")]
            + workers.map { .send($0.identity, .drain(reason: Self.drainReason)) }
            + [.send(identity, .drainReport(report))]
    }

    /// The request again, to a worker whose heartbeat shows that it has not heard it.
    func repeatedDrain(_ peer: Peer, _ heartbeat: Heartbeat) -> [Action] {
        guard peer.drainAskedBy != nil, heartbeat.stage != .draining else { return [] }
        return [.send(peer.identity, .drain(reason: Self.drainReason))]
    }

    private static let drainReason = "an operator asked for it"
}
