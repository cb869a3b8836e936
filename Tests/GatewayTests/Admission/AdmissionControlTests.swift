import Protocol
import Testing

@testable import Gateway

@Suite struct AdmissionControlTests {
    private func second(_ count: Int) -> Instant {
        Instant(nanoseconds: 0) + .seconds(count)
    }

    @Test func nothingIsLetInBeforeAViewIsActive() {
        var admission = AdmissionControl()
        admission.notReadyReason = "waiting for: worker 1"
        let decision = admission.decide(sequences: 1, freeCapacity: 10, at: second(0))
        #expect(
            decision == .refuseNotReady(reason: "waiting for: worker 1", retryAfterSeconds: 5))
    }

    @Test func aDrainingGatewayRefusesEvenWithRoom() {
        var admission = AdmissionControl()
        admission.notReadyReason = nil
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
        admission.notReadyReason = nil
        #expect(admission.decide(sequences: 3, freeCapacity: 3, at: second(0)) == .admit)
        #expect(
            admission.decide(sequences: 4, freeCapacity: 3, at: second(0))
                == .refuseOverloaded(retryAfterSeconds: 1))
    }

    @Test func retryAfterFollowsThePaceAtWhichSequencesEnd() {
        var admission = AdmissionControl()
        admission.notReadyReason = nil
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
