internal import DaemonRuntime
internal import Protocol

/// How the worker goes, at SIGTERM or when an operator asks for it.
extension EngineWorkerService {
    func drain() {
        guard !isDraining else { return }
        departure.begin(
            at: MonotonicClock.now(),
            patience: .seconds(options.requiredInteger("shutdown-timeout")))
        notifier.stopping()
        logger.notice("draining", ["sequences": sessions.sequenceCount])
        // The others get ready to do without it meanwhile.
        control?.beat()
        checkDrained()
    }

    /// A worker asks to leave when its own sequences have ended, or when their time is over; it
    /// leaves when the others do without it.
    func checkDrained() {
        let action = departure.next(
            sequences: isLeader ? sessions.sequenceCount : 0, isLoaded: facts != nil,
            at: MonotonicClock.now())
        switch action {
        case .none:
            break
        case .ask:
            if sessions.sequenceCount > 0 {
                logger.warning("sequences go elsewhere", ["count": sessions.sequenceCount])
            }
            control?.askToLeave("stopped")
        case .handBack:
            command(.handBack(reason: "the worker stops"))
        case .end:
            control?.leave("stopped")
            // One more turn, so that the last messages leave.
            loop.schedule(after: .milliseconds(50)) { [weak self] in self?.loop.stop() }
        }
    }

    func onReleased() {
        departure.onReleased(at: MonotonicClock.now())
        checkDrained()
    }

    /// A view of others: what this worker has goes to them.
    func onOthersView(_ view: View) {
        guard stage != .loading, stage != .joining else { return }
        notifier.status("not in view \(view.number), which has \(view.members.count) workers")
        // The end of its own view was said while it could not hear.
        let isBehind = joinedView != nil || stage == .connecting
        stage = .standby
        let reason = "the worker is not in view \(view.number)"
        command(.handBack(reason: reason))
        if isBehind { leaveView(reason) }
    }
}
