internal import DaemonRuntime
internal import Protocol

/// Whom the engine waits for in an operation that takes long, told to the coordinator: from what
/// all workers say it finds the one that hangs.
extension EngineWorkerService {
    /// Nil while no operation of the view has waited for long.
    var reportedWait: Heartbeat.Wait? {
        guard let wait = progress.waits.current, let view, wait.view == view.number else {
            return nil
        }
        let workers = wait.peers.compactMap { rank in
            view.members.indices.contains(rank) ? view.members[rank].worker : nil
        }
        guard !workers.isEmpty else { return nil }
        return Heartbeat.Wait(workers: workers, time: MonotonicClock.now() - wait.since)
    }

    /// A heartbeat out of turn where a wait begins, ends or is for others; so the coordinator hears
    /// of it within a sweep, however long the lease.
    func tellWait() {
        let workers = reportedWait?.workers ?? []
        guard workers != toldWait else { return }
        toldWait = workers
        control?.beat()
    }
}
