internal import CLinux
internal import Glibc
public import Protocol

/// A daemon's one loop: descriptors, timers and signals, on the thread that calls ``run()``.
///
/// It is the only place where a daemon's main thread blocks. A turn runs the timers that are due
/// (every turn, so that constant traffic cannot starve them), then the hooks that drain sockets
/// whose descriptor is edge-triggered (ZeroMQ), then waits for descriptors. Handlers must not
/// block; each takes a bounded amount of work and says whether more is left.
///
/// Not `Sendable`: everything but ``Waker`` belongs to the loop's thread.
public final class EventLoop {
    public struct Readiness: OptionSet, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        public static let readable = Readiness(rawValue: UInt32(CL_IN))
        public static let writable = Readiness(rawValue: UInt32(CL_OUT))
        /// The peer closed its sending side, or the connection is broken.
        public static let hangUp = Readiness(
            rawValue: UInt32(CL_RDHUP | CL_HUP | CL_ERR))
    }

    public struct TimerID: Hashable, Sendable {
        fileprivate let number: UInt64
    }

    /// Ready descriptors taken in one turn.
    public static let eventsPerTurnMax = 256

    private let epoll: Int32
    private var watches: [UInt64: (fd: Int32, handler: (Readiness) -> Void)] = [:]
    private var watchIDs: [Int32: UInt64] = [:]
    private var timers: [(at: Instant, id: UInt64, handler: () -> Void)] = []  // a binary heap
    private var cancelledTimers: Set<UInt64> = []
    /// Timers that this turn has taken from the heap and not run yet.
    private var dueTimers: Set<UInt64> = []
    private var drains: [(id: UInt64, drain: () -> Bool)] = []
    private var nextID: UInt64 = 1
    private var stopped = false
    /// Turns begun so far.
    public private(set) var turnCount: UInt64 = 0

    public init() {
        epoll = cl_epoll_create()
        precondition(epoll >= 0, "epoll_create1 failed with errno \(cl_errno())")
    }

    deinit { close(epoll) }

    // MARK: Descriptors

    /// Calls `handler` whenever `fd` is ready (level-triggered). One watch a descriptor.
    public func watch(
        _ fd: Int32, for interest: Readiness, _ handler: @escaping (Readiness) -> Void
    ) {
        precondition(watchIDs[fd] == nil, "descriptor \(fd) is watched already")
        let id = takeID()
        let result = cl_epoll_control(epoll, 0, fd, interest.rawValue, id)
        precondition(result == 0, "epoll add of \(fd) failed with errno \(cl_errno())")
        watches[id] = (fd, handler)
        watchIDs[fd] = id
    }

    public func changeInterest(of fd: Int32, to interest: Readiness) {
        guard let id = watchIDs[fd] else { preconditionFailure("\(fd) is not watched") }
        let result = cl_epoll_control(epoll, 1, fd, interest.rawValue, id)
        precondition(result == 0, "epoll change of \(fd) failed with errno \(cl_errno())")
    }

    /// Must come before `close(fd)`. Events of `fd` that are already collected are dropped.
    public func unwatch(_ fd: Int32) {
        guard let id = watchIDs.removeValue(forKey: fd) else { return }
        watches[id] = nil
        _ = cl_epoll_control(epoll, 2, fd, 0, 0)
    }

    /// Calls `drain` every turn; it returns true while more work is waiting, and the loop then does
    /// not sleep. For sockets whose descriptor is edge-triggered.
    public func addDrain(_ drain: @escaping () -> Bool) -> UInt64 {
        let id = takeID()
        drains.append((id, drain))
        return id
    }

    public func removeDrain(_ id: UInt64) { drains.removeAll { $0.id == id } }

    /// Takes the signals away from the default handlers and hands them to `handler` on this loop.
    public func onSignals(_ signals: [Int32], _ handler: @escaping (Int32) -> Void) {
        let fd = cl_signalfd(signals, Int32(signals.count))
        precondition(fd >= 0, "signalfd failed with errno \(cl_errno())")
        watch(fd, for: .readable) { _ in
            while true {
                let signal = cl_signalfd_read(fd)
                guard signal > 0 else { return }
                handler(signal)
            }
        }
    }

    // MARK: Timers

    @discardableResult
    public func schedule(at instant: Instant, _ handler: @escaping () -> Void) -> TimerID {
        let id = takeID()
        timers.append((instant, id, handler))
        siftUp(timers.count - 1)
        return TimerID(number: id)
    }

    @discardableResult
    public func schedule(after interval: Interval, _ handler: @escaping () -> Void) -> TimerID {
        schedule(at: MonotonicClock.now() + interval, handler)
    }

    /// Calls `handler` every `interval` until the loop stops.
    public func scheduleRepeating(every interval: Interval, _ handler: @escaping () -> Void) {
        schedule(after: interval) { [weak self] in
            handler()
            self?.scheduleRepeating(every: interval, handler)
        }
    }

    public func cancel(_ timer: TimerID) {
        let isWaiting = timers.contains { $0.id == timer.number }
        if isWaiting || dueTimers.contains(timer.number) { cancelledTimers.insert(timer.number) }
    }

    // MARK: Running

    /// Runs until ``stop()``.
    public func run() {
        stopped = false
        while !stopped { turn(waitingAtMost: .seconds(3600)) { stopped } }
    }

    public func stop() { stopped = true }

    /// Runs turns until `condition` holds or `deadline` passes; true when it holds. For tests.
    public func run(until deadline: Instant, _ condition: () -> Bool) -> Bool {
        while !condition() {
            let left = deadline - MonotonicClock.now()
            if left <= .zero { return false }
            turn(waitingAtMost: left, unless: condition)
        }
        return true
    }

    /// Timers and drains may bring about what the caller waits for, so `isOver` is asked before the
    /// wait.
    private func turn(waitingAtMost limit: Interval, unless isOver: () -> Bool) {
        turnCount += 1
        runDueTimers()
        var moreWaiting = false
        for entry in drains where drains.contains(where: { $0.id == entry.id }) {
            if entry.drain() { moreWaiting = true }
        }
        if isOver() { return }
        var wait = moreWaiting ? Interval.zero : limit
        if let first = timers.first {
            wait = min(wait, max(first.at - MonotonicClock.now(), .zero))
        }
        // Rounded up, so that a timer is due when the wait ends.
        let milliseconds = Int32(clamping: (wait.nanoseconds + 999_999) / 1_000_000)
        withUnsafeTemporaryAllocation(of: cl_event.self, capacity: Self.eventsPerTurnMax) { ready in
            let capacity = Int32(Self.eventsPerTurnMax)
            let count = cl_epoll_wait(epoll, ready.baseAddress, capacity, milliseconds)
            if count < 0 {
                precondition(cl_errno() == EINTR, "epoll_wait failed with errno \(cl_errno())")
                return
            }
            for index in 0..<Int(count) {
                guard let watch = watches[ready[index].data] else { continue }
                watch.handler(Readiness(rawValue: ready[index].events))
            }
        }
    }

    private func runDueTimers() {
        let now = MonotonicClock.now()
        // A handler that schedules a timer for now gets it in the next turn.
        var due: [(id: UInt64, handler: () -> Void)] = []
        while let first = timers.first, first.at <= now {
            due.append((first.id, first.handler))
            dueTimers.insert(first.id)
            removeFirstTimer()
        }
        for timer in due {
            dueTimers.remove(timer.id)
            if cancelledTimers.remove(timer.id) == nil { timer.handler() }
        }
    }

    private func takeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    private func removeFirstTimer() {
        timers.swapAt(0, timers.count - 1)
        timers.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < timers.count {
                if isBefore(child, least) { least = child }
            }
            if least == parent { return }
            timers.swapAt(parent, least)
            parent = least
        }
    }

    /// Timers of one instant run in the order in which they were set.
    private func isBefore(_ left: Int, _ right: Int) -> Bool {
        (timers[left].at, timers[left].id) < (timers[right].at, timers[right].id)
    }

    private func siftUp(_ start: Int) {
        var child = start
        while child > 0, isBefore(child, (child - 1) / 2) {
            timers.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }
}
