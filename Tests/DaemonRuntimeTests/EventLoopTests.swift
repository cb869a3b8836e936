import DaemonRuntime
import Glibc
import Protocol
import Testing

/// Long enough for a busy machine; a test that is right never waits for it.
func deadline() -> Instant { MonotonicClock.now() + .seconds(20) }

@Suite struct EventLoopTests {
    let loop = EventLoop()

    static func pipeEnds() -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "pipe failed with errno \(errno)")
        return (ends[0], ends[1])
    }

    static func fill(_ fd: Int32) {
        let written = write(fd, "x", 1)
        precondition(written == 1, "write failed with errno \(errno)")
    }

    // MARK: Timers

    @Test func timersRunInTheOrderOfTheirInstants() {
        let now = MonotonicClock.now()
        var order: [Int] = []
        for delay in [5, 1, 4, 0, 3, 2] {
            loop.schedule(at: now + .milliseconds(delay)) { order.append(delay) }
        }
        #expect(loop.run(until: deadline()) { order.count == 6 })
        #expect(order == [0, 1, 2, 3, 4, 5])
    }

    @Test func timersOfOneInstantRunInTheOrderInWhichTheyWereSet() {
        let now = MonotonicClock.now()
        var order: [Int] = []
        for number in 0..<50 { loop.schedule(at: now) { order.append(number) } }
        #expect(loop.run(until: deadline()) { order.count == 50 })
        #expect(order == Array(0..<50))
    }

    @Test func aCancelledTimerDoesNotRun() {
        var ran: [String] = []
        let cancelled = loop.schedule(after: .milliseconds(1)) { ran.append("cancelled") }
        loop.schedule(after: .milliseconds(2)) { ran.append("kept") }
        loop.cancel(cancelled)
        #expect(loop.run(until: deadline()) { !ran.isEmpty })
        #expect(ran == ["kept"])
        loop.cancel(cancelled)
    }

    @Test func aTimerCanCancelOneThatIsDueInTheSameTurn() {
        let now = MonotonicClock.now()
        var second: EventLoop.TimerID?
        var ran: [Int] = []
        loop.schedule(at: now) {
            ran.append(1)
            if let second { loop.cancel(second) }
        }
        second = loop.schedule(at: now) { ran.append(2) }
        loop.schedule(after: .milliseconds(3)) { ran.append(3) }
        #expect(loop.run(until: deadline()) { ran.last == 3 })
        #expect(ran == [1, 3])
    }

    @Test func timersRunUnderConstantTraffic() {
        let ends = Self.pipeEnds()
        defer {
            close(ends.read)
            close(ends.write)
        }
        var turns = 0
        var fired = false
        loop.watch(ends.read, for: .readable) { _ in turns += 1 }
        let drain = loop.addDrain { true }
        Self.fill(ends.write)
        loop.schedule(after: .milliseconds(5)) { fired = true }
        #expect(loop.run(until: deadline()) { fired })
        #expect(turns > 1, "the descriptor was ready all the time")
        loop.removeDrain(drain)
        loop.unwatch(ends.read)
    }

    @Test func aRepeatingTimerRepeatsUntilTheLoopStops() {
        var count = 0
        loop.scheduleRepeating(every: .milliseconds(1)) {
            count += 1
            if count == 5 { loop.stop() }
        }
        loop.run()
        #expect(count == 5)
    }

    @Test func aConditionThatNeverHoldsEndsAtTheDeadline() {
        let start = MonotonicClock.now()
        #expect(!loop.run(until: start + .milliseconds(5)) { false })
        #expect(MonotonicClock.now() - start >= .milliseconds(5))
    }

    // MARK: Descriptors

    @Test func aHandlerCanUnwatchItself() {
        let ends = Self.pipeEnds()
        var count = 0
        loop.watch(ends.read, for: .readable) { _ in
            count += 1
            loop.unwatch(ends.read)
            close(ends.read)
        }
        Self.fill(ends.write)
        #expect(loop.run(until: deadline()) { count > 0 })
        #expect(!loop.run(until: MonotonicClock.now() + .milliseconds(5)) { count > 1 })
        close(ends.write)
    }

    @Test func aHandlerCanUnwatchAnotherThatIsReadyToo() {
        let all = (0..<2).map { _ in Self.pipeEnds() }
        var called: [Int] = []
        for (index, ends) in all.enumerated() {
            loop.watch(ends.read, for: .readable) { _ in
                called.append(index)
                loop.unwatch(all[1 - index].read)
            }
            Self.fill(ends.write)
        }
        #expect(loop.run(until: deadline()) { called.count >= 3 })
        #expect(Set(called).count == 1, "\(called): the one that is unwatched is not called")
        for ends in all {
            loop.unwatch(ends.read)
            close(ends.read)
            close(ends.write)
        }
    }

    @Test func aNumberThatIsWatchedAgainDoesNotGetTheOldEvents() {
        let first = Self.pipeEnds()
        let second = Self.pipeEnds()
        var late = false
        loop.watch(first.read, for: .readable) { _ in
            // The second's number now names a pipe with nothing in it.
            loop.unwatch(second.read)
            loop.unwatch(first.read)
            let fresh = Self.pipeEnds()
            dup2(fresh.read, second.read)
            loop.watch(second.read, for: .readable) { _ in late = true }
        }
        loop.watch(second.read, for: .readable) { _ in loop.unwatch(second.read) }
        Self.fill(first.write)
        Self.fill(second.write)
        #expect(!loop.run(until: MonotonicClock.now() + .milliseconds(10)) { late })
    }

    @Test func interestCanChangeAndAHangUpIsSeen() {
        var pair: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        var seen: EventLoop.Readiness = []
        loop.watch(pair[0], for: .readable) { seen.formUnion($0) }
        loop.changeInterest(of: pair[0], to: [.readable, .writable])
        #expect(loop.run(until: deadline()) { seen.contains(.writable) })
        #expect(!seen.contains(.readable))
        loop.changeInterest(of: pair[0], to: [.readable, .hangUp])
        close(pair[1])
        #expect(loop.run(until: deadline()) { !seen.isDisjoint(with: .hangUp) })
        loop.unwatch(pair[0])
        close(pair[0])
    }

    // MARK: Drains

    @Test func aDrainIsAskedUntilItHasNothingLeft() {
        var left = 5
        let drain = loop.addDrain {
            if left > 0 { left -= 1 }
            return left > 0
        }
        #expect(loop.run(until: deadline()) { left == 0 })
        loop.removeDrain(drain)
    }

    @Test func aDrainThatAnotherRemovesIsNotCalledAgain() {
        var calls = 0
        var second: UInt64?
        var removed = false
        let first = loop.addDrain {
            if let second, !removed {
                loop.removeDrain(second)
                removed = true
            }
            return false
        }
        second = loop.addDrain {
            calls += 1
            return false
        }
        _ = loop.run(until: MonotonicClock.now() + .milliseconds(2)) { false }
        #expect(removed && calls == 0)
        loop.removeDrain(first)
    }

    // MARK: Signals

    @Test func aSignalArrivesOnTheLoop() {
        // To this thread alone: the others of the test runner keep the default handler.
        var old = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &old)
        var received: [Int32] = []
        loop.onSignals([SIGUSR1]) { received.append($0) }
        pthread_kill(pthread_self(), SIGUSR1)
        #expect(loop.run(until: deadline()) { !received.isEmpty })
        #expect(received == [SIGUSR1])
        pthread_sigmask(SIG_SETMASK, &old, nil)
    }
}
