import Protocol
import TestSupport
import Testing

@testable import Coordinator

/// Random events in a random order: what must hold whatever comes.
@Suite struct CoordinatorStormTests {
    /// What the outside has seen of the coordinator.
    struct Observer {
        var lastNumber: UInt32 = 0
        var isRetired = true
        var activations: [UInt32] = []
        /// Peers that said READY since the last view was retired.
        var saidReady: Set<UInt64> = []
        var saidJoined: [UInt32: Set<UInt64>] = [:]

        private var lastRetired: UInt32 = 0

        /// The end of a view counts from when it ends: where no worker is left, nobody is told
        /// before the next one has come, and that may be ready by then.
        mutating func note(_ view: View) {
            guard view.state == .retired, view.number > lastRetired else { return }
            lastRetired = view.number
            saidReady = []
        }

        mutating func check(
            _ actions: [CoordinatorCore.Action], worldSize: UInt32
        ) -> String? {
            for action in actions {
                guard case .send(_, .view(let view)) = action else { continue }
                if let problem = check(view, worldSize: worldSize) { return problem }
            }
            return nil
        }

        private mutating func check(_ view: View, worldSize: UInt32) -> String? {
            if view.number < lastNumber { return "view \(view.number) after \(lastNumber)" }
            lastNumber = view.number
            isRetired = view.state == .retired
            if view.state == .retired {
                return view.members.isEmpty ? nil : "a retired view with members"
            }
            if view.members.map(\.worker) != Array(0..<worldSize) {
                return "members \(view.members)"
            }
            let incarnations = view.members.map(\.incarnation.rawValue)
            if Set(incarnations).count != incarnations.count { return "a member is there twice" }
            if !saidReady.isSuperset(of: incarnations) { return "a member has not said READY" }
            if view.state == .active {
                if !saidJoined[view.number, default: []].isSuperset(of: incarnations) {
                    return "a member of view \(view.number) has not joined it"
                }
                if activations.last != view.number { activations.append(view.number) }
            }
            return nil
        }
    }

    static func randomBody(
        _ number: UInt64, _ observer: Observer, _ random: inout SeededGenerator
    ) -> ControlBody {
        let view = observer.lastNumber
        let near = view &- 1 &+ UInt32.random(in: 0...2, using: &random)
        let tick = UInt64.random(in: 0...3, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<8: return Deployment.hello(device: UInt32(number % 5))
        // Mostly what fits, so that views do come up.
        case 8..<78 where observer.isRetired, 8..<10:
            let digest = Int.random(in: 0..<50, using: &random) == 0 ? "other" : "same"
            return Deployment.ready(number, digest: digest)
        case 10..<85:
            return .viewJoined(view: Int.random(in: 0..<9, using: &random) == 0 ? near : view)
        case 85..<88: return Deployment.heartbeat()
        case 88..<90:
            let seconds = Int.random(in: 0...4, using: &random)
            let wait = Heartbeat.Wait(
                workers: [UInt32.random(in: 0...4, using: &random), .max], time: .seconds(seconds))
            return .heartbeat(
                Heartbeat(
                    stage: .running, percent: 0, load: RankLoad(), tickAge: .seconds(seconds),
                    wait: wait))
        case 90..<93: return .wakeRequest(view: near, fromTick: tick)
        case 93..<97: return .wakeAck(view: near, fromTick: tick)
        case 97:
            return .peerSilent(
                view: near, tick: tick, workers: [UInt32(tick), .max], reason: "storm",
                isTimeout: tick % 2 == 0)
        case 98: return .leave(reason: "storm")
        default: return .heartbeatAck(sequence: tick)
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt32])
    func noOrderOfEventsMakesAWrongView(worldSize: UInt32) {
        var random = SeededGenerator.printingSeed(of: "storm of \(worldSize)")
        var activations = 0
        for _ in 0..<20 {
            var deployment = Deployment(worldSize: worldSize)
            var observer = Observer()
            for step in 0..<400 {
                let number = UInt64.random(in: 0..<UInt64(worldSize) + 2, using: &random)
                let body = Self.randomBody(number, observer, &random)
                if case .ready = body { observer.saidReady.insert(number) }
                if case .viewJoined(let view) = body {
                    observer.saidJoined[view, default: []].insert(number)
                }
                let said = deployment.say(number, body)
                observer.note(deployment.core.view)
                var problem = observer.check(said, worldSize: worldSize)
                let timed = deployment.wait(
                    .milliseconds(Int.random(in: 0...300, using: &random)))
                observer.note(deployment.core.view)
                problem = problem ?? observer.check(timed, worldSize: worldSize)
                if let problem {
                    Issue.record("seed \(random.seed) step \(step) after \(body): \(problem)")
                    return
                }
                if let active = deployment.core.activeView, active != observer.activations.last {
                    Issue.record("seed \(random.seed) step \(step): \(active) was not published")
                    return
                }
            }
            activations += observer.activations.count
        }
        print("storm of \(worldSize): \(activations) views were active")
        #expect(activations > 0, "a storm in which no view becomes active tests nothing")
    }
}
