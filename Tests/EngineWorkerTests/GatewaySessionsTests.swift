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

    /// Two connections are read in turns: the last OPEN of the old one may come behind the first of
    /// the new one.
    @Test func aLateOpenOfTheOldConnectionEndsNothing() {
        var sessions = GatewaySessions()
        _ = sessions.onOpen(first, incarnation: gateway, at: start)
        _ = sessions.onOpen(second, incarnation: gateway, at: start)
        #expect(submit(&sessions, second, 1) == .take(SequenceID(rawValue: 1)))
        #expect(sessions.onOpen(first, incarnation: gateway, at: start) == .ignore)
        #expect(sessions.identities == [second])
        #expect(sessions.sequenceCount == 1)
    }

    /// Else its gateway would wait for ever for what was ended when it was silent.
    @Test func aConnectionThatExpiredIsNotOpenedAgain() {
        var sessions = GatewaySessions()
        _ = sessions.onOpen(first, incarnation: gateway, at: start)
        _ = submit(&sessions, first, 1)
        var expired: [SequenceID] = []
        for second in 1...11 { expired += sessions.expire(at: start + .seconds(second)) }
        #expect(expired == [SequenceID(rawValue: 1)])
        let late = start + .seconds(12)
        #expect(sessions.onOpen(first, incarnation: gateway, at: late) == .ignore)
        #expect(sessions.onOpen(second, incarnation: gateway, at: late) == .answer(orphans: []))
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

@Suite struct SubmissionCountTests {
    @Test func aReportKnowsWhatBecameASequenceBeforeIt() {
        var count = SubmissionCount()
        count.onSubmitted(behind: 3)
        count.onSubmitted(behind: 7)
        #expect(count.known(counting: 2) == 0)
        #expect(count.known(counting: 3) == 1)
        #expect(count.known(counting: 6) == 1)
        #expect(count.known(counting: 7) == 2)
        // A refused one is known with what came before it.
        count.onSubmitted(behind: 7)
        #expect(count.known(counting: 7) == 3)
    }

    @Test func gatewaysAreCountedApart() {
        var sessions = GatewaySessions()
        let start = Instant(nanoseconds: 0)
        let (first, second): ([UInt8], [UInt8]) = ([2, 1], [2, 2])
        _ = sessions.onOpen(first, incarnation: Incarnation(rawValue: 1), at: start)
        _ = sessions.onOpen(second, incarnation: Incarnation(rawValue: 2), at: start)
        for request in 1...3 as ClosedRange<UInt64> {
            let id = RequestID(rawValue: request)
            #expect(
                sessions.onSubmit(first, request: id, at: start)
                    == .take(SequenceID(rawValue: 2 * request - 1)))
            #expect(
                sessions.onSubmit(second, request: id, at: start)
                    == .take(SequenceID(rawValue: 2 * request)))
        }
        sessions.onRefused(second)
        #expect(sessions.knownSubmissions(of: first, counting: 3, at: start) == 2)
        #expect(sessions.knownSubmissions(of: second, counting: 3, at: start) == 1)
        #expect(sessions.knownSubmissions(of: second, counting: 6, at: start) == 4)
        #expect(sessions.knownSubmissions(of: [2, 3], counting: 6, at: start) == 0)
    }

    @Test func whoHasHeardNothingForAWhileIsUntold() {
        var sessions = GatewaySessions()
        let start = Instant(nanoseconds: 0)
        _ = sessions.onOpen([2, 1], incarnation: Incarnation(rawValue: 1), at: start)
        _ = sessions.onOpen([2, 2], incarnation: Incarnation(rawValue: 2), at: start)
        _ = sessions.knownSubmissions(of: [2, 1], counting: 0, at: start)
        let every = Interval.milliseconds(100)
        #expect(sessions.untold(for: every, at: start + .milliseconds(99)) == [[2, 2]])
        #expect(sessions.untold(for: every, at: start + every) == [[2, 1], [2, 2]])
        _ = sessions.onLoss([2, 1])
        #expect(sessions.untold(for: every, at: start + every) == [[2, 2]])
    }
}
