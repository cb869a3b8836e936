import Protocol
import Testing

@testable import EngineWorker

@Suite struct LockstepStateMachineTests {
    typealias State = LockstepStateMachine.State
    let start = Instant(nanoseconds: 0)

    static func entry(
        view: UInt32 = 1, tick: UInt64, hasWork: Bool = false
    ) -> TickEntry {
        TickEntry(
            view: view, tick: tick, tokens: hasWork ? 1 : 0, prefillTokens: 0, kvUsage: 0,
            hasWork: hasWork, failed: false)
    }

    static func idle(view: UInt32 = 1, worldSize: Int = 2) -> LockstepStateMachine {
        var machine = LockstepStateMachine(syncInterval: 1)
        machine.onViewActive(view, worldSize: worldSize)
        return machine
    }

    /// In view 1, the next tick is `tick`.
    static func running(tick: UInt64) -> LockstepStateMachine {
        var machine = idle()
        _ = machine.onWake(view: 1, fromTick: 0)
        for done in 0..<tick {
            _ = machine.onVector([entry(tick: done, hasWork: true), entry(tick: done)])
        }
        return machine
    }

    /// In view 1, idle before `tick`, which is at least 1.
    static func idle(tick: UInt64) -> LockstepStateMachine {
        var machine = running(tick: tick - 1)
        _ = machine.onVector([entry(tick: tick - 1), entry(tick: tick - 1)])
        return machine
    }

    @Test func theHelpersReachTheirStates() {
        #expect(Self.running(tick: 5).state == .running(view: 1, tick: 5))
        #expect(Self.idle(tick: 5).state == .idle(view: 1, tick: 5))
    }

    // MARK: Wake

    struct Wake: Sendable {
        let from: LockstepStateMachine
        let view: UInt32
        let fromTick: UInt64
        let action: LockstepStateMachine.WakeAction
        let state: State
    }

    static let wakes: [Wake] = [
        Wake(
            from: LockstepStateMachine(syncInterval: 1), view: 1, fromTick: 0, action: .ignore,
            state: .detached),
        Wake(
            from: idle(tick: 5), view: 1, fromTick: 5, action: .acknowledge,
            state: .running(view: 1, tick: 5)),
        // Late or repeated: heard, and nothing more.
        Wake(
            from: idle(tick: 5), view: 1, fromTick: 4, action: .acknowledge,
            state: .idle(view: 1, tick: 5)),
        Wake(
            from: idle(tick: 5), view: 1, fromTick: 0, action: .acknowledge,
            state: .idle(view: 1, tick: 5)),
        Wake(
            from: idle(tick: 5), view: 0, fromTick: 5, action: .ignore,
            state: .idle(view: 1, tick: 5)),
        Wake(
            from: idle(tick: 5), view: 2, fromTick: 5, action: .ignore,
            state: .idle(view: 1, tick: 5)),
        Wake(
            from: running(tick: 5), view: 1, fromTick: 5, action: .acknowledge,
            state: .running(view: 1, tick: 5)),
        Wake(
            from: running(tick: 5), view: 1, fromTick: 6, action: .acknowledge,
            state: .running(view: 1, tick: 5)),
        Wake(
            from: running(tick: 5), view: 2, fromTick: 6, action: .ignore,
            state: .running(view: 1, tick: 5)),
    ]

    @Test(arguments: wakes)
    func aWakeDoesWhatTheTableSays(wake: Wake) {
        var machine = wake.from
        #expect(machine.onWake(view: wake.view, fromTick: wake.fromTick) == wake.action)
        #expect(machine.state == wake.state)
    }

    @Test func aWakeThatComesBeforeTheGroupSleepsKeepsItAwake() {
        var machine = Self.running(tick: 5)
        #expect(machine.onWake(view: 1, fromTick: 6) == .acknowledge)
        _ = machine.onVector([Self.entry(tick: 5), Self.entry(tick: 5)])
        #expect(machine.state == .running(view: 1, tick: 6))
        // Once only.
        _ = machine.onVector([Self.entry(tick: 6), Self.entry(tick: 6)])
        #expect(machine.state == .idle(view: 1, tick: 7))
    }

    @Test func anEarlyWakeOfALaterTickIsKept() {
        var machine = Self.running(tick: 5)
        _ = machine.onWake(view: 1, fromTick: 8)
        for tick in 5..<7 as Range<UInt64> {
            _ = machine.onVector([Self.entry(tick: tick, hasWork: true), Self.entry(tick: tick)])
        }
        _ = machine.onVector([Self.entry(tick: 7), Self.entry(tick: 7)])
        #expect(machine.state == .running(view: 1, tick: 8))
    }

