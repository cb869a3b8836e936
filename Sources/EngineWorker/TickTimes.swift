internal import Protocol

/// Where the engine thread's time goes: in the model, in the exchange that begins a tick, and
/// between two forwards for everything else (sampling, bookkeeping, hand-over, scheduling).
package struct TickTimes: Sendable {
    /// Ticks in which the model ran.
    package private(set) var ticks = 0
    package private(set) var forwardNanoseconds: Int64 = 0
    package private(set) var exchangeNanoseconds: Int64 = 0
    /// From a forward's end to the exchange of the tick after it.
    package private(set) var betweenNanoseconds: Int64 = 0

    private var forwardEnded: Instant?
    private var began = Instant(nanoseconds: 0)

    package init() {}

    mutating func exchangeBegins(at now: Instant) {
        if let forwardEnded { betweenNanoseconds += (now - forwardEnded).nanoseconds }
        forwardEnded = nil
        began = now
    }

    mutating func forwardBegins(at now: Instant) {
        exchangeNanoseconds += (now - began).nanoseconds
        began = now
    }

    mutating func forwardEnds(at now: Instant) {
        forwardNanoseconds += (now - began).nanoseconds
        forwardEnded = now
        ticks += 1
    }

    /// A tick without a model is no part of the times.
    mutating func modelRests() { forwardEnded = nil }
}
