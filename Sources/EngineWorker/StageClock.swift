internal import DaemonRuntime
public import Protocol

/// Adds up where the time of ticks goes: each lap, the time since the one before, belongs to the
/// stage that has just ended, so that nothing between `start` and the last lap is left out.
///
/// A lap reads the monotonic clock once (20 to 40 ns), six or seven times a layer. It belongs to
/// the engine thread.
public final class StageClock {
    public private(set) var times = StageTimes()
    private var lapBegan = Instant(nanoseconds: 0)

    public init() {}

    /// The time before this belongs to no stage.
    public func start() { lapBegan = MonotonicClock.now() }

    public func lap(_ stage: TickStage) {
        let now = MonotonicClock.now()
        times[stage] &+= UInt64(max((now - lapBegan).nanoseconds, 0))
        lapBegan = now
    }
}
