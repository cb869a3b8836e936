import Protocol
import Testing

@testable import Coordinator

@Suite struct CoordinatorCoreTests {
    static let gateway: UInt64 = 200

    // MARK: Handshake

    /// It was repeated while the view formed, and overtaken by another worker's failure.
    @Test func aReadyOfBeforeTheEndOfTheViewDoesNotCount() {
        var deployment = Deployment()
        deployment.helloAll()
        deployment.readyAll()
        _ = deployment.say(
            0, .peerSilent(view: 1, tick: 0, workers: [1], reason: "unreachable"))
        #expect(deployment.core.view.number == 2)
        for number in 0..<UInt64(2) {
            #expect(deployment.say(number, Deployment.ready(number), knowing: 1) == [])
        }
        #expect(deployment.core.view.state == .retired)
        deployment.readyAll()
        #expect(deployment.core.view.number == 3 && deployment.core.view.state == .forming)
    }

    @Test(arguments: [1, 2, 4] as [UInt32])
    func aDeploymentComesUpInFourSteps(worldSize: UInt32) {
        var deployment = Deployment(worldSize: worldSize)
        for number in 0..<UInt64(worldSize) {
            let actions = deployment.say(number, Deployment.hello(device: UInt32(number)))
            var expected = AssignedConfiguration(
                worker: UInt32(number), dpRank: UInt32(number), tpRank: 0,
                entries: Deployment.configuration, lease: Deployment.lease,
                readyDeadline: Deployment.readyTimeout,
                position: GroupPosition(rank: UInt32(number), worldSize: worldSize))
            expected.protocolVersion = ProtocolVersion.current
            #expect(actions.configurations(to: number) == [expected])
        }
        let forming = deployment.readyAll()
        for number in 0..<UInt64(worldSize) {
            let view = forming.views(to: number)
            #expect(view.count == 1 && view.first?.state == .forming && view.first?.number == 1)
            #expect(view.first?.members.map(\.worker) == Array(0..<worldSize))
        }
        #expect(deployment.core.activeView == nil)
        let active = deployment.joinAll(view: 1)
        #expect(active.contains(.serving))
        for number in 0..<UInt64(worldSize) {
            #expect(active.views(to: number).map(\.state) == [.active])
        }
        #expect(deployment.core.activeView == 1)
        #expect(active.contains(.status("view 1 is active with \(worldSize) workers")))
    }

