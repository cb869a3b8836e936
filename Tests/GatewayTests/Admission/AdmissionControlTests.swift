import Protocol
import Testing

@testable import Gateway

@Suite struct AdmissionControlTests {
    private func second(_ count: Int) -> Instant {
        Instant(nanoseconds: 0) + .seconds(count)
    }

    @Test func nothingIsLetInBeforeAViewIsActive() {
        var admission = AdmissionControl()
        admission.onNotServing("waiting for: worker 1", at: second(0))
        let decision = admission.decide(sequences: 1, freeCapacity: 10, at: second(0))
        #expect(
            decision == .refuseNotReady(reason: "waiting for: worker 1", retryAfterSeconds: 5))
    }

    @Test func betweenTwoViewsCallsWait() {
        var admission = AdmissionControl()
        admission.onServing()
        admission.onNotServing("the group changes", at: second(10))
        admission.onNotServing("the leaders are being connected", at: second(12))
        #expect(admission.decide(sequences: 1, freeCapacity: 1, at: second(14)) == .admit)
        // Not for ever, and not more than there was room for.
        #expect(
            admission.decide(sequences: 2, freeCapacity: 1, at: second(14))
                == .refuseOverloaded(retryAfterSeconds: 1))
        #expect(
            admission.decide(sequences: 1, freeCapacity: 1, at: second(15))
                == .refuseNotReady(
                    reason: "the leaders are being connected", retryAfterSeconds: 5))
        admission.onServing()
        #expect(!admission.isBetweenViews(at: second(15)))
    }

    @Test func aDrainingGatewayRefusesEvenWithRoom() {
        var admission = AdmissionControl()
        admission.onServing()
        admission.isDraining = true
        guard
            case .refuseNotReady = admission.decide(
                sequences: 1, freeCapacity: 10, at: second(0))
        else {
            Issue.record("a draining gateway let a call in")
            return
        }
    }

    @Test func roomDecides() {
        var admission = AdmissionControl()
        admission.onServing()
        #expect(admission.decide(sequences: 3, freeCapacity: 3, at: second(0)) == .admit)
        #expect(
            admission.decide(sequences: 4, freeCapacity: 3, at: second(0))
                == .refuseOverloaded(retryAfterSeconds: 1))
    }

    @Test func retryAfterFollowsThePaceAtWhichSequencesEnd() {
        var admission = AdmissionControl()
        admission.onServing()
        // Two sequences a second, for long enough that the average has settled.
        for time in 0..<60 {
            admission.onSequenceEnded(at: second(time))
            admission.onSequenceEnded(at: second(time))
        }
        #expect(
            admission.decide(sequences: 19, freeCapacity: 0, at: second(60))
                == .refuseOverloaded(retryAfterSeconds: 10))
        // After a long silence the pace is unknown again, and the bound holds.
        #expect(
            admission.decide(sequences: 20, freeCapacity: 0, at: second(1000))
                == .refuseOverloaded(retryAfterSeconds: 60))
    }
}
