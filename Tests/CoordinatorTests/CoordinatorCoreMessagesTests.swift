import Protocol
import Testing

@testable import Coordinator

@Suite struct CoordinatorCoreMessagesTests {
    static let gateway: UInt64 = 200

    static let fromStrangers: [ControlBody] = [
        Deployment.heartbeat(), Deployment.ready(5), .viewJoined(view: 1),
        .wakeRequest(view: 1, fromTick: 0), .wakeAck(view: 1, fromTick: 0),
        .peerSilent(view: 1, tick: 0, workers: [0], reason: ""), .leave(reason: ""),
        .heartbeatAck(sequence: 1), .loadUpdate([]),
    ]

    @Test(arguments: fromStrangers)
    func aStrangerIsToldToSayHello(body: ControlBody) {
        var deployment = Deployment.active()
        let actions = deployment.say(99, body)
        #expect(actions.count == 1)
        #expect(actions.refusals(to: 99).map(\.reason) == [.unknownPeer])
        #expect(deployment.core.activeView == 1)
    }

    @Test func anotherIncarnationUnderAKnownIdentityIsAStranger() {
        var deployment = Deployment.active()
        let message = ControlMessage(
            incarnation: Incarnation(rawValue: 77), view: 1, sequence: 1,
            body: .leave(reason: "forged"))
        let actions = deployment.core.onMessage(
            message, from: Deployment.identity(0), at: deployment.now)
        #expect(actions.refusals(to: 0).map(\.reason) == [.unknownPeer])
        #expect(deployment.core.activeView == 1)
    }

    static let onlyCoordinator: [ControlBody] = [
        .heartbeatAck(sequence: 1), .loadUpdate([]), .wake(view: 1, fromTick: 0),
        .refuse(Refusal(reason: .draining, text: "")),
        .view(
            View(number: 8, state: .retired, members: [], configurationDigest: 0, reason: "")),
        .config(
            AssignedConfiguration(
                worker: 0, dpRank: 0, tpRank: 0, entries: [], lease: .seconds(1),
                readyDeadline: .zero, position: GroupPosition(rank: 0, worldSize: 1))),
        .prepare(GroupPosition(rank: 0, worldSize: 1)),
    ]

    @Test(arguments: onlyCoordinator)
    func whatOnlyTheCoordinatorSaysIsLoggedAndDropped(body: ControlBody) {
        var deployment = Deployment.active()
        let actions = deployment.say(0, body)
        #expect(actions.count == 1)
        guard case .warn = actions.first else {
            Issue.record("\(actions)")
            return
        }
    }

    // MARK: Heartbeats and loads

    @Test func aHeartbeatIsAnsweredWithItsNumber() {
        var deployment = Deployment.active()
        let message = ControlMessage(
            incarnation: Incarnation(rawValue: 1), view: 1, sequence: 4711,
            body: Deployment.heartbeat())
        let actions = deployment.core.onMessage(
            message, from: Deployment.identity(1), at: deployment.now)
        #expect(actions == [.send(Deployment.identity(1), .heartbeatAck(sequence: 4711))])
    }