    /// What ranks derive from a vector depends on the view's version, so they must agree on it.
    @Test func aRankThatTakesAnotherVersionForTheViewsEndsIt() {
        for version in [1, 2] as [UInt32] {
            var machine = LockstepStateMachine(syncInterval: 1)
            machine.onViewActive(1, worldSize: 2, protocolVersion: version)
            _ = machine.onWake(view: 1, fromTick: 0)
            var same = Self.entry(tick: 0, hasWork: true)
            same.protocolVersion = version
            var other = same
            other.protocolVersion = 3 - version
            var otherMachine = machine
            #expect(otherMachine.onVector([same, other]) == .disagreement(rank: 1))
            guard case .decided = machine.onVector([same, same]) else {
                Issue.record("one version is no disagreement")
                continue
            }
        }
    }

    /// A worker that asks for a tick far ahead would else keep the group from being woken.
    @Test(arguments: [[6, .max], [.max, 6]] as [[UInt64]])
    func aWakeFarAheadDoesNotReplaceTheNextOne(wakes: [UInt64]) {
        var machine = Self.running(tick: 5)
        for fromTick in wakes {
            #expect(machine.onWake(view: 1, fromTick: fromTick) == .acknowledge)
        }
        _ = machine.onVector([Self.entry(tick: 5), Self.entry(tick: 5)])
        #expect(machine.state == .running(view: 1, tick: 6))
    }

    @Test func anotherViewForgetsTheEarlyWake() {
        var machine = Self.running(tick: 5)
        _ = machine.onWake(view: 1, fromTick: 1)
        _ = machine.onWake(view: 1, fromTick: 6)
        machine.onViewEnded()
        machine.onViewActive(3, worldSize: 2)
        _ = machine.onWake(view: 3, fromTick: 0)
        for tick in 0..<5 as Range<UInt64> {
            _ = machine.onVector([
                Self.entry(view: 3, tick: tick, hasWork: true), Self.entry(view: 3, tick: tick),
            ])
        }
        _ = machine.onVector([Self.entry(view: 3, tick: 5), Self.entry(view: 3, tick: 5)])
        #expect(machine.state == .idle(view: 3, tick: 6))
    }

    // MARK: Work

    @Test func workAsksToBeWokenUntilSomethingHappens() {
        var machine = Self.idle(tick: 5)
        let request = LockstepStateMachine.WorkAction.requestWake(view: 1, fromTick: 5)
        #expect(machine.onWork(at: start) == request)
        #expect(machine.onWork(at: start + .milliseconds(499)) == .none)
        #expect(machine.onWork(at: start + .milliseconds(500)) == request)
        _ = machine.onWake(view: 1, fromTick: 5)
        #expect(machine.onWork(at: start + .seconds(9)) == .none)
        // Idle again at once: the next work must not wait for the old request's interval.
        _ = machine.onVector([Self.entry(tick: 5), Self.entry(tick: 5)])
        #expect(
            machine.onWork(at: start + .milliseconds(501)) == .requestWake(view: 1, fromTick: 6))
    }

    @Test func workDoesNothingOutsideAView() {
        var machine = LockstepStateMachine(syncInterval: 1)
        #expect(machine.onWork(at: start) == .none)
        machine.onViewActive(4, worldSize: 2)
        machine.onViewEnded()
        #expect(machine.onWork(at: start) == .none)
        #expect(machine.state == .detached)
    }

    @Test func aRankThatIsAloneWakesItself() {
        var machine = Self.idle(worldSize: 1)
        #expect(machine.onWork(at: start) == .none)
        #expect(machine.state == .running(view: 1, tick: 0))
    }

    // MARK: Vectors

    @Test(arguments: [
        [nil, entry(tick: 5)], [entry(tick: 4), entry(tick: 5)], [entry(tick: 6), entry(tick: 5)],
        [entry(view: 2, tick: 5), entry(tick: 5)],
    ])
    func aRankThatIsSomewhereElseIsNamed(vector: [TickEntry?]) {
        var machine = Self.running(tick: 5)
        #expect(machine.onVector(vector) == .disagreement(rank: 0))
        #expect(machine.onVector(vector.reversed()) == .disagreement(rank: 1))
        #expect(machine.state == .running(view: 1, tick: 5))
    }

    @Test func idlenessIsJudgedEverySyncInterval() {
        var machine = LockstepStateMachine(syncInterval: 4)
        machine.onViewActive(1, worldSize: 2)
        _ = machine.onWake(view: 1, fromTick: 0)
        _ = machine.onVector([Self.entry(tick: 0, hasWork: true), Self.entry(tick: 0)])
        var tick: UInt64 = 1
        while case .running = machine.state, tick < 20 {
            _ = machine.onVector([Self.entry(tick: tick), Self.entry(tick: tick)])
            tick += 1
        }
        #expect(machine.state == .idle(view: 1, tick: 5))
    }
}
