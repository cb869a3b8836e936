import Protocol
import Testing

@testable import Coordinator

@Suite struct WakeStateMachineTests {
    let start = Instant(nanoseconds: 0)
    var machine = WakeStateMachine(view: 3, workers: WorkerSet(worldSize: 3, isFull: true))

    @Test mutating func oneRequestWakesEverybodyOnce() {
        let everybody = WakeStateMachine.WakeAction.send(fromTick: 4, workers: [0, 1, 2])
        #expect(machine.onRequest(view: 3, fromTick: 4, at: start) == everybody)
        #expect(machine.onRequest(view: 3, fromTick: 4, at: start) == .none)
        #expect(machine.onTimer(at: start) == .none)
        for worker in 0..<3 as Range<UInt32> {
            machine.onAcknowledgement(view: 3, fromTick: 4, worker: worker)
        }
        // Another leader's request for it was on its way.
        let late = start + .milliseconds(399)
        #expect(machine.onRequest(view: 3, fromTick: 4, at: late) == .none)
        // But who asks again has not been woken.
        let again = start + .milliseconds(500)
        #expect(machine.onRequest(view: 3, fromTick: 4, at: again) == everybody)
    }

    /// A worker that is broken asks for a tick that never comes.
    @Test(arguments: [true, false])
    mutating func aRequestFarAheadShutsNobodyOut(isAnswered: Bool) {
        _ = machine.onRequest(view: 3, fromTick: .max, at: start)
        if isAnswered {
            for worker in 0..<3 as Range<UInt32> {
                machine.onAcknowledgement(view: 3, fromTick: .max, worker: worker)
            }
        }
        for number in 0..<4 {
            let now = start + .milliseconds(500 * number)
            #expect(
                machine.onRequest(view: 3, fromTick: 4, at: now)
                    == .send(fromTick: 4, workers: [0, 1, 2]))
            for worker in 0..<3 as Range<UInt32> {
                machine.onAcknowledgement(view: 3, fromTick: 4, worker: worker)
            }
        }
        #expect(
            machine.onRequest(view: 3, fromTick: 5, at: start + .seconds(3))
                == .send(fromTick: 5, workers: [0, 1, 2]))
    }

    @Test(arguments: [0, 2, 4] as [UInt32])
    mutating func requestsOfOtherViewsDoNothing(view: UInt32) {
        #expect(machine.onRequest(view: view, fromTick: 0, at: start) == .none)
    }

    @Test mutating func onlyWhoHasNotAnsweredIsAskedAgain() {
        _ = machine.onRequest(view: 3, fromTick: 4, at: start)
        machine.onAcknowledgement(view: 3, fromTick: 4, worker: 1)
        machine.onAcknowledgement(view: 3, fromTick: 4, worker: 1)
        machine.onAcknowledgement(view: 2, fromTick: 4, worker: 0)
        machine.onAcknowledgement(view: 3, fromTick: 3, worker: 0)
        machine.onAcknowledgement(view: 3, fromTick: 4, worker: 99)
        let rest = WakeStateMachine.WakeAction.send(fromTick: 4, workers: [0, 2])
        #expect(machine.onTimer(at: start + .milliseconds(199)) == .none)
        #expect(machine.onTimer(at: start + .milliseconds(200)) == rest)
        #expect(machine.onTimer(at: start + .milliseconds(300)) == .none)
        #expect(machine.onTimer(at: start + .milliseconds(400)) == rest)
        machine.onAcknowledgement(view: 3, fromTick: 4, worker: 0)
        machine.onAcknowledgement(view: 3, fromTick: 4, worker: 2)
        #expect(machine.onTimer(at: start + .seconds(60)) == .none)
    }

    @Test mutating func whoNeverAnswersIsGivenUp() {
        _ = machine.onRequest(view: 3, fromTick: 4, at: start)
        machine.onAcknowledgement(view: 3, fromTick: 4, worker: 0)
        #expect(machine.onTimer(at: start + .milliseconds(4999)) != .giveUp(workers: [1, 2]))
        #expect(machine.onTimer(at: start + .seconds(5)) == .giveUp(workers: [1, 2]))
    }

    @Test mutating func aLaterRequestTakesTheEarlierOnesPlace() {
        _ = machine.onRequest(view: 3, fromTick: 4, at: start)
        let later = start + .seconds(4)
        #expect(
            machine.onRequest(view: 3, fromTick: 9, at: later)
                == .send(fromTick: 9, workers: [0, 1, 2]))
        machine.onAcknowledgement(view: 3, fromTick: 4, worker: 0)
        #expect(
            machine.onTimer(at: later + .seconds(1)) == .send(fromTick: 9, workers: [0, 1, 2]))
    }
}
