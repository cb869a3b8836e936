import Protocol
import TestSupport
import Testing

@testable import Coordinator
@testable import Gateway

/// What the work of coordinator and gateway is in groups of 64 and 320 ranks: peers and ranks
/// looked at, which must grow no faster than the group; time is printed, and judged by people.
@Suite struct ScaleTests {
    static let sizes = [64, 320]
    /// Of the counts, from the smaller group to the larger; the groups' ratio is 5.
    static let ratioMax = 5.25

    struct Group {
        var core: CoordinatorCore
        let size: Int
        var now = Instant(nanoseconds: 0)
        /// Messages sent by the coordinator.
        var sent = 0

        init(size: Int) {
            self.size = size
            core = CoordinatorCore(
                CoordinatorCore.Settings(
                    worldSize: UInt32(size), tensorParallelSize: 1, ranksMin: UInt32(size / 2),
                    ranksMax: 512, configuration: [],
                    lease: .seconds(5), readyTimeout: .seconds(600)),
                at: now)
        }

        mutating func say(_ worker: Int, _ body: ControlBody, knowing view: UInt32) {
            let message = ControlMessage(
                incarnation: Incarnation(rawValue: UInt64(worker)), view: view, sequence: 1,
                body: body)
            let identity = [1, UInt8(worker >> 8), UInt8(worker & 255)]
            sent += core.onMessage(message, from: identity, at: now).count
        }

        mutating func hello(_ worker: Int) {
            say(
                worker,
                .hello(
                    Hello(
                        role: .worker, node: "n\(worker / 8)", device: UInt32(worker % 8), pid: 1,
                        softwareVersion: "0", declared: [])), knowing: 0)
        }

        mutating func ready(_ worker: Int, view: UInt32) {
            say(
                worker,
                .ready(
                    Ready(
                        endpoint: "tcp://w\(worker)", collectivesAddress: [UInt8(view)],
                        modelDigest: "m", blockCount: 1, blockSize: 16,
                        position: GroupPosition(rank: UInt32(worker), worldSize: UInt32(size)))),
                knowing: view)
        }

        mutating func form(view: UInt32) {
            for worker in 0..<size { ready(worker, view: view - 1) }
            for worker in 0..<size { say(worker, .viewJoined(view: view), knowing: view) }
        }

        /// A worker is lost and comes back: the view ends, and another one forms.
        mutating func changeView() {
            now = now + .seconds(60)
            say(size / 2, .leave(reason: "test"), knowing: 1)
            hello(size / 2)
            form(view: 3)
        }

        mutating func heartbeatRound() {
            for worker in 0..<size {
                var load = RankLoad()
                load.dpRank = UInt32(worker)
                load.tick = UInt64(now.nanoseconds)
                let body = ControlBody.heartbeat(
                    Heartbeat(stage: .idle, percent: 100, load: load, tickAge: .zero))
                say(worker, body, knowing: 1)
            }
            now = now + .milliseconds(100)
            sent += core.onTimer(at: now).count
        }

        mutating func wake(fromTick: UInt64) {
            say(0, .wakeRequest(view: 1, fromTick: fromTick), knowing: 1)
            for worker in 0..<size {
                say(worker, .wakeAck(view: 1, fromTick: fromTick), knowing: 1)
            }
        }
    }

    private static func active(_ size: Int) -> Group {
        var group = Group(size: size)
        for worker in 0..<size { group.hello(worker) }
        group.form(view: 1)
        return group
    }

    /// By which factor counted work grows from the smaller group to the larger.
    private func growth(
        _ name: String, _ body: (Int) -> (work: UInt64, microseconds: Double)
    ) -> Double {
        let measured = Self.sizes.map(body)
        let ratio = Double(measured[1].work) / Double(max(measured[0].work, 1))
        for (size, figures) in zip(Self.sizes, measured) {
            print("\(name), \(size) ranks: \(figures.work) visits, \(figures.microseconds) us")
        }
        #expect(measured[0].work > 0, "\(name): nothing was counted")
        return ratio
    }

    private func timed(_ body: () -> Void) -> Double {
        let clock = ContinuousClock()
        let duration = clock.measure(body)
        return (Double(duration.components.attoseconds) / 1e11).rounded() / 10
    }

    @Test func theCoordinatorsWorkGrowsWithTheGroup() {
        let start = growth("start") { size in
            var group = Group(size: size)
            let time = timed { group = Self.active(size) }
            #expect(group.core.activeView == 1)
            return (group.core.membership.visits + UInt64(group.sent), time)
        }
        let viewChange = growth("view change") { size in
            var group = Self.active(size)
            let before = group.core.membership.visits + UInt64(group.sent)
            let time = timed { group.changeView() }
            #expect(group.core.activeView == 3)
            return (group.core.membership.visits + UInt64(group.sent) - before, time)
        }
        let heartbeats = growth("heartbeat round") { size in
            var group = Self.active(size)
            let before = group.core.membership.visits + UInt64(group.sent)
            let time = timed { group.heartbeatRound() }
            return (group.core.membership.visits + UInt64(group.sent) - before, time)
        }
        let wake = growth("wake") { size in
            var group = Self.active(size)
            let before = group.core.membership.visits + UInt64(group.sent)
            let time = timed { group.wake(fromTick: 1) }
            return (group.core.membership.visits + UInt64(group.sent) - before, time)
        }
        let largest = max(start, viewChange, heartbeats, wake)
        #expect(largest <= Self.ratioMax)
    }

    @Test func aRoutingDecisionGrowsWithTheGroup() {
        let decisions = 1000
        let growth = growth("\(decisions) routing decisions") { size in
            var router = RankRouter()
            for rank in 0..<size {
                router.onRankOpened(rank, capacity: 10_000, cacheCapacity: 1 << 20)
            }
            let time = timed {
                for number in 0..<decisions {
                    let blocks = (0..<32).map { UInt64(number % 50 * 1000 + $0) }
                    let candidate = RankRouter.Candidate(tokens: 513, blocks: blocks)
                    guard let rank = router.choose(candidate) else { return }
                    _ = router.onSubmitted(candidate, to: rank)
                }
            }
            return (router.visits, time)
        }
        #expect(growth <= Self.ratioMax)
    }
}
