import Protocol
import Testing

@testable import Coordinator

/// Who reaches whom, as operators ask and workers answer.
@Suite struct ProbeTests {
    private func identity(_ number: UInt64) -> PeerIdentity {
        ControlIdentity.bytes(
            role: ControlIdentity.operatorRole, incarnation: Incarnation(rawValue: number),
            secret: 1)
    }

    private func ask(
        _ deployment: inout Deployment, as number: UInt64 = 900
    ) -> [CoordinatorCore.Action] {
        deployment.core.onMessage(
            ControlMessage(
                incarnation: Incarnation(rawValue: number), view: 0, sequence: 1,
                body: .probeRequest), from: identity(number), at: deployment.now)
    }

    private func probes(_ actions: [CoordinatorCore.Action], to number: UInt64) -> [Probe] {
        actions.bodies(to: number).compactMap { body in
            if case .probe(let probe) = body { probe } else { nil }
        }
    }

    private func reports(
        _ actions: [CoordinatorCore.Action], to number: UInt64 = 900
    ) -> [ProbeReport] {
        actions.compactMap { action in
            guard case .send(identity(number), .probeReport(let report)) = action else {
                return nil
            }
            return report
        }
    }

    private func result(_ round: UInt64, to worker: UInt32) -> ControlBody {
        .probeResult(
            ProbeResult(
                round: round, ways: [ProbeWay(worker: worker, time: .milliseconds(3))]))
    }

    @Test func everyWorkerTriesTheOthersAndTheOperatorGetsAllRowsAtOnce() throws {
        var deployment = Deployment.active(worldSize: 3)
        let asked = ask(&deployment)
        for number in 0..<3 as Range<UInt64> {
            let probe = try #require(probes(asked, to: number).first)
            #expect(probe.targets.map { UInt64($0.worker) } == [0, 1, 2].filter { $0 != number })
            #expect(probe.targets.first?.endpoint == (number == 0 ? "tcp://w1:*" : "tcp://w0:*"))
        }
        let round = try #require(probes(asked, to: 0).first?.round)
        // Asked again while nothing is known: the round goes on.
        #expect(ask(&deployment).isEmpty)
        #expect(deployment.say(0, result(round, to: 1)).isEmpty)
        #expect(deployment.say(0, result(round, to: 2)).isEmpty)
        #expect(deployment.say(2, result(round, to: 0)).isEmpty)
        let report = try #require(reports(deployment.say(1, result(round, to: 0))).first)
        #expect(report.rows.map(\.worker) == [0, 1, 2])
        #expect(report.rows[0].ways == [ProbeWay(worker: 1, time: .milliseconds(3))])
        // Said once more, a little later: nobody tries anything.
        #expect(reports(ask(&deployment)) == [report])
        for _ in 0..<3 {
            _ = deployment.wait(.seconds(2))
            for number in 0..<3 as Range<UInt64> {
                _ = deployment.say(number, Deployment.heartbeat())
            }
        }
        #expect(!probes(ask(&deployment), to: 0).isEmpty)
    }

    @Test func whoDoesNotAnswerIsNamedAtTheDeadline() throws {
        var deployment = Deployment.active()
        let round = try #require(probes(ask(&deployment), to: 0).first?.round)
        _ = deployment.say(0, result(round, to: 1))
        #expect(reports(deployment.wait(.seconds(1))).isEmpty)
        let report = try #require(reports(deployment.wait(.seconds(3))).first)
        #expect(report.rows.map(\.problem) == ["", "has not answered in time"])
        // Too late: it belongs to no round.
        #expect(deployment.say(1, result(round, to: 0)).isEmpty)
    }

    @Test func allOperatorsThatAskDuringARoundAreAnswered() throws {
        var deployment = Deployment.active()
        let round = try #require(probes(ask(&deployment), to: 0).first?.round)
        #expect(ask(&deployment, as: 901).isEmpty)
        _ = deployment.say(0, result(round, to: 1))
        let last = deployment.say(1, result(round, to: 0))
        #expect(reports(last).count == 1)
        #expect(reports(last, to: 901).count == 1)
    }

    @Test func whoCannotBeAskedHasARowThatSaysWhy() throws {
        var deployment = Deployment(worldSize: 3)
        var hello = Hello(
            role: .worker, node: "a", device: 0, pid: 1, softwareVersion: "0", declared: [])
        hello.protocolMax = 1
        _ = deployment.say(0, .hello(hello))
        _ = deployment.say(1, Deployment.hello(device: 1))
        let asked = ask(&deployment)
        #expect(probes(asked, to: 0).isEmpty)
        // It is here and nobody else has an endpoint yet.
        let probe = try #require(probes(asked, to: 1).first)
        #expect(probe.targets.isEmpty)
        let answer = deployment.say(1, .probeResult(ProbeResult(round: probe.round, ways: [])))
        let report = try #require(reports(answer).first)
        #expect(
            report.rows.map(\.problem) == [
                "speaks protocol 1, which has no probes", "", "is missing",
            ])
    }

    @Test func anEmptyDeploymentIsAnsweredAtOnce() {
        var deployment = Deployment(worldSize: 2)
        #expect(
            reports(ask(&deployment)).first?.rows.map(\.problem) == ["is missing", "is missing"])
    }

    @Test func gatewaysAndStrangersAreNotHeard() throws {
        var deployment = Deployment.active()
        _ = deployment.say(200, Deployment.hello(role: .gateway))
        let round = try #require(probes(ask(&deployment), to: 0).first?.round)
        for number in [200, 77] as [UInt64] {
            let actions = deployment.say(number, result(round, to: 1))
            #expect(reports(actions).isEmpty)
        }
        // A worker's own result counts once.
        _ = deployment.say(0, result(round, to: 1))
        #expect(deployment.say(0, result(round, to: 1)).isEmpty)
        #expect(deployment.say(1, result(round &+ 1, to: 0)).isEmpty)
    }

    /// A worker that answers too much cannot make a report that fits no message.
    @Test func theLargestReportFitsAControlMessage() {
        let long = String(repeating: "x", count: 500)
        let count = UInt32(CodecLimits.probeWaysMax)
        let rows = (0..<count).map { worker in
            ProbeReport.Row(
                worker: worker,
                ways: ProbeWay.bounded(
                    (0..<(count + 9)).map { to in
                        ProbeWay(
                            worker: to, time: to % 2 == 0 ? .seconds(100) : nil, problem: long)
                    }))
        }
        let message = ControlMessage(
            incarnation: Incarnation(rawValue: .max), view: .max, sequence: .max,
            body: .probeReport(ProbeReport(round: .max, rows: rows)))
        let frame = message.encoded()
        #expect(frame.count < CodecLimits.controlMessageBytesMax, "\(frame.count) bytes")
        #expect(rows[0].ways.count == Int(count))
        #expect(rows[0].ways.count { !$0.problem.isEmpty } == ProbeWay.problemsMax)
    }
}
