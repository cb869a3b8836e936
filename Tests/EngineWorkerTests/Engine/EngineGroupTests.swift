import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import EngineWorker

/// Engines on threads of their own, in one group.
@Suite(.serialized) struct EngineGroupTests {
    private static let prompt: [Int32] = [3, 141, 59, 26, 53]

    /// What `body` returns for each rank; it runs on the rank's own thread, in view 1.
    func run<Value: Sendable>(
        _ worldSize: Int, tensorParallelSize: Int = 1, sliced: Bool = false,
        prefixCaching: Bool = false, batchSizes: [Int] = [],
        protocolVersion: UInt32 = ProtocolVersion.current,
        _ body: @escaping @Sendable (Int, EngineFixture, InProcessGroup) -> Value
    ) throws -> [Value] {
        let group = InProcessGroup(worldSize: worldSize)
        let values = Lock<[Result<Value, any Error>?]>(Array(repeating: nil, count: worldSize))
        let threads = (0..<worldSize).map { rank in
            let finished = DispatchSemaphore(value: 0)
            let thread = Thread {
                let value = Result {
                    let fixture = try EngineFixture(
                        EngineFixture.configuration(
                            rank: rank, worldSize: worldSize,
                            tensorParallelSize: tensorParallelSize, prefixCaching: prefixCaching,
                            sliced: sliced, batchSizes: batchSizes))
                    fixture.enter(
                        view: 1, protocolVersion: protocolVersion,
                        InProcessCollectives(group: group, rank: rank, worldSize: worldSize))
                    return body(rank, fixture, group)
                }
                if case .failure = value { group.leave(rank: rank) }
                values.withLock { $0[rank] = value }
                finished.signal()
            }
            thread.stackSize = 8 << 20
            thread.start()
            return finished
        }
        for finished in threads { finished.wait() }
        return try values.withLock { $0 }.compactMap { try $0?.get() }
    }

