import Protocol
import Testing

@testable import Coordinator

/// What the coordinator answers operators, who are no peers.
@Suite struct OperatorTests {
    private static func operatorIdentity(_ number: UInt64) -> PeerIdentity {
        ControlIdentity.bytes(
            role: ControlIdentity.operatorRole, incarnation: Incarnation(rawValue: number),
            secret: number)
    }

    private func ask(
        _ body: ControlBody, _ deployment: inout Deployment, as number: UInt64 = 900
    ) -> [CoordinatorCore.Action] {
        deployment.core.onMessage(
            ControlMessage(
                incarnation: Incarnation(rawValue: number), view: 0, sequence: 1, body: body),
            from: Self.operatorIdentity(number), at: deployment.now)
    }

    private func status(_ deployment: inout Deployment) throws -> StatusReport {
        let actions = ask(.statusRequest, &deployment)
        try #require(actions.count == 1)
        guard case .report(Self.operatorIdentity(900), let report, _) = actions[0] else {
            Issue.record("\(actions)")
            return StatusReport()
        }
        return report
    }

    private func drain(
        _ rank: UInt32, _ deployment: inout Deployment, as number: UInt64 = 900
    ) throws -> (report: DrainReport, actions: [CoordinatorCore.Action]) {
        let actions = ask(.drainRequest(dpRank: rank), &deployment, as: number)
        let reports = actions.compactMap { action -> DrainReport? in
            guard case .send(Self.operatorIdentity(number), .drainReport(let report)) = action
            else { return nil }
            return report
        }
        return (try #require(reports.first), actions)
    }

    @Test func anActiveViewIsReportedWithItsMembersAndLoads() throws {
        var deployment = Deployment.active()
        _ = deployment.say(200, Deployment.hello(node: "g", role: .gateway))
        var load = RankLoad()
        load.dpRank = 1
        load.running = 3
        _ = deployment.say(1, Deployment.heartbeat(.running, load: load), knowing: 1)
        deployment.now = deployment.now + .milliseconds(300)
        let report = try status(&deployment)
        #expect(report.view == 1)
        #expect(report.viewState == .active)
        #expect(report.viewAge == .milliseconds(300))
        #expect(report.readyDeadline == nil)
        #expect(report.missing.isEmpty)
        #expect(report.configuration == Deployment.configuration)
        #expect(report.workers.map(\.worker) == [0, 1])
        #expect(report.workers.allSatisfy { $0.isMember && $0.pid == 1 })
        #expect(report.workers.allSatisfy { $0.modelDigest == "same" })
        #expect(report.workers.map(\.silence) == [.milliseconds(300), .milliseconds(300)])
        #expect(report.workers[1].load.running == 3)
        #expect(report.workers[1].stage == .running)
        #expect(report.workers[1].waitsFor == "")
        #expect(report.gateways.map(\.node) == ["g"])
    }

    @Test func whoIsMissingIsNamedWithTheReason() throws {
        var deployment = Deployment()
        _ = deployment.say(0, Deployment.hello())
        _ = deployment.say(0, Deployment.heartbeat(.loading, percent: 42))
        let report = try status(&deployment)
        #expect(report.viewState == .retired)
        #expect(report.readyDeadline == Deployment.readyTimeout)
        #expect(
            report.missing == [
                "worker 0 (node a, device 0) is loading the model, 42 %",
                "worker 1 has not said HELLO",
            ])
        #expect(report.workers.map(\.waitsFor) == ["the model, 42 %"])
    }

    @Test func anOperatorTakesNoPlace() throws {
        var deployment = Deployment(worldSize: 1)
        _ = try status(&deployment)
        _ = ask(Deployment.hello(), &deployment)
        let report = try status(&deployment)
        #expect(report.peers.isEmpty)
        #expect(deployment.say(0, Deployment.hello()).configurations(to: 0).map(\.worker) == [0])
    }

    @Test func theReasonOfTheLastEndStaysWhenTheNextViewIsActive() throws {
        var deployment = Deployment.active()
        _ = deployment.say(1, .leave(reason: "stopped"))
        _ = deployment.say(5, Deployment.hello(device: 1))
        deployment.now = deployment.now + .seconds(6)
        for number: UInt64 in [0, 5] { _ = deployment.say(number, Deployment.ready(number)) }
        for number: UInt64 in [0, 5] { _ = deployment.say(number, .viewJoined(view: 3)) }
        let report = try status(&deployment)
        #expect(report.viewState == .active)
        #expect(report.viewReason == "worker 1 (node a, device 1) left: stopped")
    }

