import Protocol

/// Wakes the group: one leader's request becomes a WAKE to every worker, sent again until each has
/// acknowledged it.
///
/// A wake names the tick at which the group went idle. That number is the same on all ranks, so a
/// late or repeated wake is recognised by it and does nothing (a rank that is past it ignores it,
/// one that is not there yet remembers it). This is what replaces waves.
///
/// A worker that is broken may ask for any tick. So no request shuts out another one: what is asked
/// for behind the wake under way is sent on once, and its leader asks again if that was lost.
struct WakeStateMachine {
    static let resendAfter = Interval.milliseconds(200)
    static let giveUpAfter = Interval.seconds(5)
    /// Several leaders ask for the same wake at once; a leader asks again after more than this.
    static let sameWithin = Interval.milliseconds(400)

    private struct Pending {
        let fromTick: UInt64
        let began: Instant
        var sent: Instant
        var workers: WorkerSet
    }

    private let view: UInt32
    private let everybody: WorkerSet
    /// What was sent last upon a request.
    private var newest: (fromTick: UInt64, at: Instant)?
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
        guard view == self.view, fromTick != pending?.fromTick else { return .none }
        if let newest, newest.fromTick == fromTick, now - newest.at < Self.sameWithin {
            return .none
        }
        newest = (fromTick, now)
        if pending.map({ fromTick > $0.fromTick }) ?? true {
            pending = Pending(fromTick: fromTick, began: now, sent: now, workers: everybody)
        }
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
