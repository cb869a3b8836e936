import Protocol
import Testing

@testable import Coordinator

/// One worker hangs, the others say whom they wait for.
@Suite struct HungWorkerTests {
    /// Three workers serve, each in the tick.
    private static func serving() -> Deployment {
        var deployment = Deployment(worldSize: 3, ranks: 1...3)
        deployment.helloAll()
        deployment.readyAll()
        deployment.joinAll(view: 1)
        return deployment
    }

    private static func waiting(for workers: [UInt32], _ time: Interval) -> ControlBody {
        .heartbeat(
            Heartbeat(
                stage: .running, percent: 100, load: RankLoad(), tickAge: time,
                wait: workers.isEmpty ? nil : Heartbeat.Wait(workers: workers, time: time)))
    }

    private static func timeout(_ workers: [UInt32], view: UInt32 = 1) -> ControlBody {
        .peerSilent(view: view, tick: 8, workers: workers, reason: "no answer", isTimeout: true)
    }

    private func warnings(_ actions: [CoordinatorCore.Action]) -> [String] {
        actions.compactMap { if case .warn(let text) = $0 { text } else { nil } }
    }

    private func status(_ deployment: inout Deployment) throws -> StatusReport {
        let question = ControlMessage(
            protocolVersion: 2, incarnation: Incarnation(rawValue: 5), view: 0, sequence: 1,
            body: .statusRequest)
        let actions = deployment.core.onMessage(
            question, from: [ControlIdentity.operatorRole, 5], at: deployment.now)
        return try #require(
            actions.compactMap { action -> StatusReport? in
                if case .report(_, let report, _) = action { report } else { nil }
            }.first)
    }

    @Test func theOneThatHangsIsNamedOnceWhileTheOthersWait() throws {
        var deployment = Self.serving()
        _ = deployment.say(0, Self.waiting(for: [1, 2], .milliseconds(1200)))
        #expect(warnings(deployment.wait(.milliseconds(100))) == [], "1 may say so in a moment")
        _ = deployment.say(1, Self.waiting(for: [2], .milliseconds(1300)))
        let named = warnings(deployment.wait(.seconds(1)))
        #expect(named.count == 1)
        #expect(
            named.first?.hasPrefix("worker 2 (node a, device 2) keeps 2 of the others waiting")
                == true, "\(named)")
        #expect(warnings(deployment.wait(.milliseconds(100))) == [])
        let report = try status(&deployment)
        #expect(report.workers.map(\.isSuspected) == [false, false, true])
        #expect(report.workers.map(\.waitingWorkers) == [0, 0, 2])
        #expect(
            report.workers.map(\.waitsFor) == [
                "worker 1, worker 2", "worker 2", "its first heartbeat",
            ])
        #expect(report.workers[1].waited > .seconds(2))
        // It goes on.
        for number in 0..<2 as Range<UInt64> {
            _ = deployment.say(number, Self.waiting(for: [], .zero))
        }
        #expect(
            deployment.wait(.milliseconds(100)).contains(
                .log("no worker waits for another any more")))
        #expect(try status(&deployment).workers.allSatisfy { !$0.isSuspected })
    }

    @Test func aCircleIsTheNetworks() {
        var deployment = Self.serving()
        _ = deployment.say(0, Self.waiting(for: [1], .seconds(3)))
        _ = deployment.say(1, Self.waiting(for: [0], .seconds(3)))
        let named = warnings(deployment.wait(.milliseconds(100)))
        #expect(named.first?.hasPrefix("worker 0, worker 1 wait for each other") == true)
        let ended = deployment.say(0, Self.timeout([1])).views(to: 2)
        #expect(ended.map(\.reason) == ["worker 0 cannot go on with worker 1 in tick 8: no answer"])
        #expect(!deployment.core.membership.isSettled, "nobody is done without")
    }

    /// Worker 1 waits for 2, so 0 misses both.
    @Test func afterTheTimeoutTheOthersDoWithoutIt() throws {
        var deployment = Self.serving()
        _ = deployment.say(1, Self.waiting(for: [2], .seconds(3)))
        let ended = deployment.say(0, Self.timeout([1, 2])).views(to: 1)
        #expect(ended.map(\.state) == [.retired])
        #expect(ended.first?.reason.hasSuffix("; worker 2 (node a, device 2) hangs") == true)
        // Another report of the same end changes nothing.
        #expect(deployment.say(1, Self.timeout([0, 2])).isEmpty)
        for number in 0..<2 as Range<UInt64> {
            _ = deployment.say(number, Deployment.ready(number, address: UInt8(50 + number)))
        }
        for rank in 0..<2 as Range<UInt32> {
            let position = GroupPosition(rank: rank, worldSize: 2)
            _ = deployment.say(UInt64(rank), .prepared(position, failure: ""))
        }
        #expect(deployment.core.view.state == .forming)
        #expect(deployment.core.view.members.map(\.worker) == [0, 1])
        for number in 0..<2 as Range<UInt64> {
            _ = deployment.say(number, .viewJoined(view: 3))
        }
        #expect(deployment.core.activeView == 3)
        #expect(try status(&deployment).workers.map(\.isSuspected) == [false, false, true])
        // Heartbeats of its other thread do not bring it back, READY does; it may have been lost.
        let told = deployment.say(2, Deployment.heartbeat(.standby), knowing: 3)
        #expect(told.views(to: 2).map(\.number) == [3])
        #expect(deployment.core.plan?.workers == [0, 1])
        _ = deployment.say(2, Deployment.ready(2, address: 60))
        #expect(deployment.core.plan?.workers == [0, 1, 2])
        #expect(try status(&deployment).workers.map(\.isSuspected) == [false, false, false])
    }

    /// Worker 1 sees that 0 has closed its connections before the coordinator hears why.
    @Test func aTimeoutThatIsHeardLateCountsToo() {
        var deployment = Self.serving()
        _ = deployment.say(1, Self.waiting(for: [2], .seconds(3)))
        _ = deployment.say(1, .peerSilent(view: 1, tick: 8, workers: [0], reason: "closed"))
        #expect(deployment.core.view.state == .retired)
        #expect(deployment.core.membership.worker(2)?.isHung == false)
        let late = deployment.say(0, Self.timeout([1, 2]))
        #expect(warnings(late) == ["worker 2 (node a, device 2) hung in view 1"])
        #expect(deployment.core.membership.worker(2)?.isHung == true)
        // Of no view that there was.
        let never = ControlBody.peerSilent(
            view: .max, tick: 8, workers: [.max], reason: "no answer", isTimeout: true)
        #expect(deployment.say(0, never).isEmpty)
        // The one that hung says at last that all others are missing.
        #expect(deployment.say(2, Self.timeout([0, 1])).isEmpty)
        #expect(deployment.core.membership.worker(0)?.isHung == false)
    }

    /// A worker that is gone, instead of late, is waited for as long as its lease.
    @Test func aLostWorkerIsNoSuspect() {
        var deployment = Self.serving()
        _ = deployment.say(
            0, .peerSilent(view: 1, tick: 8, workers: [2], reason: "its process is gone"))
        #expect(deployment.core.membership.worker(2)?.isHung == false)
        #expect(!deployment.core.membership.isSettled)
    }

    /// The first view must have all, so nobody is done without.
    @Test func beforeTheDeploymentHasServedAllAreNeeded() {
        var deployment = Deployment(worldSize: 3, ranks: 1...3)
        deployment.helloAll()
        deployment.readyAll()
        _ = deployment.say(0, Self.timeout([2]))
        #expect(deployment.core.view.state == .retired)
        #expect(deployment.core.membership.worker(2)?.isHung == false)
    }
}