    @Test func theWorkersOfADPRankAreAskedToDrain() throws {
        var deployment = Deployment(worldSize: 4, tensorParallelSize: 2)
        deployment.helloAll()
        let (report, actions) = try drain(1, &deployment)
        #expect(report.isAccepted)
        #expect(report.incarnations.map(\.rawValue) == [2, 3])
        for number: UInt64 in 0..<4 {
            let expected: [ControlBody] =
                number < 2 ? [] : [.drain(reason: "an operator asked for it")]
            #expect(actions.bodies(to: number) == expected)
        }
    }

    @Test func aWorkerThatHasNotHeardOfItIsAskedAgain() throws {
        var deployment = Deployment.active()
        _ = try drain(1, &deployment)
        let again = deployment.say(1, Deployment.heartbeat(.idle), knowing: 1)
        #expect(again.bodies(to: 1).contains(.drain(reason: "an operator asked for it")))
        let heard = deployment.say(1, Deployment.heartbeat(.draining), knowing: 1)
        #expect(!heard.bodies(to: 1).contains(.drain(reason: "an operator asked for it")))
    }

    @Test func anUnknownRankAndASecondDrainAreRefusedWithTheReason() throws {
        var deployment = Deployment.active()
        #expect(try !drain(2, &deployment).report.isAccepted)
        #expect(try drain(2, &deployment).report.text.contains("DP ranks 0 to 1"))
        #expect(try drain(1, &deployment).report.isAccepted)
        // The answer was lost: the same operator hears it again, another one is too late.
        #expect(try drain(1, &deployment).report.isAccepted)
        let second = try drain(1, &deployment, as: 901)
        #expect(!second.report.isAccepted)
        #expect(second.report.text.contains("drains already"))
        #expect(second.actions.bodies(to: 1).isEmpty)
        // So is who asks for a worker that SIGTERM drains.
        _ = deployment.say(0, Deployment.heartbeat(.draining), knowing: 1)
        #expect(try !drain(0, &deployment).report.isAccepted)
        _ = deployment.say(0, .leave(reason: "stopped"))
        #expect(try drain(0, &deployment).report.text.contains("missing already"))
    }

    @Test func moreQuestionsThanTheLimitAreDropped() throws {
        var deployment = Deployment()
        for _ in 0..<OperatorAllowance.burstMax { _ = try status(&deployment) }
        #expect(ask(.statusRequest, &deployment).isEmpty)
        deployment.now = deployment.now + .seconds(1)
        for _ in 0..<OperatorAllowance.answersPerSecond { _ = try status(&deployment) }
        #expect(ask(.statusRequest, &deployment).isEmpty)
    }

    @Test func theLargestReportFitsAMessage() {
        let text = String(repeating: "ö", count: 10_000)
        let ready = Ready(
            endpoint: text, collectivesAddress: [], modelDigest: text, blockCount: 1, blockSize: 1,
            position: GroupPosition(rank: 0, worldSize: 1))
        let now = Instant(nanoseconds: 0)
        var peer = Peer(
            identity: [1], incarnation: Incarnation(rawValue: .max), role: .worker, node: text,
            device: .max, pid: .max, softwareVersion: text, worker: .max,
            stage: .joined(ready, view: 1), lastHeard: now)
        peer.reported = Heartbeat(
            stage: .running, percent: 100, load: Self.largest, tickAge: Interval(nanoseconds: .max))
        let view = View(
            number: 1, state: .active, members: [], configurationDigest: 0, reason: text)
        let membership = Membership(
            worldSize: 1, placesMax: 1, tensorParallelSize: 1,
            configuration: Array(
                repeating: ConfigurationEntry(key: "model", value: text), count: 64),
            lease: .seconds(5))
        var report = StatusReport(membership: membership, view: view, ranksMin: 1, at: now)
        report.peers = Array(
            repeating: peer.status(view: view, tensorParallelSize: 1, at: now),
            count: Membership.peersMax)
        report.missing = Array(
            repeating: StatusReport.cut(text), count: CodecLimits.statusMissingMax)
        let message = ControlMessage(
            incarnation: Incarnation(rawValue: .max), view: 1, sequence: .max,
            body: .statusReport(report))
        #expect(Membership.peersMax == CodecLimits.statusPeersMax)
        #expect(message.encoded().count <= CodecLimits.controlMessageBytesMax)
    }

    private static let largest: RankLoad = {
        var load = RankLoad()
        load.dpRank = .max
        load.running = .max
        load.waiting = .max
        load.kvCacheUsage = 1
        for path: WritableKeyPath<RankLoad, UInt64> in [
            \.pendingPrefillTokens, \.tick, \.dummyTicks, \.preemptions, \.promptTokens,
            \.generationTokens, \.prefixCacheQueries, \.prefixCacheHits, \.paddedTokens,
            \.tickTokens, \.tickTokensMax, \.tickTokensGroup, \.submissions,
        ] { load[keyPath: path] = .max }
        load.exchangeWait = Interval(nanoseconds: .max)
        for stage in TickStage.allCases { load.stageTimes[stage] = .max }
        return load
    }()
}