    @Test func gatewaysHearLoadsOnlyWhenTheyChange() {
        var deployment = Deployment.active()
        _ = deployment.say(Self.gateway, Deployment.hello(role: .gateway))
        _ = deployment.wait(.milliseconds(100))
        var one = RankLoad()
        one.dpRank = 1
        one.running = 3
        var zero = RankLoad()
        zero.waiting = 2
        _ = deployment.say(1, Deployment.heartbeat(load: one))
        _ = deployment.say(0, Deployment.heartbeat(load: zero))
        let update = [ControlBody.loadUpdate([zero, one])]
        #expect(deployment.wait(.milliseconds(100)).bodies(to: Self.gateway) == update)
        #expect(deployment.wait(.milliseconds(100)).bodies(to: Self.gateway).isEmpty)
        _ = deployment.say(1, Deployment.heartbeat(load: one))
        #expect(deployment.wait(.milliseconds(100)).bodies(to: Self.gateway).isEmpty)
        one.running = 4
        _ = deployment.say(1, Deployment.heartbeat(load: one))
        #expect(
            deployment.wait(.milliseconds(100)).bodies(to: Self.gateway)
                == [.loadUpdate([zero, one])])
        #expect(deployment.wait(.milliseconds(100)).bodies(to: 0).isEmpty, "workers never")
    }

    @Test func loadsOfAViewEndWithIt() {
        var deployment = Deployment.active()
        _ = deployment.say(Self.gateway, Deployment.hello(role: .gateway))
        var load = RankLoad()
        load.running = 1
        _ = deployment.say(0, Deployment.heartbeat(load: load))
        _ = deployment.wait(.milliseconds(100))
        _ = deployment.say(1, .leave(reason: "x"))
        #expect(
            deployment.wait(.milliseconds(100)).bodies(to: Self.gateway).contains(.loadUpdate([])))
    }

    // MARK: Gateways

    @Test func gatewaysHearWhoIsMissingUntilTheViewIsActive() {
        var deployment = Deployment()
        let first = deployment.say(Self.gateway, Deployment.hello(role: .gateway))
        #expect(
            first.views(to: Self.gateway).first?.reason
                == "waiting for: worker 0 has not said HELLO; worker 1 has not said HELLO")
        let second = deployment.say(0, Deployment.hello(device: 0))
        #expect(
            second.views(to: Self.gateway).first?.reason
                == "waiting for: worker 0 (node a, device 0) is not ready; "
                + "worker 1 has not said HELLO")
        _ = deployment.say(1, Deployment.hello(device: 1))
        let forming = deployment.readyAll()
        #expect(forming.views(to: Self.gateway).allSatisfy { $0.state == .retired })
        let active = deployment.joinAll(view: 1)
        #expect(active.views(to: Self.gateway).map(\.state) == [.active])
        let late = deployment.say(201, Deployment.hello(role: .gateway))
        #expect(late.views(to: 201).map(\.members.count) == [2])
    }

    @Test func aGatewayCannotSayReady() {
        var deployment = Deployment()
        _ = deployment.say(Self.gateway, Deployment.hello(role: .gateway))
        let actions = deployment.say(Self.gateway, Deployment.ready(0))
        #expect(actions == [.warn("gateway on a sent a message that only workers send")])
    }

    // MARK: Wake

    @Test func aWakeGoesToEveryWorkerUntilAllHaveAnswered() {
        var deployment = Deployment.active()
        let wake = [ControlBody.wake(view: 1, fromTick: 5)]
        let actions = deployment.say(1, .wakeRequest(view: 1, fromTick: 5))
        #expect(actions.bodies(to: 0) == wake && actions.bodies(to: 1) == wake)
        _ = deployment.say(1, .wakeAck(view: 1, fromTick: 5))
        #expect(deployment.wait(.milliseconds(100)).isEmpty)
        let again = deployment.wait(.milliseconds(100))
        #expect(again.bodies(to: 0) == wake && again.bodies(to: 1).isEmpty)
        _ = deployment.say(0, .wakeAck(view: 1, fromTick: 5))
        #expect(deployment.wait(.seconds(1)).isEmpty)
    }

    @Test func aWakeThatIsNotAnsweredEndsTheView() {
        var deployment = Deployment.active()
        _ = deployment.say(0, .wakeRequest(view: 1, fromTick: 0))
        _ = deployment.say(0, .wakeAck(view: 1, fromTick: 0))
        var reasons: [String] = []
        for _ in 0..<50 {
            for number in 0..<2 as Range<UInt64> {
                _ = deployment.say(number, Deployment.heartbeat())
            }
            reasons += deployment.wait(.milliseconds(100)).views(to: 0).map(\.reason)
        }
        #expect(reasons == ["worker 1 did not acknowledge a wake within 5000 ms"])
    }

    @Test func aWakeOutsideAnActiveViewDoesNothing() {
        var deployment = Deployment()
        deployment.helloAll()
        #expect(deployment.say(0, .wakeRequest(view: 0, fromTick: 0)).isEmpty)
        deployment.readyAll()
        #expect(deployment.say(0, .wakeRequest(view: 1, fromTick: 0)).isEmpty)
        deployment.joinAll(view: 1)
        #expect(deployment.say(0, .wakeRequest(view: 7, fromTick: 0)).isEmpty)
        #expect(deployment.say(0, .wakeRequest(view: 1, fromTick: 0)).count == 2)
    }
}
