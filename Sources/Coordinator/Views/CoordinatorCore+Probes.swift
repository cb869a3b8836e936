import Protocol

/// An operator asks who reaches whom: every worker tries the ways to the others, and the operator
/// gets all rows at once.
extension CoordinatorCore {
    mutating func onProbeRequest(_ identity: PeerIdentity, at now: Instant) -> [Action] {
        switch probes.onRequest(of: identity, at: now) {
        case .wait:
            return []
        case .answer(let report):
            return [.send(identity, .probeReport(report))]
        case .begin:
            break
        }
        let workers = membership.workers
        let targets = workers.compactMap { peer in
            peer.ready.map { Probe.Target(worker: peer.worker, endpoint: $0.endpoint) }
        }
        var problems: [UInt32: String] = [:]
        var asked: [Peer] = []
        for peer in workers {
            if peer.protocolVersion < ControlBody.probeRequest.firstVersion {
                problems[peer.worker] =
                    "speaks protocol \(peer.protocolVersion), which has no probes"
            } else {
                asked.append(peer)
            }
        }
        for worker in 0..<membership.worldSize where membership.worker(worker) == nil {
            problems[worker] = "is missing"
        }
        let round = probes.begin(asking: asked.map(\.worker), problems: problems, at: now)
        let actions: [Action] = asked.map { peer in
            let others = targets.filter { $0.worker != peer.worker }
            return .send(peer.identity, .probe(Probe(round: round, targets: others)))
        }
        return actions + answers(probes.finishIfComplete(at: now))
    }

    mutating func onProbeResult(
        _ result: ProbeResult, _ peer: Peer, at now: Instant
    ) -> [Action] {
        probes.onResult(result, of: peer.worker)
        return answers(probes.finishIfComplete(at: now))
    }

    mutating func onProbeTimer(at now: Instant) -> [Action] { answers(probes.onTimer(at: now)) }

    private func answers(_ finished: ProbeRound.Finished?) -> [Action] {
        guard let finished else { return [] }
        return finished.askers.map { .send($0, .probeReport(finished.report)) }
    }
}
