import Protocol
import Testing

@testable import Coordinator

/// Who talks to whom in which version while a deployment is upgraded process by process.
@Suite struct ProtocolVersionsTests {
    private func hello(
        _ newest: UInt32, oldest: UInt32 = 1, device: UInt32 = 0, role: PeerRole = .worker
    ) -> ControlBody {
        var hello = Hello(
            role: role, node: "a", device: device, pid: 1, softwareVersion: "9.9", declared: [])
        (hello.protocolMin, hello.protocolMax) = (oldest, newest)
        return .hello(hello)
    }

    private func deployment(speaking newest: UInt32) -> Deployment {
        var deployment = Deployment()
        deployment.core = CoordinatorCore(
            CoordinatorCore.Settings(
                worldSize: 2, tensorParallelSize: 1, ranksMin: 1, ranksMax: 8,
                configuration: Deployment.configuration,
                lease: Deployment.lease, readyTimeout: Deployment.readyTimeout,
                protocols: ProtocolRange(oldest: 1, newest: newest) ?? .ofThisBuild,
                softwareVersion: "0.1.0"),
            at: deployment.now)
        return deployment
    }

    @Test(arguments: [1, 2] as [UInt32], [1, 2] as [UInt32])
    func eachPeerGetsTheNewestThatBothSpeak(coordinator: UInt32, peer: UInt32) throws {
        for (number, role) in [(0, PeerRole.worker), (200, .gateway)] as [(UInt64, PeerRole)] {
            var deployment = deployment(speaking: coordinator)
            let actions = deployment.say(number, hello(peer, role: role))
            let configuration = try #require(actions.configurations(to: number).first)
            #expect(configuration.protocolVersion == min(coordinator, peer))
            let identity = Deployment.identity(number)
            #expect(
                deployment.core.protocolVersion(toward: identity) == min(coordinator, peer))
        }
    }

    @Test func whoHasNoPlaceIsAnsweredInTheOldestVersion() {
        let deployment = deployment(speaking: 2)
        #expect(deployment.core.protocolVersion(toward: Deployment.identity(7)) == 1)
    }

    /// The versions of two workers, and that of their view.
    @Test(arguments: [[1, 1, 1], [1, 2, 1], [2, 1, 1], [2, 2, 2]] as [[UInt32]])
    func aViewSpeaksWhatAllItsWorkersSpeak(versions: [UInt32]) throws {
        var deployment = deployment(speaking: 2)
        for number in 0..<2 as Range<UInt64> {
            _ = deployment.say(
                number, hello(versions[Int(number)], device: UInt32(number)))
        }
        let forming = try #require(deployment.readyAll().views(to: 0).first)
        #expect(forming.protocolVersion == versions[2])
        let active = try #require(deployment.joinAll(view: 1).views(to: 1).first)
        #expect(active.state == .active)
        #expect(active.protocolVersion == versions[2])
    }

    /// It takes no other position, so the group waits for the one that is missing.
    @Test func aWorkerOfTheOldVersionKeepsTheGroupAsItIs() {
        var deployment = deployment(speaking: 2)
        _ = deployment.say(0, hello(1, device: 0))
        _ = deployment.say(1, hello(2, device: 1))
        deployment.readyAll()
        deployment.joinAll(view: 1)
        _ = deployment.say(1, .leave(reason: "upgraded"))
        let ready = deployment.say(0, Deployment.ready(0, address: 9))
        #expect(ready.bodies(to: 0).isEmpty)
        #expect("\(ready)".contains("speaks protocol 1 and takes no other position"))
        _ = deployment.say(3, hello(2, device: 1))
        _ = deployment.wait(.seconds(1))
        _ = deployment.say(3, Deployment.ready(3))
        #expect(deployment.core.view.state == .forming)
        #expect(deployment.core.view.members.map(\.incarnation.rawValue) == [0, 3])
    }

    /// The last old worker is replaced: the view that follows speaks the new version.
    @Test func theViewAfterTheLastUpgradeSpeaksTheNewVersion() throws {
        var deployment = deployment(speaking: 2)
        _ = deployment.say(0, hello(2, device: 0))
        _ = deployment.say(1, hello(1, device: 1))
        deployment.readyAll()
        deployment.joinAll(view: 1)
        #expect(deployment.core.view.protocolVersion == 1)
        _ = deployment.say(1, .leave(reason: "upgraded"))
        _ = deployment.say(3, hello(2, device: 1))
        _ = deployment.wait(.seconds(1))
        _ = deployment.say(0, Deployment.ready(0, address: 9))
        _ = deployment.say(3, Deployment.ready(3))
        // It was told to load for a view of its own meanwhile.
        let position = GroupPosition(rank: 0, worldSize: 2)
        let views = deployment.say(0, .prepared(position, failure: "")).views(to: 3)
        #expect(views.map(\.protocolVersion) == [2])
    }

    @Test func aPeerOutsideHearsWhatToInstall() throws {
        var deployment = deployment(speaking: 2)
        let newer = try #require(
            deployment.say(0, hello(4, oldest: 3)).refusals(to: 0).first)
        #expect(newer.reason == .protocolVersion)
        #expect(
            newer.text
                == "version 9.9 on a speaks protocol 3 to 4, the coordinator (version 0.1.0) 1 to "
                + "2: install a newer release here first, one that speaks 3")
        let none = try #require(deployment.say(0, hello(0, oldest: 0)).refusals(to: 0).first)
        #expect(none.reason == .protocolVersion)
        #expect(deployment.core.membership.peer(Deployment.identity(0)) == nil)
    }

    @Test func anOperatorIsAnsweredInItsVersionAndSeesEverybodys() {
        for asked in [1, 2, 7] as [UInt32] {
            var deployment = deployment(speaking: 2)
            _ = deployment.say(0, hello(1, device: 0))
            _ = deployment.say(1, hello(2, device: 1))
            let identity = ControlIdentity.bytes(
                role: ControlIdentity.operatorRole, incarnation: Incarnation(rawValue: 900),
                secret: 1)
            let actions = deployment.core.onMessage(
                ControlMessage(
                    protocolVersion: asked, incarnation: Incarnation(rawValue: 900), view: 0,
                    sequence: 1, body: .statusRequest), from: identity, at: deployment.now)
            guard case .report(identity, let report, let version) = actions.first else {
                Issue.record("\(actions)")
                continue
            }
            #expect(version == min(asked, 2))
            #expect(report.protocolVersion == 2)
            let versions: [UInt32] = report.peers.map { $0.protocolVersion }
            #expect(versions == [1, 2])
        }
    }
}
