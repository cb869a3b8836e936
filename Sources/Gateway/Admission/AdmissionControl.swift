public import Protocol

/// Whether a call is let in: not while nothing serves, not while the gateway drains, and not beyond
/// the room that the ranks have. A call that waits nowhere is never kept: it is answered 429 with
/// the time in which, at the pace of the last seconds, there will be room.
///
/// Pure: time is a parameter.
public struct AdmissionControl: Sendable {
    public enum Decision: Hashable, Sendable {
        case admit
        case refuseOverloaded(retryAfterSeconds: Int)
        case refuseNotReady(reason: String, retryAfterSeconds: Int)
    }

    /// Bounds of what Retry-After says.
    static let retryAfterSeconds = 1...60
    /// Weight of the newest second in the average of sequences that end a second.
    static let newestWeight = 0.3

    public var isDraining = false
    /// Why nothing serves; nil while a view is active.
    public private(set) var notReadyReason: String? = "the coordinator has not answered"
    /// Since when nothing serves that served before: calls wait for the next view, as those do that
    /// ran in the last one.
    private var servedUntil: Instant?
    /// How long a view may be away before its absence is told to who comes.
    static let gapMax = Interval.seconds(60)
    /// How long it may be away before this gateway says that it is not ready: a view that ends is
    /// mostly followed by another at once.
    static let viewChangeMax = Interval.seconds(5)

    private var endedThisSecond = 0
    private var endedPerSecond = 0.0
    private var second: Int64?

    public init() {}

    public mutating func onServing() {
        notReadyReason = nil
        servedUntil = nil
    }

    /// Nothing serves any more, or still not, for this reason now.
    public mutating func onNotServing(_ reason: String, at now: Instant) {
        if notReadyReason == nil { servedUntil = now }
        notReadyReason = reason
    }

    /// This gateway is new and the deployment is not: calls wait as they would with the gateway
    /// that it follows.
    public mutating func onFollowing(at now: Instant) {
        if notReadyReason != nil { servedUntil = servedUntil ?? now }
    }

    /// Whether a view was active of late, and calls may wait for the next one.
    public func isInGap(at now: Instant) -> Bool {
        servedUntil.map { now - $0 < Self.gapMax } ?? false
    }

    /// Whether the next view is likely to be there at once.
    public func isBetweenViews(at now: Instant) -> Bool {
        servedUntil.map { now - $0 < Self.viewChangeMax } ?? false
    }

    public mutating func onSequenceEnded(at now: Instant) {
        advance(to: now)
        endedThisSecond += 1
    }

    /// - Parameters:
    ///   - sequences: that the call would start.
    ///   - freeCapacity: sequences that the ranks have room for; between two views those of the
    ///     last one.
    public mutating func decide(
        sequences: Int, freeCapacity: Int, at now: Instant
    ) -> Decision {
        if isDraining {
            return .refuseNotReady(reason: "the gateway is stopping", retryAfterSeconds: 5)
        }
        if let notReadyReason, !isInGap(at: now) {
            return .refuseNotReady(reason: notReadyReason, retryAfterSeconds: 5)
        }
        if sequences <= freeCapacity { return .admit }
        advance(to: now)
        let missing = Double(sequences - freeCapacity)
        let seconds = endedPerSecond > 0 ? missing / endedPerSecond : 1
        let bounds = Self.retryAfterSeconds
        let whole = Int(min(seconds.rounded(.up), Double(bounds.upperBound)))
        return .refuseOverloaded(retryAfterSeconds: max(whole, bounds.lowerBound))
    }

    private mutating func advance(to now: Instant) {
        let current = now.nanoseconds / 1_000_000_000
        guard let second else {
            self.second = current
            return
        }
        guard current > second else { return }
        // Seconds without an end count as zeros; after a minute nothing of the past is left.
        for passed in 0..<min(current - second, 60) {
            let ended = passed == 0 ? Double(endedThisSecond) : 0
            endedPerSecond += Self.newestWeight * (ended - endedPerSecond)
        }
        endedThisSecond = 0
        self.second = current
    }
}
