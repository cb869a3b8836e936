import Protocol
import Testing

@testable import Coordinator

/// Limits that change while the group stands.
@Suite struct CoordinatorCoreReloadTests {
    static let other = [
        ConfigurationEntry(key: "model", value: "/models/tiny"),
        ConfigurationEntry(key: "seed", value: "2"),
    ]

    static func reload(
        _ deployment: inout Deployment, _ configuration: [ConfigurationEntry] = other,
        lease: Interval = Deployment.lease, readyTimeout: Interval = Deployment.readyTimeout
    ) -> [CoordinatorCore.Action] {
        deployment.core.onReload(
            configuration: configuration, lease: lease, readyTimeout: readyTimeout,
            at: deployment.now)
    }

    static func told(_ actions: [CoordinatorCore.Action]) -> [PeerIdentity: AssignedConfiguration] {
        actions.reduce(into: [:]) { told, action in
            if case .send(let identity, .config(let configuration)) = action {
                told[identity] = configuration
            }
        }
    }

    @Test func allPeersHearWhatIsNewAndTheViewStands() throws {
        var deployment = Deployment.active()
        _ = deployment.say(200, Deployment.hello(role: .gateway))
        let view = deployment.core.view
        let told = Self.told(Self.reload(&deployment, lease: .seconds(7)))
        #expect(told.count == 3)
        for number in [0, 1, 200] as [UInt64] {
            let configuration = try #require(told[Deployment.identity(number)])
            #expect(configuration.entries == Self.other && configuration.lease == .seconds(7))
        }
        #expect(told[Deployment.identity(1)]?.worker == 1)
        #expect(deployment.core.view == view)
        // Who comes later hears the same, and is compared with it.
        let late = deployment.say(
            201, Deployment.hello(node: "b", role: .gateway, declared: [Self.other[1]]))
        #expect(Self.told(late)[Deployment.identity(201)]?.entries == Self.other)
    }

    @Test func aReloadWithoutAChangeSaysItAgain() {
        var deployment = Deployment.active()
        let told = Self.told(Self.reload(&deployment, Deployment.configuration))
        #expect(told.count == 2)
        #expect(told.values.allSatisfy { $0.entries == Deployment.configuration })
        #expect(deployment.core.membership.lease == Deployment.lease)
    }

    /// Heartbeats come in the rhythm of the lease that a peer knows: the shorter one begins when
    /// every peer has had the time of the longer one to hear of it.
    @Test func aShorterLeaseBeginsWhenTheOldOneIsOver() {
        var deployment = Deployment.active()
        _ = Self.reload(&deployment, lease: .milliseconds(500))
        let view = deployment.core.view
        func beat() {
            for number in 0..<2 { _ = deployment.say(UInt64(number), Deployment.heartbeat()) }
        }
        for _ in 0..<5 {
            _ = deployment.wait(.milliseconds(900))
            #expect(deployment.core.view == view)
            beat()
        }
        // From here on the new one counts.
        for _ in 0..<6 {
            _ = deployment.wait(.milliseconds(100))
            beat()
        }
        #expect(deployment.core.view == view)
        for _ in 0..<6 { _ = deployment.wait(.milliseconds(100)) }
        #expect(deployment.core.view.state == .retired)
        #expect(deployment.core.lastEnd.contains("has been silent for 500 ms"))
    }

    @Test func aLongerLeaseBeginsAtOnce() {
        var deployment = Deployment.active()
        _ = Self.reload(&deployment, lease: .seconds(20))
        for _ in 0..<19 { _ = deployment.wait(.seconds(1)) }
        #expect(deployment.core.view.state == .active)
        for _ in 0..<2 { _ = deployment.wait(.seconds(1)) }
        #expect(deployment.core.view.state == .retired)
    }

    @Test(arguments: [(40, 30), (90, 80)])
    func aDeadlineThatRunsIsMoved(timeout: Int, left: Int) {
        var deployment = Deployment()
        _ = deployment.wait(.seconds(10))
        _ = Self.reload(
            &deployment, Deployment.configuration, readyTimeout: .seconds(timeout))
        func hasFailed(_ actions: [CoordinatorCore.Action]) -> Bool {
            actions.contains { if case .fail = $0 { true } else { false } }
        }
        #expect(!hasFailed(deployment.wait(.seconds(left - 1))))
        #expect(hasFailed(deployment.wait(.seconds(1))))
    }
}
