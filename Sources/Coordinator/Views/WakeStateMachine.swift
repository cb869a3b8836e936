import Protocol

/// Wakes the group: one leader's request becomes a WAKE to every worker, sent again until each has
/// acknowledged it.
///
/// A wake names the tick at which the group went idle. That number is the same on all ranks, so a
/// late or repeated wake is recognised by it and does nothing (a rank that is past it ignores it,
/// one that is not there yet remembers it). This is what replaces waves.
struct WakeStateMachine {
    static let resendAfter = Interval.milliseconds(200)
    static let giveUpAfter = Interval.seconds(5)

    private struct Pending {
        let fromTick: UInt64
        let began: Instant
        var sent: Instant
        var workers: WorkerSet
    }

    private let view: UInt32
    private let everybody: WorkerSet
    private var lastWoken: UInt64?
    private var pending: Pending?

    /// - Parameter workers: the view's members.
    init(view: UInt32, workers: WorkerSet) {
        self.view = view
        everybody = workers
    }

    enum WakeAction: Equatable {
        case none
        case send(fromTick: UInt64, workers: [UInt32])
        /// These workers do not answer: the view cannot go on.
        case giveUp(workers: [UInt32])
    }

    mutating func onRequest(view: UInt32, fromTick: UInt64, at now: Instant) -> WakeAction {
        guard view == self.view, lastWoken.map({ fromTick > $0 }) ?? true else { return .none }
        lastWoken = fromTick
        pending = Pending(fromTick: fromTick, began: now, sent: now, workers: everybody)
        return .send(fromTick: fromTick, workers: everybody.members)
    }

    mutating func onAcknowledgement(view: UInt32, fromTick: UInt64, worker: UInt32) {
        guard view == self.view, pending?.fromTick == fromTick else { return }
        pending?.workers.remove(worker)
        if pending?.workers.isEmpty == true { pending = nil }
    }

    mutating func onTimer(at now: Instant) -> WakeAction {
        guard var waiting = pending else { return .none }
        if now - waiting.began >= Self.giveUpAfter {
            return .giveUp(workers: waiting.workers.members)
        }
        if now - waiting.sent < Self.resendAfter { return .none }
        waiting.sent = now
        pending = waiting
        return .send(fromTick: waiting.fromTick, workers: waiting.workers.members)
    }
}
