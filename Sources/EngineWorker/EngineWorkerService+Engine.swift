internal import DaemonRuntime
internal import Protocol

/// What the engine thread tells the link thread, and what of it the coordinator hears.
extension EngineWorkerService {
    func onEngine(_ event: EngineEvent) {
        switch event {
        case .loading(let bytes, let total):
            percent = UInt32(bytes * 100 / max(total, 1))
            notifier.status("loading \(percent) % \(bytes) of \(total) bytes")
        case .weightsCache(let report):
            if report.isWarning { logger.warning(report.text) } else { logger.info(report.text) }
        case .loaded(let facts):
            self.facts = facts
            percent = 100
            stage = .standby
            logger.info("loaded", ["model": facts.description, "kv_blocks": facts.blockCount])
        case .failed(let text):
            fail(text)
        case .standby(let address, let position):
            onStandby(address, position)
        case .prepared(let position, let failure):
            onPrepared(position, failure)
        case .joined(let view):
            joinedView = view
            control?.send(.viewJoined(view: view))
        case .viewBroken(let view, let tick, let workers, let reason, let isTimeout):
            logger.error("view broken", ["view": view, "tick": tick, "reason": reason])
            let report = ControlBody.peerSilent(
                view: view, tick: tick, workers: workers, reason: reason, isTimeout: isTimeout)
            if self.view?.number == view { brokenView = report }
            control?.send(report)
        case .requestWake(let view, let fromTick):
            control?.send(.wakeRequest(view: view, fromTick: fromTick))
        case .acknowledgeWake(let view, let fromTick):
            if stage == .idle { stage = .running }
            control?.send(.wakeAck(view: view, fromTick: fromTick))
        case .rejected(let sequence, let reason, let text):
            reject(sequence, reason, text)
        case .load(let load):
            self.load = load
            if stage == .running || stage == .idle {
                stage = load.running > 0 || load.waiting > 0 ? .running : .idle
            }
        case .output:
            preconditionFailure("an output outside of a step")
        }
    }

    private func onPrepared(_ position: GroupPosition, _ failure: String) {
        if failure.isEmpty {
            logger.info("has the experts of the next view", ["position": position])
        } else {
            logger.error("no experts", ["position": position, "reason": failure])
        }
        control?.send(.prepared(position, failure: failure))
    }

    private func onStandby(_ address: [UInt8], _ position: GroupPosition) {
        guard let facts else { return }
        notifier.status("ready, waiting for the other workers")
        let ready = Ready(
            endpoint: endpoint,
            collectivesAddress: address,
            modelDigest: facts.digest,
            blockCount: UInt32(facts.blockCount),
            blockSize: UInt32(facts.blockSize),
            position: position)
        self.ready = ready
        control?.send(.ready(ready))
    }
}
