import Protocol
import Testing

@testable import Coordinator

/// What goes wrong while the group changes.
@Suite struct ElasticFaultTests {
    private static func serving(_ worldSize: UInt32 = 2) -> Deployment {
        var deployment = Deployment(worldSize: worldSize, ranks: 1...8)
        deployment.helloAll()
        deployment.readyAll()
        deployment.joinAll(view: 1)
        return deployment
    }

    private func position(_ rank: UInt32, _ worldSize: UInt32) -> GroupPosition {
        GroupPosition(rank: rank, worldSize: worldSize)
    }

    private func prepared(_ numbers: Range<UInt64>, of worldSize: UInt32, _ group: inout Deployment)
    {
        for number in numbers {
            let position = position(UInt32(number), worldSize)
            _ = group.say(number, .prepared(position, failure: ""))
        }
    }

    /// Time passes, and nobody is lost.
    private func live(
        _ stages: [UInt64: WorkerStage], for seconds: Int, _ deployment: inout Deployment
    ) -> [CoordinatorCore.Action] {
        var actions: [CoordinatorCore.Action] = []
        for _ in 0..<seconds {
            for (number, stage) in stages.sorted(by: { $0.key < $1.key }) {
                actions += deployment.say(number, Deployment.heartbeat(stage))
            }
            actions += deployment.wait(.seconds(1))
        }
        return actions
    }

    @Test func whoGatheredOnceGathersAgain() {
        var deployment = Self.serving()
        for round in 0..<2 as Range<UInt64> {
            let (new, loads) = (2 + 2 * round, 3 + 2 * round)
            _ = deployment.say(new, Deployment.hello(device: 2))
            _ = deployment.say(loads, Deployment.hello(device: 3))
            _ = deployment.say(new, Deployment.ready(new, position: position(2, 3)))
            prepared(0..<2, of: 3, &deployment)
            // The other one loads still, and comes in the same view.
            #expect(deployment.core.activeView == 1)
            for number in [new, loads] { _ = deployment.say(number, .leave(reason: "crashed")) }
            prepared(0..<2, of: 2, &deployment)
            _ = live([0: .idle, 1: .idle], for: 15, &deployment)
        }
    }

    /// Nothing else would make the worker say it again.
    @Test func aReadyThatIsLostBeforeTheFirstViewIsAskedForAgain() {
        var deployment = Deployment(worldSize: 1)
        deployment.helloAll()
        #expect(deployment.say(0, Deployment.heartbeat(.loading)).views(to: 0).isEmpty)
        let told = deployment.say(0, Deployment.heartbeat(.standby)).views(to: 0)
        #expect(told.map(\.state) == [.retired])
        deployment.readyAll()
        #expect(deployment.core.view.state == .forming)
    }