    @Test func membersCarryWhatTheySaid() {
        var deployment = Deployment(worldSize: 4, tensorParallelSize: 2)
        deployment.helloAll()
        let members = deployment.readyAll().views(to: 3).first?.members
        #expect(members?.map(\.dpRank) == [0, 0, 1, 1])
        #expect(members?.map(\.tpRank) == [0, 1, 0, 1])
        #expect(members?.map(\.isLeader) == [true, false, true, false])
        #expect(
            members?.last
                == Member(
                    worker: 3, dpRank: 1, tpRank: 1, incarnation: Incarnation(rawValue: 3),
                    node: "a", endpoint: "tcp://w3:*", collectivesAddress: [3], blockCount: 10,
                    blockSize: 16))
    }

    @Test func anotherConfigurationIsRefusedWithItsKeys() {
        var deployment = Deployment()
        let declared = [
            ConfigurationEntry(key: "model", value: "/models/tiny"),
            ConfigurationEntry(key: "seed", value: "2"),
            ConfigurationEntry(key: "block-size", value: "32"),
        ]
        let actions = deployment.say(0, Deployment.hello(declared: declared))
        let refusal = actions.refusals(to: 0).first
        #expect(refusal?.reason == .configuration)
        #expect(
            refusal?.differences == [
                ConfigurationDifference(key: "seed", coordinatorValue: "1", peerValue: "2"),
                ConfigurationDifference(key: "block-size", coordinatorValue: "", peerValue: "32"),
            ])
        #expect(refusal?.text.contains("seed, block-size") == true)
        #expect(actions.configurations(to: 0).isEmpty)
    }

    @Test func anotherProtocolVersionIsRefused() {
        var deployment = Deployment()
        var hello = Hello(
            role: .worker, node: "a", device: 0, pid: 1, softwareVersion: "9.9", declared: [])
        hello.protocolMin = ProtocolVersion.current + 1
        hello.protocolMax = ProtocolVersion.current + 2
        let refusal = deployment.say(0, .hello(hello)).refusals(to: 0).first
        #expect(refusal?.reason == .protocolVersion)
        #expect(refusal?.text.contains("9.9") == true)
        hello.protocolMin = 0
        hello.protocolMax = 0
        #expect(
            deployment.say(0, .hello(hello)).refusals(to: 0).map(\.reason) == [.protocolVersion])
        hello.protocolMin = 1
        hello.protocolMax = ProtocolVersion.current + 5
        #expect(deployment.say(0, .hello(hello)).configurations(to: 0).count == 1)
    }

    @Test func aWorkerTooManyIsRefusedAndNamesWhoIsThere() {
        var deployment = Deployment.active()
        let refusal = deployment.say(7, Deployment.hello(node: "b")).refusals(to: 7).first
        #expect(refusal?.reason == .groupFull)
        #expect(refusal?.text.contains("worker 1 (node a, device 1)") == true)
        #expect(deployment.core.activeView == 1)
    }

    @Test func theSameDeviceReplacesItsOldProcess() {
        var deployment = Deployment.active()
        // While the old one is heard of, the new one waits.
        let second = deployment.say(7, Deployment.hello(node: "a", device: 1))
        #expect(second.refusals(to: 7).map(\.reason) == [.groupFull])
        #expect(deployment.core.activeView == 1)
        _ = deployment.wait(.milliseconds(2001))
        let actions = deployment.say(7, Deployment.hello(node: "a", device: 1))
        #expect(actions.configurations(to: 7).map(\.worker) == [1])
        #expect(actions.bodies(to: 7).first.map { "\($0)".hasPrefix("config") } == true)
        #expect(actions.views(to: 0).map(\.state) == [.retired])
        #expect(actions.views(to: 0).first?.reason.contains("was replaced") == true)
        #expect(deployment.core.activeView == nil)
        // The old process is nobody any more.
        #expect(
            deployment.say(1, Deployment.heartbeat()).refusals(to: 1).map(\.reason)
                == [.unknownPeer])
    }

    @Test func helloAgainInTheHandshakeKeepsThePlace() {
        var deployment = Deployment()
        _ = deployment.say(0, Deployment.hello(device: 0))
        _ = deployment.say(1, Deployment.hello(device: 1))
        let again = deployment.say(1, Deployment.hello(device: 1))
        #expect(again.configurations(to: 1).map(\.worker) == [1])
        #expect(again.views(to: 0).isEmpty)
    }

    @Test func helloAgainInAViewEndsIt() {
        for joined in [false, true] {
            var deployment = Deployment()
            deployment.helloAll()
            deployment.readyAll()
            if joined { deployment.joinAll(view: 1) }
            let actions = deployment.say(1, Deployment.hello(device: 1))
            #expect(actions.views(to: 0).map(\.state) == [.retired])
            deployment.readyAll()
            deployment.joinAll(view: 3)
            #expect(deployment.core.activeView == 3)
        }
    }

    // MARK: Models

    @Test func anotherModelIsRefusedAndBothAreNamed() {
        var deployment = Deployment()
        deployment.helloAll()
        _ = deployment.say(0, Deployment.ready(0, digest: "aaa"))
        let refusal = deployment.say(1, Deployment.ready(1, digest: "bbb")).refusals(to: 1).first
        #expect(refusal?.reason == .model)
        for part in ["worker 0", "worker 1", "aaa", "bbb"] {
            #expect(refusal?.text.contains(part) == true, "\(part) in \(refusal?.text ?? "")")
        }
    }

    /// Whoever says READY with another model than those before is refused, whatever its index.
    @Test func theWorkerThatDiffersIsTheOneThatIsRefused() {
        var deployment = Deployment(worldSize: 3)
        deployment.helloAll()
        #expect(deployment.say(1, Deployment.ready(1, digest: "aaa")).refusals(to: 1).isEmpty)
        let late = deployment.say(2, Deployment.ready(2, digest: "bbb"))
        #expect(late.refusals(to: 2).map(\.reason) == [.model])
        #expect(deployment.say(0, Deployment.ready(0, digest: "aaa")).refusals(to: 0).isEmpty)
        _ = deployment.say(3, Deployment.hello(node: "c"))
        let forming = deployment.say(3, Deployment.ready(3, digest: "aaa"))
        #expect(forming.views(to: 0).map(\.state) == [.forming])
    }

    // MARK: Deadlines

    @Test func theDeadlineNamesWhoIsMissingAtEachStage() {
        var deployment = Deployment(worldSize: 3)
        _ = deployment.say(0, Deployment.hello(node: "n0", device: 0))
        _ = deployment.say(1, Deployment.hello(node: "n1", device: 1))
        _ = deployment.say(1, Deployment.ready(1))
        for _ in 0..<29 {
            _ = deployment.say(0, Deployment.heartbeat(.loading, percent: 42))
            _ = deployment.say(1, Deployment.heartbeat(.standby))
            #expect(deployment.wait(.seconds(2)).failures.isEmpty)
        }
        _ = deployment.say(0, Deployment.heartbeat(.loading, percent: 42))
        _ = deployment.say(1, Deployment.heartbeat(.standby))
        let actions = deployment.wait(.seconds(2))
        #expect(
            actions.failures == [
                "the deployment is not ready after 60 s: "
                    + "worker 0 (node n0, device 0) is loading the model, 42 %; "
                    + "worker 2 has not said HELLO"
            ])
        #expect(actions.refusals(to: 1).map(\.reason) == [.deadline])
        #expect(deployment.wait(.seconds(1)).failures.isEmpty, "it fails once")
    }

    @Test func theDeadlineNamesWhoDoesNotConnect() {
        var deployment = Deployment()
        deployment.helloAll()
        deployment.readyAll()
        _ = deployment.say(0, .viewJoined(view: 1))
        for _ in 0..<59 {
            for number in 0..<2 as Range<UInt64> {
                _ = deployment.say(number, Deployment.heartbeat())
            }
            #expect(deployment.wait(.seconds(1)).failures.isEmpty)
        }
        #expect(
            deployment.wait(.seconds(1)).failures == [
                "the deployment is not ready after 60 s: not connected to the others: "
                    + "worker 1 (node a, device 1)"
            ])
    }

    @Test func anActiveViewHasNoDeadline() {
        var deployment = Deployment.active()
        for _ in 0..<100 {
            for number in 0..<2 as Range<UInt64> {
                _ = deployment.say(number, Deployment.heartbeat())
            }
            #expect(deployment.wait(.seconds(1)).failures.isEmpty)
        }
        #expect(deployment.core.activeView == 1)
    }

    // MARK: Losing members

    @Test func aLostLeaseEndsTheViewAndItFormsAgain() {
        var deployment = Deployment.active()
        _ = deployment.wait(.seconds(3))
        _ = deployment.say(0, Deployment.heartbeat())
        let actions = deployment.wait(.milliseconds(2001))
        #expect(actions.views(to: 0).map(\.state) == [.retired])
        #expect(actions.views(to: 0).map(\.number) == [2])
        #expect(
            actions.views(to: 0).map(\.reason)
                == ["worker 1 (node a, device 1) has been silent for 5000 ms"])
        // Readiness for the old view does not count.
        let hello = deployment.say(9, Deployment.hello(device: 1))
        #expect(hello.configurations(to: 9).map(\.worker) == [1])
        #expect(deployment.say(9, Deployment.ready(9)).views(to: 9).isEmpty)
        let forming = deployment.say(0, Deployment.ready(0))
        #expect(forming.views(to: 9).map(\.number) == [3])
        #expect(forming.views(to: 9).first?.members.map(\.incarnation.rawValue) == [0, 9])
        _ = deployment.say(0, .viewJoined(view: 3))
        _ = deployment.say(9, .viewJoined(view: 3))
        #expect(deployment.core.activeView == 3)
    }

    @Test func severalLostAtOnceEndTheViewOnce() {
        var deployment = Deployment.active(worldSize: 4)
        _ = deployment.wait(.seconds(3))
        _ = deployment.say(2, Deployment.heartbeat())
        _ = deployment.wait(.seconds(2))
        let actions = deployment.wait(.seconds(2))
        #expect(actions.views(to: 2).map(\.state) == [.retired])
    }

    @Test func aSilentPeerEndsTheViewAndIsNamed() {
        var deployment = Deployment.active()
        let report = ControlBody.peerSilent(view: 1, tick: 8, workers: [1], reason: "30 s")
        #expect(
            deployment.say(0, report).views(to: 1).map(\.reason)
                == ["worker 0 cannot go on with worker 1 in tick 8: 30 s"])
        #expect(deployment.say(0, report).isEmpty, "of a view that has ended")
    }

    @Test func aWorkerThatLeavesEndsTheView() {
        var deployment = Deployment.active()
        let actions = deployment.say(1, .leave(reason: "SIGTERM"))
        #expect(
            actions.views(to: 0).map(\.reason) == ["worker 1 (node a, device 1) left: SIGTERM"])
        #expect(actions.views(to: 1).isEmpty)
    }

    @Test func aGatewayThatLeavesEndsNothing() {
        var deployment = Deployment.active()
        _ = deployment.say(Self.gateway, Deployment.hello(role: .gateway))
        _ = deployment.say(Self.gateway, .leave(reason: "SIGTERM"))
        #expect(deployment.core.activeView == 1)
    }

    @Test func readyInAViewEndsIt() {
        var deployment = Deployment.active()
        #expect(deployment.say(0, Deployment.ready(0)).isEmpty, "a repetition")
        let next = deployment.say(0, Deployment.ready(0, address: 99))
        #expect(next.views(to: 1).map(\.state) == [.retired])
    }

    @Test func aCoordinatorThatStoodStillLosesNobody() {
        var deployment = Deployment.active()
        _ = deployment.wait(.zero)
        _ = deployment.wait(.seconds(60))
        #expect(deployment.core.activeView == 1)
        for _ in 0..<5 { _ = deployment.wait(.seconds(1)) }
        #expect(deployment.core.activeView == 1)
        _ = deployment.wait(.seconds(1))
        #expect(deployment.core.activeView == nil)
    }

    @Test func aWorkerThatMissedTheEndOfItsViewHearsOfItAgain() {
        var deployment = Deployment.active()
        _ = deployment.say(0, .peerSilent(view: 1, tick: 1, workers: [1], reason: "x"))
        #expect(
            deployment.say(1, Deployment.heartbeat(), knowing: 1).views(to: 1).map(\.state)
                == [.retired])
        #expect(deployment.say(1, Deployment.heartbeat(.connecting), knowing: 2).views(to: 1) == [])
        // Its READY was swallowed.
        #expect(
            deployment.say(1, Deployment.heartbeat(.standby), knowing: 2).views(to: 1).count == 1)
    }

    @Test func aWorkerThatMissedTheBeginningOfItsViewHearsOfItAgain() {
        var deployment = Deployment.active()
        #expect(
            deployment.say(1, Deployment.heartbeat(.connecting), knowing: 1).views(to: 1)
                .map(\.state) == [.active])
        #expect(deployment.say(1, Deployment.heartbeat(.running), knowing: 1).views(to: 1) == [])
    }

    @Test func aGatewayThatMissedAViewHearsOfItAgain() {
        var deployment = Deployment.active()
        _ = deployment.say(Self.gateway, Deployment.hello(role: .gateway))
        let behind = deployment.say(Self.gateway, Deployment.heartbeat(), knowing: 0)
        #expect(behind.views(to: Self.gateway).map(\.state) == [.active])
        let current = deployment.say(Self.gateway, Deployment.heartbeat(), knowing: 1)
        #expect(current.views(to: Self.gateway) == [])
    }

    @Test func aLoadedWorkerKeepsItsPlaceAtARestartedCoordinator() {
        var deployment = Deployment(worldSize: 2)
        for (number, place) in [(1, 1), (0, 0)] as [(UInt64, UInt32)] {
            var hello = Hello(
                role: .worker, node: "a", device: place, pid: 1, softwareVersion: "0.1.0",
                declared: [])
            hello.worker = place
            let actions = deployment.say(number, .hello(hello))
            #expect(actions.configurations(to: number).map(\.worker) == [place])
        }
    }

    @Test func joiningAnotherViewDoesNothing() {
        var deployment = Deployment()
        deployment.helloAll()
        deployment.readyAll()
        deployment.joinAll(view: 0)
        deployment.joinAll(view: 2)
        #expect(deployment.core.activeView == nil)
        deployment.joinAll(view: 1)
        #expect(deployment.core.activeView == 1)
    }
}
