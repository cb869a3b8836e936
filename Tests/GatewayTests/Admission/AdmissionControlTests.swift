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

    @Test func callsWaitForTheNextViewWhileTheLastOneIsNotLongGone() {
        var admission = AdmissionControl()
        admission.onServing()
        admission.onNotServing("worker 1 left", at: second(10))
        // The reason changes while workers come back; the time does not begin again.
        admission.onNotServing("waiting for: worker 1", at: second(40))
        #expect(admission.isInGap(at: second(69)))
        #expect(admission.isBetweenViews(at: second(14)))
        #expect(!admission.isBetweenViews(at: second(15)))
        #expect(admission.decide(sequences: 2, freeCapacity: 2, at: second(69)) == .admit)
        #expect(
            admission.decide(sequences: 3, freeCapacity: 2, at: second(69))
                == .refuseOverloaded(retryAfterSeconds: 1))
        #expect(
            admission.decide(sequences: 1, freeCapacity: 2, at: second(70))
                == .refuseNotReady(reason: "waiting for: worker 1", retryAfterSeconds: 5))
        admission.onServing()
        #expect(!admission.isInGap(at: second(80)))
        #expect(admission.decide(sequences: 1, freeCapacity: 2, at: second(80)) == .admit)
    }

    @Test func callsWaitAtANewGatewayOfADeploymentThatServed() {
        var admission = AdmissionControl()
        admission.onNotServing("waiting for: worker 1", at: second(0))
        admission.onFollowing(at: second(1))
        // Said with each view that is told; the time does not begin again.
        admission.onFollowing(at: second(30))
        #expect(admission.decide(sequences: 1, freeCapacity: 2, at: second(60)) == .admit)
        #expect(
            admission.decide(sequences: 1, freeCapacity: 2, at: second(61))
                == .refuseNotReady(reason: "waiting for: worker 1", retryAfterSeconds: 5))
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
