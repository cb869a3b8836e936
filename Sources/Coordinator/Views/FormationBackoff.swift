import Protocol

/// Keeps views that break at once from being formed as fast as messages travel: the first is formed
/// again immediately, each further one that does not last waits twice as long.
struct FormationBackoff: Equatable {
    static let delayMin = Interval.milliseconds(100)
    static let delayMax = Interval.seconds(5)
    /// A view that lived this long was a good one.
    static let goodAfter = Interval.seconds(10)

    private var shortLives = 0
    private var formed: Instant?
    /// Before this, no view is formed.
    private var notBefore: Instant?

    func allowsForming(at now: Instant) -> Bool { notBefore.map { now >= $0 } ?? true }

    mutating func onFormed(at now: Instant) { formed = now }

    /// It made room for a better one.
    mutating func onPlannedEnd() {
        formed = nil
        shortLives = 0
        notBefore = nil
    }

    mutating func onEnded(at now: Instant) {
        guard let formed else { return }
        self.formed = nil
        if now - formed >= Self.goodAfter { shortLives = 0 }
        shortLives += 1
        // The first costs nothing: a worker was restarted, and the others are waiting for it.
        guard shortLives > 1 else {
            notBefore = nil
            return
        }
        let doublings = min(shortLives - 2, 16)
        let delay = Interval(nanoseconds: Self.delayMin.nanoseconds << Int64(doublings))
        notBefore = now + min(delay, Self.delayMax)
    }
}
