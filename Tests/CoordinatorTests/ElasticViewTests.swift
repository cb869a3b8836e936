import Protocol
import TestSupport
import Testing

@testable import Coordinator

/// Workers come and go while the deployment serves.
@Suite struct ElasticViewTests {
    /// Two workers serve; one to eight may.
    private static func serving(_ worldSize: UInt32 = 2, tensorParallelSize: UInt32 = 1)
        -> Deployment
    {
        var deployment = Deployment(
            worldSize: worldSize, tensorParallelSize: tensorParallelSize, ranks: 1...8)
        deployment.helloAll()
        deployment.readyAll()
        deployment.joinAll(view: 1)
        return deployment
    }

    private func position(_ rank: UInt32, _ worldSize: UInt32) -> GroupPosition {
        GroupPosition(rank: rank, worldSize: worldSize)
    }

    /// What workers are to load, by their number.
    private func preparations(
        _ actions: [CoordinatorCore.Action], _ numbers: [UInt64]
    ) -> [[GroupPosition]] {
        numbers.map { number in
            actions.bodies(to: number).compactMap {
                guard case .prepare(let position) = $0 else { return nil }
                return position
            }
        }
    }

    /// The view that the last READY and the last JOINED of these bring.
    private func formed(
        _ numbers: [UInt64], _ positions: [GroupPosition], _ deployment: inout Deployment
    ) -> View {
        for (number, position) in zip(numbers, positions) {
            _ = deployment.say(
                number, Deployment.ready(number, address: UInt8(90 + number), position: position))
        }
        for number in numbers {
            _ = deployment.say(number, .viewJoined(view: deployment.core.view.number))
        }
        return deployment.core.view
    }

    @Test func aWorkerMoreJoinsTheNextViewWhileThisOneGoesOn() {
        var deployment = Self.serving()
        let hello = deployment.say(2, Deployment.hello(device: 2))
        #expect(hello.configurations(to: 2).map(\.position) == [position(2, 3)])
        #expect(hello.configurations(to: 2).map(\.worker) == [2])
        let ready = deployment.say(2, Deployment.ready(2, position: position(2, 3)))
        #expect(preparations(ready, [0, 1, 2]) == [[position(0, 3)], [position(1, 3)], []])
        #expect(deployment.say(0, .prepared(position(0, 3), failure: "")).isEmpty)
        #expect(deployment.core.activeView == 1)
        let change = deployment.say(1, .prepared(position(1, 3), failure: ""))
        #expect(change.views(to: 0).map(\.state) == [.retired])
        let view = formed([0, 1, 2], (0..<3).map { position($0, 3) }, &deployment)
        #expect(view.state == .active && view.members.map(\.worker) == [0, 1, 2])
    }

    /// Two serve; of two newcomers one is ready and everybody has its experts, and one loads.
    private func gathering() -> Deployment {
        var deployment = Self.serving()
        for number in [2, 3] as [UInt64] {
            _ = deployment.say(number, Deployment.hello(device: UInt32(number)))
        }
        _ = deployment.say(2, Deployment.ready(2, position: position(2, 3)))
        for number in [0, 1] as [UInt64] {
            _ = deployment.say(number, .prepared(position(UInt32(number), 3), failure: ""))
        }
        return deployment
    }

