import Protocol
import Testing

@testable import Control

@Suite struct LauncherStateMachineTests {
    static let start = Instant(nanoseconds: 1_000_000_000_000)
    static let limit = Interval.seconds(40)

    static func at(_ milliseconds: Int) -> Instant { start + .milliseconds(milliseconds) }

    static func process(_ name: String, _ role: Deployment.Role) -> DeploymentPlan.Process {
        DeploymentPlan.Process(name: name, role: role, ranks: nil, endpoint: "", command: [])
    }

    /// 0 is the coordinator, 1 and 2 are workers, 3 is the gateway.
    static func machine() -> LauncherStateMachine {
        LauncherStateMachine(
            [
                process("coordinator", .coordinator), process("worker-0", .worker),
                process("worker-1", .worker), process("gateway", .gateway),
            ], stopTimeout: limit)
    }

    static func serving() -> LauncherStateMachine {
        var machine = machine()
        _ = machine.onBegin(at: start)
        _ = machine.onEndpoint(of: 0, at: start)
        for index in 0...3 { _ = machine.onReady(index) }
        return machine
    }

    @Test func theOthersFollowWhenTheCoordinatorListens() {
        var machine = Self.machine()
        #expect(machine.onBegin(at: Self.start) == [.start(0)])
        #expect(machine.onReady(0) == [])
        #expect(
            machine.onEndpoint(of: 0, at: Self.at(5)) == [.start(1), .start(2), .start(3)])
        #expect(machine.onEndpoint(of: 3, at: Self.at(6)) == [])
        #expect(machine.onReady(1) == [] && machine.onReady(2) == [])
        #expect(machine.onReady(3) == [.serving])
        #expect(machine.onReady(3) == [])
        #expect(machine.nextTimer == nil)
    }

    @Test func aHeadlessNodeServesWhenItsWorkersDo() {
        var machine = LauncherStateMachine(
            [Self.process("worker-2", .worker), Self.process("worker-3", .worker)],
            stopTimeout: Self.limit)
        #expect(machine.onBegin(at: Self.start) == [.start(0), .start(1)])
        #expect(machine.onReady(1) == [])
        #expect(machine.onReady(0) == [.serving])
    }

    @Test func theyStopByKindEachWhenTheOneBeforeHasEnded() {
        var machine = Self.serving()
        let stop = machine.onSignal(at: Self.at(10))
        #expect(stop == [.say("stopping   (once more to kill)"), .terminate(3)])
        #expect(machine.isStopping)
        #expect(machine.onEnd(3, .code(0), at: Self.at(20)) == [.terminate(1), .terminate(2)])
        #expect(machine.onEnd(2, .code(0), at: Self.at(30)) == [])
        #expect(machine.onEnd(1, .code(0), at: Self.at(40)) == [.terminate(0)])
        #expect(machine.onEnd(0, .code(0), at: Self.at(50)) == [.finish(.success)])
        #expect(machine.nextTimer == nil)
    }

    @Test func whatDoesNotStopInTimeIsKilledAndASecondSignalKillsAll() {
        var machine = Self.serving()
        _ = machine.onSignal(at: Self.start)
        #expect(machine.nextTimer == Self.start + Self.limit)
        #expect(machine.onTimer(at: Self.at(39_999)) == [])
        #expect(
            machine.onTimer(at: Self.at(40_000))
                == [.say("gateway does not stop: killed"), .kill(3)])
        #expect(machine.nextTimer == nil)
        #expect(machine.onSignal(at: Self.at(40_001)) == [.kill(0), .kill(1), .kill(2), .kill(3)])
        _ = machine.onEnd(3, .signal(9), at: Self.at(40_002))
        _ = machine.onEnd(1, .signal(9), at: Self.at(40_002))
        _ = machine.onEnd(2, .signal(9), at: Self.at(40_002))
        #expect(machine.onEnd(0, .signal(9), at: Self.at(40_003)) == [.finish(.success)])
    }

    @Test func aWorkerComesBackAfterAPauseThatDoublesWhileItsLivesAreShort() {
        var machine = Self.serving()
        var now = Self.start
        for pause in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let said = machine.onEnd(1, .signal(11), at: now)
            #expect(
                said == [
                    .say("worker-0 was killed by signal 11; it is started again in \(pause) ms")
                ])
            #expect(machine.nextTimer == now + .milliseconds(pause))
            #expect(machine.onTimer(at: now + .milliseconds(pause - 1)) == [])
            now = now + .milliseconds(pause)
            #expect(machine.onTimer(at: now) == [.start(1)])
        }
        // Ten seconds are a good life, and a worker that served may end by itself.
        _ = machine.onReady(1)
        now = now + .seconds(10)
        #expect(
            machine.onEnd(1, .code(1), at: now)
                == [.say("worker-0 ended with code 1; it is started again in 100 ms")])
    }

    static let endings: [(index: Int, end: ProcessEnd, exit: ControlExit)] = [
        (0, .code(1), .finding), (0, .code(64), .usage), (3, .signal(9), .finding),
        (3, .code(0), .success), (1, .notStarted("x"), .finding), (0, .code(3), .finding),
    ]

    @Test(arguments: endings)
    func everyOtherEndStopsAllWithItsCode(index: Int, end: ProcessEnd, exit: ControlExit) {
        var machine = Self.serving()
        var actions = machine.onEnd(index, end, at: Self.start)
        guard case .say(let text) = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(text.hasSuffix("; all stop"))
        for other in [3, 1, 2, 0] where other != index {
            actions += machine.onEnd(other, .code(0), at: Self.at(1))
        }
        #expect(actions.last == .finish(exit))
    }

    @Test func aWorkerThatNeverServedWouldEndAgain() {
        var machine = Self.machine()
        _ = machine.onBegin(at: Self.start)
        _ = machine.onEndpoint(of: 0, at: Self.start)
        let actions = machine.onEnd(2, .code(1), at: Self.at(1))
        #expect(actions == [.say("worker-1 ended with code 1; all stop"), .terminate(3)])
    }

    @Test func aCoordinatorThatNeverListensIsGivenUp() {
        var machine = Self.machine()
        _ = machine.onBegin(at: Self.start)
        #expect(machine.nextTimer == Self.at(30_000))
        #expect(
            machine.onTimer(at: Self.at(30_000)) == [
                .say("the coordinator does not listen after 30 s"), .terminate(0),
            ])
        #expect(machine.onEnd(0, .code(0), at: Self.at(30_001)) == [.finish(.finding)])
    }

    @Test func nothingIsStartedWhileAllStop() {
        var machine = Self.serving()
        _ = machine.onEnd(1, .signal(9), at: Self.start)
        _ = machine.onSignal(at: Self.at(1))
        #expect(machine.onTimer(at: Self.at(5000)) == [])
        _ = machine.onEnd(3, .code(0), at: Self.at(5000))
        #expect(machine.onEnd(2, .code(0), at: Self.at(5001)) == [.terminate(0)])
    }
}
