import Protocol
import Testing

@testable import Coordinator

/// What a role may say and hear.
@Suite struct CoordinatorRolesTests {
    /// The identity is what the link's key was checked for; the HELLO is the peer's word.
    @Test func nobodyIsAdmittedAsAnotherRole() {
        var deployment = Deployment()
        let hello = ControlMessage(
            incarnation: Incarnation(rawValue: 7), view: 0, sequence: 1, body: Deployment.hello())
        let actions = deployment.core.onMessage(hello, from: [2, 7], at: deployment.now)
        guard case .warn? = actions.first, actions.count == 1 else {
            Issue.record("\(actions)")
            return
        }
        #expect(deployment.core.membership.peer([2, 7]) == nil)
    }

    @Test func aGatewayCannotEndAViewOrWakeIt() {
        var deployment = Deployment.active()
        let identity: PeerIdentity = [2, 9]
        func message(_ body: ControlBody) -> ControlMessage {
            ControlMessage(
                incarnation: Incarnation(rawValue: 9), view: 1, sequence: 1, body: body)
        }
        _ = deployment.core.onMessage(
            message(Deployment.hello(role: .gateway)), from: identity, at: deployment.now)
        for body: ControlBody in [
            .peerSilent(view: 1, tick: 0, workers: [0], reason: "x"),
            .wakeRequest(view: 1, fromTick: .max), .wakeAck(view: 1, fromTick: 0),
            .viewJoined(view: 1), Deployment.ready(9),
        ] {
            let actions = deployment.core.onMessage(
                message(body), from: identity, at: deployment.now)
            guard case .warn? = actions.first, actions.count == 1 else {
                Issue.record("\(body): \(actions)")
                continue
            }
        }
        #expect(deployment.core.activeView == 1)
    }

    @Test func gatewaysHearNothingOfTheWorkersNetwork() {
        var deployment = Deployment.active()
        let actions = deployment.core.onMessage(
            ControlMessage(
                incarnation: Incarnation(rawValue: 9), view: 0, sequence: 1,
                body: Deployment.hello(role: .gateway)), from: [2, 9], at: deployment.now)
        let views = actions.compactMap { action -> View? in
            guard case .send([2, 9], .view(let view)) = action else { return nil }
            return view
        }
        #expect(views.last?.members.count == 2)
        #expect(views.allSatisfy { $0.members.allSatisfy { $0.collectivesAddress.isEmpty } })
    }
}