    @Test func workersThatStartTogetherComeInOneView() {
        var deployment = gathering()
        // The fourth still loads.
        #expect(deployment.core.activeView == 1)
        let ready = deployment.say(3, Deployment.ready(3, position: position(3, 4)))
        #expect(
            preparations(ready, [0, 1, 2, 3])
                == [[position(0, 4)], [position(1, 4)], [position(2, 4)], []])
        for number in [0, 1] as [UInt64] {
            _ = deployment.say(number, .prepared(position(UInt32(number), 4), failure: ""))
        }
        let change = deployment.say(2, .prepared(position(2, 4), failure: ""))
        #expect(change.views(to: 0).map(\.state) == [.retired])
    }

    /// Those who were told to load for a larger view lose what they had for the smaller one.
    @Test func aPlanThatIsOvertakenIsPreparedAnew() {
        var deployment = Self.serving()
        _ = deployment.say(2, Deployment.hello(device: 2))
        _ = deployment.say(3, Deployment.hello(device: 3))
        _ = deployment.say(2, Deployment.ready(2, position: position(2, 3)))
        for number in [0, 1] as [UInt64] {
            _ = deployment.say(number, .prepared(position(UInt32(number), 3), failure: ""))
        }
        _ = deployment.say(3, Deployment.ready(3, position: position(3, 4)))
        let lost = deployment.say(3, .leave(reason: "crashed"))
        #expect(
            preparations(lost, [0, 1, 2]) == [[position(0, 3)], [position(1, 3)], [position(2, 3)]])
        // Answers to what was wanted before, good and bad.
        #expect(deployment.say(0, .prepared(position(0, 4), failure: "")).isEmpty)
        #expect(deployment.say(1, .prepared(position(1, 4), failure: "no memory")).isEmpty)
        #expect(deployment.core.activeView == 1)
        _ = deployment.say(0, .prepared(position(0, 3), failure: ""))
        _ = deployment.say(1, .prepared(position(1, 3), failure: ""))
        let change = deployment.say(2, .prepared(position(2, 3), failure: ""))
        #expect(change.views(to: 0).map(\.state) == [.retired])
    }

    @Test func whoLoadsForAPlanThatIsGoneIsToldToForgetIt() {
        var deployment = Self.serving()
        _ = deployment.say(2, Deployment.hello(device: 2))
        _ = deployment.say(2, Deployment.ready(2, position: position(2, 3)))
        let lost = deployment.say(2, .leave(reason: "crashed"))
        #expect(preparations(lost, [0, 1]) == [[position(0, 2)], [position(1, 2)]])
        #expect(deployment.say(0, .prepared(position(0, 3), failure: "")).isEmpty)
        #expect(deployment.say(0, .prepared(position(0, 2), failure: "")).isEmpty)
        #expect(deployment.say(1, .prepared(position(1, 2), failure: "")).isEmpty)
        #expect(deployment.core.activeView == 1)
    }

    @Test func whoLoadsForLongIsNotWaitedFor() {
        var deployment = gathering()
        for _ in 0..<3 {
            #expect(deployment.core.activeView == 1)
            for number in 0..<4 as Range<UInt64> {
                _ = deployment.say(
                    number, Deployment.heartbeat(number == 3 ? .loading : .running))
            }
            _ = deployment.wait(.seconds(4))
        }
        #expect(deployment.core.view.state == .retired)
    }

    @Test func aGatewayHearsWhetherTheDeploymentHasServed() throws {
        func lastView(_ actions: [CoordinatorCore.Action]) throws -> View {
            try #require(actions.views(to: 200).last)
        }
        var new = Deployment(worldSize: 2, ranks: 1...2)
        let hello = new.say(200, Deployment.hello(role: .gateway))
        #expect(try !lastView(hello).hasServed)
        _ = new.say(0, Deployment.hello())
        // A worker that was in a view: it is the coordinator that is new.
        guard case .hello(var known) = Deployment.hello(device: 1) else { return }
        known.worker = 1
        #expect(try lastView(new.say(1, .hello(known))).hasServed)

        var serving = Self.serving()
        _ = serving.say(200, Deployment.hello(role: .gateway))
        let lost = serving.say(1, .leave(reason: "crashed"))
        #expect(try lastView(lost).state == .retired)
        #expect(try lastView(lost).hasServed)
    }

    @Test func whoStopsIsReleasedWhenTheOthersDoWithoutIt() {
        var deployment = Self.serving(3)
        let draining = deployment.say(1, Deployment.heartbeat(.draining))
        #expect(preparations(draining, [0, 1, 2]) == [[position(0, 2)], [], [position(1, 2)]])
        for (number, rank) in [(0, 0), (2, 1)] as [(UInt64, UInt32)] {
            _ = deployment.say(number, .prepared(position(rank, 2), failure: ""))
        }
        // It still has sequences.
        #expect(deployment.core.activeView == 1)
        let left = deployment.say(1, .askToLeave(reason: "stopped"))
        #expect(left.views(to: 0).map(\.reason) == ["worker 1 (node a, device 1) left: stopped"])
        #expect(left.refusals(to: 1).map(\.reason) == [.draining])
        let view = formed([0, 2], [position(0, 2), position(1, 2)], &deployment)
        // Places keep their numbers.
        #expect(view.state == .active && view.members.map(\.worker) == [0, 2])
        #expect(view.members.map(\.dpRank) == [0, 2])
        // It comes back into its place.
        let again = deployment.say(7, Deployment.hello(device: 1))
        #expect(again.configurations(to: 7).map(\.worker) == [1])
        #expect(again.configurations(to: 7).map(\.position) == [position(1, 3)])
    }

    @Test func theOthersServeWithoutALostOne() {
        var deployment = Self.serving()
        _ = deployment.wait(.seconds(4))
        _ = deployment.say(0, Deployment.heartbeat())
        let lost = deployment.wait(.seconds(2))
        #expect(lost.views(to: 0).map(\.state) == [.retired])
        let ready = deployment.say(0, Deployment.ready(0, address: 50))
        #expect(preparations(ready, [0]) == [[position(0, 1)]])
        let forming = deployment.say(0, .prepared(position(0, 1), failure: ""))
        #expect(forming.views(to: 0).map(\.state) == [.forming])
        let active = deployment.say(0, .viewJoined(view: 3))
        #expect(active.contains(.status("view 3 is active with 1 workers of 2")))
    }

    @Test func whoComesBackInTimeIsWaitedForByNobodyButTakenIn() {
        var deployment = Self.serving()
        _ = deployment.say(1, .leave(reason: "crashed"))
        _ = deployment.say(0, Deployment.ready(0, address: 50))
        _ = deployment.say(8, Deployment.hello(device: 1))
        let ready = deployment.say(8, Deployment.ready(8, position: position(1, 2)))
        // The survivor has the experts of the old view still, and says so at once.
        #expect(preparations(ready, [0, 8]) == [[position(0, 2)], []])
        let forming = deployment.say(0, .prepared(position(0, 2), failure: ""))
        #expect(forming.views(to: 0).map(\.state) == [.forming])
        #expect(forming.views(to: 0).first?.members.map(\.incarnation.rawValue) == [0, 8])
    }

    @Test func fewerThanTheLeastAreNoGroup() {
        var deployment = Deployment(worldSize: 3, ranks: 2...3)
        deployment.helloAll()
        deployment.readyAll()
        deployment.joinAll(view: 1)
        _ = deployment.say(1, .leave(reason: "crashed"))
        _ = deployment.say(2, .leave(reason: "crashed"))
        let ready = deployment.say(0, Deployment.ready(0, address: 50))
        #expect(preparations(ready, [0]) == [[]])
        #expect(deployment.core.view.state == .retired)
        #expect(
            deployment.wait(.seconds(61)).failures.first?.contains(
                "worker 1 has not said HELLO; worker 2 has not said HELLO") == true)
    }

    @Test func allThatStopTogetherFinishTheirSequencesTogether() {
        var deployment = Self.serving()
        for number in [0, 1] as [UInt64] {
            _ = deployment.say(number, Deployment.heartbeat(.draining))
        }
        #expect(deployment.say(0, .askToLeave(reason: "stopped")).isEmpty)
        #expect(deployment.core.activeView == 1)
        let last = deployment.say(1, .askToLeave(reason: "stopped"))
        #expect(last.refusals(to: 0).count == 1 && last.refusals(to: 1).count == 1)
    }

    @Test func whatCannotBePreparedChangesNothingAndIsTriedAgainLater() {
        var deployment = Self.serving()
        _ = deployment.say(2, Deployment.hello(device: 2))
        _ = deployment.say(2, Deployment.ready(2, position: position(2, 3)))
        _ = deployment.say(1, .prepared(position(1, 3), failure: ""))
        let failed = deployment.say(0, .prepared(position(0, 3), failure: "no memory"))
        #expect(failed.count == 1 && "\(failed[0])".contains("no memory"))
        func tick(_ seconds: Int) -> [CoordinatorCore.Action] {
            for number in [0, 1, 2] as [UInt64] {
                _ = deployment.say(number, Deployment.heartbeat())
            }
            return deployment.wait(.seconds(seconds))
        }
        for _ in 0..<14 { #expect(preparations(tick(2), [0, 1, 2]) == [[], [], []]) }
        #expect(preparations(tick(3), [0, 1, 2]) == [[position(0, 3)], [], []])
        #expect(deployment.core.activeView == 1)
    }

    @Test func aRankIsWholeOrNotInTheView() {
        var deployment = Self.serving(4, tensorParallelSize: 2)
        let draining = deployment.say(3, Deployment.heartbeat(.draining))
        #expect(
            preparations(draining, [0, 1, 2, 3]) == [[position(0, 2)], [position(1, 2)], [], []])
        _ = deployment.say(0, .prepared(position(0, 2), failure: ""))
        _ = deployment.say(1, .prepared(position(1, 2), failure: ""))
        _ = deployment.say(3, .askToLeave(reason: "stopped"))
        // The other worker of its rank waits for the next one.
        _ = deployment.say(2, Deployment.ready(2, address: 77, position: position(2, 4)))
        let view = formed([0, 1], [position(0, 2), position(1, 2)], &deployment)
        #expect(view.state == .active && view.members.map(\.worker) == [0, 1])
    }

    @Test func aRestartedCoordinatorTakesThoseWhoAreHere() {
        var deployment = Deployment(worldSize: 3, ranks: 1...8)
        for (number, worker) in [(5, 2), (6, 4)] as [(UInt64, UInt32)] {
            var hello = Hello(
                role: .worker, node: "a", device: worker, pid: 1, softwareVersion: "0",
                declared: [])
            hello.worker = worker
            #expect(deployment.say(number, .hello(hello)).configurations(to: number).count == 1)
            _ = deployment.say(
                number, Deployment.ready(number, position: position(UInt32(number) - 5, 2)))
        }
        #expect(deployment.core.view.state == .retired)
        _ = deployment.wait(.seconds(3))
        for number in [5, 6] as [UInt64] {
            _ = deployment.say(number, Deployment.heartbeat(.standby))
        }
        let forming = deployment.wait(.seconds(3))
        #expect(forming.views(to: 5).map(\.state) == [.forming])
        #expect(forming.views(to: 5).first?.members.map(\.worker) == [2, 4])
    }

    /// Against the definition, after random changes.
    @Test func theRankTableCountsWhatItShould() {
        var random = SeededGenerator(seed: 7)
        let (ranks, size) = (5, 3)
        var table = RankTable(rankCount: UInt32(ranks), size: UInt32(size))
        var workers: [(usable: Bool, draining: Bool)?] = Array(repeating: nil, count: ranks * size)
        for _ in 0..<2000 {
            let worker = Int(random.next() % UInt64(ranks * size))
            switch random.next() % 4 {
            case 0:
                workers[worker] = nil
                table.onGone(UInt32(worker))
            case let choice:
                workers[worker] = (choice == 1, choice == 2)
                table.onWorker(
                    UInt32(worker), isUsable: choice == 1, isDraining: choice == 2)
            }
            let groups = (0..<ranks).map { workers[($0 * size)..<(($0 + 1) * size)] }
            let whole = groups.indices.filter { groups[$0].allSatisfy { $0?.usable == true } }
            let staying = groups.indices.filter { rank in
                groups[rank].contains { $0 != nil }
                    && !groups[rank].contains { $0?.draining == true }
            }
            #expect(table.whole.members.map(Int.init) == whole)
            #expect(table.staying.members.map(Int.init) == staying)
        }
    }
}