    /// Nobody else repeats to it what it has to answer.
    @Test func aMemberThatDrainsAlreadyIsToldOfItsViewAgain() {
        var deployment = Self.serving()
        _ = deployment.say(1, .leave(reason: "crashed"))
        _ = deployment.say(2, Deployment.hello(device: 1))
        _ = deployment.say(0, Deployment.ready(0, address: 50))
        _ = deployment.say(2, Deployment.ready(2, position: position(1, 2)))
        _ = deployment.say(0, .prepared(position(0, 2), failure: ""))
        #expect(deployment.core.view.state == .forming)
        _ = deployment.say(0, .viewJoined(view: 3))
        let draining = deployment.say(2, Deployment.heartbeat(.draining), knowing: 3)
        #expect(draining.views(to: 2).map(\.state) == [.forming])
        _ = deployment.say(2, .viewJoined(view: 3))
        #expect(deployment.core.activeView == 3)
        #expect(
            deployment.say(2, Deployment.heartbeat(.draining), knowing: 3).views(to: 2).isEmpty)
    }

    /// Says READY for a view of `worldSize`, with what was prepared.
    private func ready(_ numbers: Range<UInt64>, of worldSize: UInt32, _ group: inout Deployment) {
        for number in numbers {
            let address = UInt8(truncatingIfNeeded: group.core.view.number * 10 + UInt32(number))
            _ = group.say(
                number,
                Deployment.ready(
                    number, address: address, position: position(UInt32(number), worldSize)))
        }
    }

    /// A third worker comes that cannot be connected; the view that has it is forming.
    private func withNewcomer(_ deployment: inout Deployment) {
        _ = deployment.say(2, Deployment.hello(device: 2))
        _ = deployment.say(2, Deployment.ready(2, position: position(2, 3)))
        prepared(0..<2, of: 3, &deployment)
        ready(0..<3, of: 3, &deployment)
    }

    @Test(arguments: [(0, [2]), (2, [0, 1])] as [(UInt64, [UInt32])])
    func aNewcomerThatCannotBeConnectedEndsNoGroup(reporter: UInt64, names: [UInt32]) {
        var deployment = Self.serving()
        withNewcomer(&deployment)
        for delay in [30, 60, 120] {
            #expect(deployment.core.view.state == .forming)
            #expect(deployment.core.view.members.count == 3)
            let broken = ControlBody.peerSilent(
                view: deployment.core.view.number, tick: 0, workers: names, reason: "timed out")
            let ended = deployment.say(reporter, broken)
            #expect("\(ended)".contains("is left out for \(delay) s"))
            ready(0..<3, of: 3, &deployment)
            prepared(0..<2, of: 2, &deployment)
            #expect(deployment.core.view.members.map(\.worker) == [0, 1])
            let number = deployment.core.view.number
            for worker in [0, 1] as [UInt64] {
                _ = deployment.say(worker, .viewJoined(view: number))
            }
            let stages: [UInt64: WorkerStage] = [0: .idle, 1: .idle, 2: .standby]
            _ = live(stages, for: delay - 1, &deployment)
            #expect(deployment.core.activeView == number)
            // Then it is tried again.
            _ = live(stages, for: 2, &deployment)
            prepared(0..<2, of: 3, &deployment)
            #expect(deployment.core.view.state == .retired)
            ready(0..<3, of: 3, &deployment)
        }
    }

    @Test func aNewcomerIsTakenWhereNobodyElseIsLeft() {
        var deployment = Self.serving()
        withNewcomer(&deployment)
        let lost = ControlBody.peerSilent(
            view: deployment.core.view.number, tick: 0, workers: [2], reason: "timed out")
        _ = deployment.say(0, lost)
        ready(0..<3, of: 3, &deployment)
        for number in [0, 1] as [UInt64] { _ = deployment.say(number, .leave(reason: "crashed")) }
        let alone = live([2: .standby], for: 1, &deployment)
        #expect(alone.bodies(to: 2).contains(.prepare(position(0, 1))))
        _ = deployment.say(2, .prepared(position(0, 1), failure: ""))
        #expect(deployment.core.view.members.map(\.worker) == [2])
    }

    @Test func whoHasServedIsNotHeldBack() {
        var deployment = Self.serving()
        withNewcomer(&deployment)
        let lost = ControlBody.peerSilent(
            view: deployment.core.view.number, tick: 0, workers: [1], reason: "timed out")
        let ended = deployment.say(0, lost)
        #expect(!"\(ended)".contains("is left out"))
        ready(0..<3, of: 3, &deployment)
        #expect(deployment.core.view.members.count == 3)
    }

    /// It may load for many minutes, and the others have served without it.
    @Test func aRestartedCoordinatorDoesNotWaitForWhoLoads() {
        var deployment = Deployment(worldSize: 3, ranks: 1...8)
        func hello(_ number: UInt64, knowing view: UInt32) {
            var hello = Hello(
                role: .worker, node: "a", device: UInt32(number), pid: 1, softwareVersion: "0",
                declared: [])
            hello.worker = UInt32(number)
            _ = deployment.say(number, .hello(hello), knowing: view)
        }
        for number in [0, 1] as [UInt64] {
            hello(number, knowing: 7)
            _ = deployment.say(
                number, Deployment.ready(number, position: position(UInt32(number), 2)))
        }
        hello(2, knowing: 7)
        let stages: [UInt64: WorkerStage] = [0: .standby, 1: .standby, 2: .loading]
        _ = live(stages, for: 7, &deployment)
        #expect(deployment.core.view.state == .forming)
        #expect(deployment.core.view.members.map(\.worker) == [0, 1])
    }
}