    @Test(arguments: [2, 3])
    func allGoIdleAtTheSameTickAndTheIdleRankCountsItsDummies(worldSize: Int) throws {
        let events = try run(worldSize) { rank, fixture, _ in
            if rank == 0 {
                fixture.submit(1, Self.prompt) { $0.maxTokens = 6 }
                let now = MonotonicClock.now()
                fixture.engine.lookForWork(at: now)
                // Asked once, and again only when nothing happens for a while.
                fixture.engine.lookForWork(at: now)
                fixture.engine.lookForWork(at: now + LockstepStateMachine.wakeRequestEvery)
            }
            fixture.engine.step()
            fixture.engine.wake(view: 1, fromTick: 0)
            while fixture.engine.isRunning { fixture.engine.step() }
            return fixture.takeEvents()
        }
        let expected = try Driver("tiny-random", threads: 1).greedy([Self.prompt], count: 6)[0]
        #expect(events[0].tokens(of: 1) == expected)
        #expect(events[0].wakeRequests == [0, 0])
        let last = try events.map { try #require($0.loads.last) }
        #expect(Set(last.map(\.tick)).count == 1)
        #expect(last[0].dummyTicks == 0)
        // Six ticks of rank 0's have rows; the rest of the interval runs no model.
        #expect(last.dropFirst().allSatisfy { $0.dummyTicks == 6 })
        // The prompt's rows and five of decoding, all of them rank 0's.
        let rows = UInt64(Self.prompt.count + 5)
        #expect(last[0].tickTokens == rows)
        #expect(last.dropFirst().allSatisfy { $0.tickTokens == 0 })
        #expect(last.allSatisfy { $0.tickTokensMax == rows && $0.tickTokensGroup == rows })
    }

    /// Leaders are workers 0 and 2; the others take their plans.
    @Test func tensorPeersFollowTheirLeaderAndSayNothing() throws {
        let events = try run(4, tensorParallelSize: 2) { worker, fixture, _ in
            if worker % 2 == 0 {
                fixture.submit(UInt64(worker), Self.prompt) { $0.maxTokens = Int32(4 + worker) }
            } else {
                fixture.submit(9, Self.prompt)
            }
            fixture.engine.wake(view: 1, fromTick: 0)
            while fixture.engine.isRunning { fixture.engine.step() }
            return fixture.takeEvents()
        }
        let expected = try Driver("tiny-random", threads: 1).greedy([Self.prompt], count: 6)[0]
        #expect(events[0].tokens(of: 0) == Array(expected.prefix(4)))
        #expect(events[2].tokens(of: 2) == expected)
        #expect(events[1].tokens(of: 9).isEmpty && events[3].tokens(of: 9).isEmpty)
        let last = try events.map { try #require($0.loads.last) }
        #expect(Set(last.map(\.tick)).count == 1)
        #expect(last.map(\.dpRank) == [0, 0, 1, 1])
        // A worker's dummies are those of its DP rank.
        #expect(last.map(\.dummyTicks) == [2, 2, 0, 0])
    }

    @Test func aCancelledSequenceIsGoneFromTheNextTicksLoad() throws {
        let loads = try run(2) { rank, fixture, _ -> [RankLoad] in
            fixture.submit(UInt64(rank), Self.prompt) { $0.maxTokens = 10 }
            fixture.engine.wake(view: 1, fromTick: 0)
            for _ in 0..<3 { fixture.engine.step() }
            _ = fixture.takeEvents()
            if rank == 1 { fixture.engine.cancel(SequenceID(rawValue: 1)) }
            fixture.engine.step()
            let loads = fixture.takeEvents().loads
            while fixture.engine.isRunning { fixture.engine.step() }
            return loads
        }
        #expect(loads[0].map(\.running) == [1])
        #expect(loads[1].map(\.tick) == [3])
        #expect(loads[1].map(\.running) == [0])
        #expect(loads[1].map(\.kvCacheUsage) == [0])
        #expect(loads[1].map(\.pendingPrefillTokens) == [0])
    }

    /// From a group of three to one of two and back, with the sequences of those who stay.
    @Test(arguments: [false, true])
    func sequencesOutliveTheGroupThatTheyBeganIn(sliced: Bool) throws {
        let expected = try Driver("tiny-random", threads: 1).greedy([Self.prompt], count: 12)[0]
        let smaller = InProcessGroup(worldSize: 2)
        let again = InProcessGroup(worldSize: 3)
        let events = try run(3, sliced: sliced) { rank, fixture, _ in
            func change(_ view: UInt32, to worldSize: Int, as rank: Int, _ group: InProcessGroup) {
                do {
                    let share = try fixture.engine.makeShare(
                        for: ParallelLayout(dataParallelSize: worldSize, worker: rank))
                    try fixture.engine.shareLoader(share)
                    fixture.engine.leaveView()
                    fixture.engine.prepare(share)
                } catch {
                    Issue.record("\(error)")
                }
                fixture.enter(
                    view: view,
                    InProcessCollectives(group: group, rank: rank, worldSize: worldSize))
                fixture.engine.wake(view: view, fromTick: 0)
            }
            if rank != 1 { fixture.submit(UInt64(rank), Self.prompt) { $0.maxTokens = 12 } }
            fixture.engine.wake(view: 1, fromTick: 0)
            for _ in 0..<4 { fixture.engine.step() }
            if rank != 1 {
                change(2, to: 2, as: rank / 2, smaller)
                for _ in 0..<4 { fixture.engine.step() }
            }
            change(3, to: 3, as: rank, again)
            while fixture.engine.isRunning { fixture.engine.step() }
            return fixture.takeEvents()
        }
        #expect(events[0].tokens(of: 0) == expected)
        #expect(events[2].tokens(of: 2) == expected)
        #expect(events.flatMap(\.rejections) == [])
    }

    /// The cache of a TP peer that is another process is empty, whatever its leader has computed.
    @Test(arguments: [7, 8] as [UInt64])
    func aReplacedTensorPeerHasNothingCached(incarnation: UInt64) throws {
        let prompt = (0..<40).map { Int32($0 * 5 % 200 + 1) }
        let second = InProcessGroup(worldSize: 2)
        let third = InProcessGroup(worldSize: 2)
        let events = try run(2, tensorParallelSize: 2, prefixCaching: true) { worker, fixture, _ in
            func enter(_ view: UInt32, _ group: InProcessGroup, peer: UInt64) {
                let members = [UInt64(3), peer].enumerated().map { place, incarnation in
                    Member(
                        worker: UInt32(place), dpRank: 0, tpRank: UInt32(place),
                        incarnation: Incarnation(rawValue: incarnation), node: "", endpoint: "",
                        collectivesAddress: [], blockCount: 1, blockSize: 16)
                }
                fixture.engine.leaveView()
                #expect(
                    fixture.engine.join(
                        ViewGroup(
                            view: view,
                            collectives: InProcessCollectives(
                                group: group, rank: worker, worldSize: 2),
                            members: members)))
                fixture.engine.activate(view: view)
                if worker == 0 {
                    fixture.submit(UInt64(view), prompt, view: view) { $0.maxTokens = 2 }
                }
                fixture.engine.wake(view: view, fromTick: 0)
                while fixture.engine.isRunning { fixture.engine.step() }
            }
            enter(2, second, peer: 7)
            enter(3, third, peer: incarnation)
            return fixture.takeEvents()
        }
        #expect(events[0].tokens(of: 2) == events[0].tokens(of: 3))
        #expect(events[0].tokens(of: 3).count == 2)
        // Two full blocks, where the peer is the one that computed them.
        #expect(events[0].loads.last?.prefixCacheHits == (incarnation == 7 ? 32 : 0))
    }

    @Test func aViewForAnotherPlaceIsRefused() throws {
        let fixture = try EngineFixture()
        let group = ViewGroup(
            view: 1,
            collectives: InProcessCollectives(
                group: InProcessGroup(worldSize: 2), rank: 1, worldSize: 2))
        #expect(!fixture.engine.join(group))
        let broken = fixture.takeEvents().compactMap { event -> String? in
            guard case .viewBroken(1, _, _, let reason, _) = event else { return nil }
            return reason
        }
        #expect(broken == ["it has experts for 0 of 1, not for 1 of 2"])
    }

    @Test func aLostPeerBreaksTheViewAndEachSequenceIsGivenBackOnce() throws {
        let events = try run(2) { rank, fixture, group in
            fixture.submit(1, Self.prompt) { $0.maxTokens = 10 }
            fixture.submit(2, Self.prompt) { $0.maxTokens = 10 }
            fixture.engine.wake(view: 1, fromTick: 0)
            for _ in 0..<2 { fixture.engine.step() }
            _ = fixture.takeEvents()
            if rank == 1 {
                group.leave(rank: 1)
                return [EngineEvent]()
            }
            fixture.submit(3, Self.prompt)
            fixture.engine.step()
            // The coordinator says so too, and later.
            fixture.engine.leaveView()
            fixture.engine.handBack("retired")
            fixture.submit(4, Self.prompt)
            fixture.engine.step()
            return fixture.takeEvents()
        }
        #expect(events[0].brokenBy == [[1]])
        #expect(events[0].outputs.isEmpty)
        #expect(
            events[0].rejections == ["1 otherView", "2 otherView", "3 otherView", "4 otherView"])
        #expect(events[0].loads.last?.kvCacheUsage == 0)
        #expect(events[0].loads.last?.running == 0)
    }
}
