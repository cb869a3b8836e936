import Protocol
import Testing

@testable import Gateway

@Suite struct ChoiceStateMachineTests {
    private func submitted() -> ChoiceStateMachine {
        var machine = ChoiceStateMachine()
        machine.onSubmitted(to: 1)
        return machine
    }

    @Test func tokensFlowUntilTheLeaderEndsIt() {
        var machine = submitted()
        #expect(
            machine.onOutput(from: 1, tokenCount: 1, isLast: false)
                == .deliver(isFirst: true, isLast: false))
        #expect(machine.state == .generating(rank: 1))
        #expect(
            machine.onOutput(from: 1, tokenCount: 2, isLast: true)
                == .deliver(isFirst: false, isLast: true))
        #expect(machine.isEnded && machine.tokenCount == 3)
        #expect(machine.end() == .none)
    }

    @Test func whatComesAfterTheEndIsIgnored() {
        var machine = submitted()
        #expect(machine.end() == .cancel(rank: 1))
        #expect(machine.onOutput(from: 1, tokenCount: 1, isLast: true) == .ignore)
        #expect(machine.onRejected(by: 1, reason: .overloaded) == .ignore)
        let wasParked = machine.onRankLost(1)
        #expect(!wasParked)
        #expect(machine.end() == .none)
    }

    @Test func anotherRankHasNoSay() {
        var machine = submitted()
        #expect(machine.onOutput(from: 2, tokenCount: 1, isLast: true) == .ignore)
        #expect(machine.onRejected(by: 2, reason: .invalid) == .ignore)
        let wasParked = machine.onRankLost(2)
        #expect(!wasParked)
        #expect(machine.state == .submitted(rank: 1))
    }

    @Test func aLostRankParksItWithItsTokens() {
        var machine = submitted()
        _ = machine.onOutput(from: 1, tokenCount: 4, isLast: false)
        let isParked = machine.onRankLost(1)
        #expect(isParked)
        #expect(machine.state == .parked && machine.tokenCount == 4)
        machine.onSubmitted(to: 2)
        #expect(
            machine.onOutput(from: 2, tokenCount: 1, isLast: false)
                == .deliver(isFirst: false, isLast: false))
    }

    @Test(arguments: [RejectionReason.otherView, .draining])
    func anyNumberOfRanksMayLeaveTheirView(reason: RejectionReason) {
        var machine = ChoiceStateMachine()
        for rank in 0..<(10 * ChoiceStateMachine.rejectionsMax) {
            machine.onSubmitted(to: rank)
            let action = machine.onRejected(by: rank, reason: reason)
            #expect(action == .resubmit)
        }
        #expect(machine.state == .parked)
    }

    @Test func aFullRankIsTriedAgainButNotForEver() {
        var machine = ChoiceStateMachine()
        var resubmissions = 0
        while true {
            machine.onSubmitted(to: 0)
            let action = machine.onRejected(by: 0, reason: .overloaded)
            if action == .fail { break }
            #expect(action == .resubmit)
            resubmissions += 1
        }
        #expect(resubmissions == ChoiceStateMachine.rejectionsMax - 1)
        #expect(machine.isEnded)
    }

    @Test(arguments: [RejectionReason.tooLong, .invalid])
    func whatCanNeverWorkFailsAtOnce(reason: RejectionReason) {
        var machine = submitted()
        #expect(machine.onRejected(by: 1, reason: reason) == .fail)
        #expect(machine.isEnded)
    }
}
