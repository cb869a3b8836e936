import Protocol

/// How a worker goes: `draining -> asking -> released -> ended`. Its sequences may end first; then
/// it computes for the others until they have a view without it.
///
/// Pure. Whatever does not happen in time is gone without.
struct Departure {
    /// For the others to load the experts that this worker has, and to form their view.
    static let releaseWithin = Interval.seconds(20)
    /// For its sequences to be told to their gateways as others' work.
    static let handBackWithin = Interval.seconds(2)
    /// A request that was lost is repeated.
    static let askEvery = Interval.milliseconds(500)

    private enum State: Equatable {
        case staying
        case draining(until: Instant)
        case asking(since: Instant, last: Instant)
        case released(at: Instant, handsBack: Bool)
        case ended
    }

    private var state = State.staying

    /// Whether it takes no new sequences.
    var began: Bool { state != .staying }

    enum Action: Equatable {
        case none
        /// Tell the coordinator that the others are to do without this worker.
        case ask
        /// What sequences are left go back to their gateways.
        case handBack
        /// The process ends.
        case end
    }

    mutating func begin(at now: Instant, patience: Interval) {
        if state == .staying { state = .draining(until: now + patience) }
    }

    /// The others have a view without it, or wait for none.
    mutating func onReleased(at now: Instant) {
        if case .asking = state { state = .released(at: now, handsBack: true) }
    }

    /// To be called whenever something may have changed, and several times a second.
    ///
    /// - Parameters:
    ///   - sequences: those that this worker has.
    ///   - isLoaded: a worker that has never been ready is missed by nobody.
    mutating func next(sequences: Int, isLoaded: Bool, at now: Instant) -> Action {
        switch state {
        case .staying, .ended:
            return .none
        case .draining(let deadline):
            if sequences > 0 && now < deadline { return .none }
            guard isLoaded else { return end() }
            state = .asking(since: now, last: now)
            return .ask
        case .asking(let since, let last):
            if now - since >= Self.releaseWithin { return end() }
            guard now - last >= Self.askEvery else { return .none }
            state = .asking(since: since, last: now)
            return .ask
        case .released(let since, let handsBack):
            if sequences == 0 || now - since >= Self.handBackWithin { return end() }
            guard handsBack else { return .none }
            state = .released(at: since, handsBack: false)
            return .handBack
        }
    }

    private mutating func end() -> Action {
        state = .ended
        return .end
    }
}
