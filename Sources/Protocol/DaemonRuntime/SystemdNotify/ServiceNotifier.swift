internal import CSystemd
internal import Glibc
public import Protocol

/// Tells the service manager how the daemon is doing (`sd_notify(3)`); silent without one.
public final class ServiceNotifier: Sendable {
    private let isReady = Lock(false)

    public init() {}

    /// Serving.
    public func ready() {
        isReady.withLock { $0 = true }
        notify("READY=1")
    }

    /// The configuration is being read again, until ``reloaded()``. A service manager that waits
    /// for READY=1 at the start must not take the end of a reload for it.
    public func reloading() {
        guard isReady.withLock({ $0 }) else { return }
        let microseconds = MonotonicClock.now().nanoseconds / 1000
        _ = sd_notify(0, "RELOADING=1\nMONOTONIC_USEC=\(microseconds)")
    }

    public func reloaded() {
        if isReady.withLock({ $0 }) { notify("READY=1") }
    }

    /// One line for `systemctl status`: what is happening now.
    public func status(_ text: String) { notify("STATUS=\(text)") }

    /// Where it listens, also where the system picked the port. A service manager that does not
    /// know the variable ignores it.
    public func endpoint(_ text: String) { notify("\(Self.endpointVariable)=\(text)") }

    public static let endpointVariable = "X_PHALANX_ENDPOINT"

    public func stopping() {
        isReady.withLock { $0 = false }
        notify("STOPPING=1")
    }

    /// A sign of forward progress; see ``watchdogInterval``.
    public func watchdog() { notify("WATCHDOG=1") }

    /// For how long ``extendTimeout()`` asks.
    static let timeoutExtension = Interval.seconds(30)

    /// Start or stop takes longer, and that is well: the unit's `TimeoutStartSec=` or
    /// `TimeoutStopSec=` ends the daemon only if this has not been said for a while. What bounds
    /// both is an option of the daemon, so nobody has to repeat it in a unit.
    public func extendTimeout() {
        notify("EXTEND_TIMEOUT_USEC=\(Self.timeoutExtension.nanoseconds / 1000)")
    }

    /// How often to give it: four times within what the unit's `WatchdogSec=` allows. So a daemon
    /// may be without progress for three quarters of that. Nil without one.
    public var watchdogInterval: Interval? {
        var microseconds: UInt64 = 0
        guard sd_watchdog_enabled(0, &microseconds) > 0 else { return nil }
        return Interval(nanoseconds: Int64(clamping: microseconds) * 250)
    }

    /// Sockets that systemd opened for this process (socket activation), lowest first.
    public static func inheritedListeners() -> [Int32] {
        let count = sd_listen_fds(1)
        guard count > 0 else { return [] }
        return (0..<count).map { $0 + 3 }  // SD_LISTEN_FDS_START
    }

    private func notify(_ state: String) {
        // A newline would start another assignment.
        _ = sd_notify(0, String(state.map { $0 == "\n" ? " " : $0 }))
    }
}
