import Protocol
import Testing

@testable import EngineWorker

@Suite struct GatewaySessionsTests {
    private let first: [UInt8] = [2, 1]
    private let second: [UInt8] = [2, 2]
    private let gateway = Incarnation(rawValue: 7)
    private let start = Instant(nanoseconds: 1_000_000_000)

    private func submit(
        _ sessions: inout GatewaySessions, _ identity: [UInt8], _ request: UInt64
    ) -> GatewaySessions.SubmitAction {
        sessions.onSubmit(identity, request: RequestID(rawValue: request), at: start)
    }

    @Test func aSubmitWithoutASessionIsNoFaultOfTheRequest() {
        var sessions = GatewaySessions()
        #expect(submit(&sessions, first, 1) == .notOpen)
        #expect(sessions.sequenceCount == 0)
    }

    @Test func aRequestIDTwiceIsADuplicate() {
        var sessions = GatewaySessions()
        #expect(
            sessions.onOpen(first, incarnation: gateway, at: start) == .answer(orphans: []))
        #expect(submit(&sessions, first, 1) == .take(SequenceID(rawValue: 1)))
        #expect(submit(&sessions, first, 1) == .duplicate)
        #expect(sessions.sequenceCount == 1)
    }

    @Test func aNewConnectionOfAGatewayEndsWhatTheOldOneHad() {
        var sessions = GatewaySessions()
        _ = sessions.onOpen(first, incarnation: gateway, at: start)
        _ = submit(&sessions, first, 1)
        _ = submit(&sessions, first, 2)
        #expect(
            sessions.onOpen(second, incarnation: gateway, at: start)
                == .answer(orphans: [SequenceID(rawValue: 1), SequenceID(rawValue: 2)]))
        #expect(sessions.sequenceCount == 0)
        #expect(sessions.identities == [second])
        #expect(submit(&sessions, second, 1) == .take(SequenceID(rawValue: 3)))
    }

    @Test func anotherGatewayTakesNothingAway() {
        var sessions = GatewaySessions()
        _ = sessions.onOpen(first, incarnation: gateway, at: start)
        _ = submit(&sessions, first, 1)
        #expect(
            sessions.onOpen(second, incarnation: Incarnation(rawValue: 8), at: start)
                == .answer(orphans: []))
        #expect(sessions.sequenceCount == 1)
    }

    @Test func aSessionThatLostAMessageAnswersNoMore() {
        var sessions = GatewaySessions()
        _ = sessions.onOpen(first, incarnation: gateway, at: start)
        _ = submit(&sessions, first, 1)
        #expect(sessions.onLoss(first) == [SequenceID(rawValue: 1)])
        #expect(sessions.sequenceCount == 0)
        #expect(sessions.owner(of: SequenceID(rawValue: 1)) == nil)
        #expect(sessions.onOpen(first, incarnation: gateway, at: start) == .ignore)
        #expect(submit(&sessions, first, 2) == .notOpen)
        #expect(sessions.onLoss(first) == [])
        #expect(
            sessions.onOpen(second, incarnation: gateway, at: start) == .answer(orphans: []))
        #expect(sessions.identities == [second])
    }

    @Test func aSilentGatewayExpiresButNotForAPauseOfThisProcess() {
        var sessions = GatewaySessions()
        _ = sessions.onOpen(first, incarnation: gateway, at: start)
        _ = submit(&sessions, first, 1)
        #expect(sessions.expire(at: start) == [])
        // The whole process stood still for a minute.
        let resumed = start + .seconds(60)
        #expect(sessions.expire(at: resumed) == [])
        for second in 1...10 {
            #expect(sessions.expire(at: resumed + .seconds(second)) == [])
        }
        #expect(
            sessions.expire(at: resumed + .milliseconds(10_500)) == [SequenceID(rawValue: 1)])
        #expect(sessions.identities.isEmpty)
    }
}
