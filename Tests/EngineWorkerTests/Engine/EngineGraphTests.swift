import Protocol
import Testing

@testable import EngineWorker

/// Graph mode: ticks of decoding at fixed sizes, with the tokens and the logprobs of those without.
@Suite(.serialized) struct EngineGraphTests {
    private static let prompt: [Int32] = [3, 141, 59, 26, 53]

    struct Group: CustomTestStringConvertible, Sendable {
        let ranks: Int
        var tensorParallelSize = 1
        var sliced = false
        var testDescription: String {
            "\(ranks) ranks of \(tensorParallelSize)\(sliced ? ", sliced" : "")"
        }
    }

    /// One rank alone has all experts; a few rows are gathered everywhere; many go to the owners.
    static let groups = [
        Group(ranks: 1), Group(ranks: 2), Group(ranks: 3),
        Group(ranks: 1, tensorParallelSize: 2), Group(ranks: 2, tensorParallelSize: 2),
        Group(ranks: 2, sliced: true), Group(ranks: 2, tensorParallelSize: 2, sliced: true),
    ]

    /// How many tokens each of a rank's sequences gets. All prompts are computed in tick 0, so a
    /// sequence of n tokens has a row in ticks 1 to n - 1.
    typealias Lengths = [[Int32]]

    private struct Outcome: Sendable {
        let outputs: [UInt64: [SampledToken]]
        let load: RankLoad
    }

    /// By DP rank.
    private func run(
        _ group: Group, _ lengths: Lengths, batchSizes: [Int], protocolVersion: UInt32 = 2
    ) throws -> [Outcome] {
        let size = group.tensorParallelSize
        let events = try EngineGroupTests().run(
            group.ranks * size, tensorParallelSize: size, sliced: group.sliced,
            batchSizes: batchSizes, protocolVersion: protocolVersion
        ) { worker, fixture, _ in
            if worker % size == 0 {
                for (index, length) in lengths[worker / size].enumerated() {
                    fixture.submit(UInt64(index), Self.prompt.map { $0 + Int32(index) }) {
                        $0.maxTokens = length
                        $0.logprobs = 3
                    }
                }
            }
            fixture.engine.lookForWork(at: Instant(nanoseconds: 0))
            fixture.engine.wake(view: 1, fromTick: 0)
            while fixture.engine.isRunning { fixture.engine.step() }
            return fixture.takeEvents()
        }
        return try stride(from: 0, to: events.count, by: size).map { leader in
            Outcome(
                outputs: Dictionary(grouping: events[leader].outputs, by: \.sequence.rawValue)
                    .mapValues { $0.compactMap(\.token) },
                load: try #require(events[leader].loads.last))
        }
    }

    @Test(arguments: groups)
    func aFewSequencesHaveTheSameBitsAndThePaddingIsCounted(group: Group) throws {
        let lengths: Lengths = Array([[4, 6, 6], [3], []].prefix(group.ranks))
        let eager = try run(group, lengths, batchSizes: [])
        let padded = try run(group, lengths, batchSizes: [2, 4])
        #expect(padded.map(\.outputs) == eager.map(\.outputs))
        #expect(eager.map(\.load.paddedTokens) == Array(repeating: 0, count: group.ranks))
        // The busiest rank has three rows in ticks 1 to 3 and two in ticks 4 and 5.
        let expected: [UInt64] = [3, 14, 16]
        #expect(padded.map(\.load.paddedTokens) == Array(expected.prefix(group.ranks)))
        for (one, other) in zip(padded, eager) {
            #expect(one.load.tickTokens == other.load.tickTokens)
            #expect(one.load.tickTokensMax == other.load.tickTokensMax)
            #expect(one.load.dummyTicks == other.load.dummyTicks)
            #expect(one.load.kvCacheUsage == 0)
        }
        for (rank, lengths) in lengths.enumerated() {
            for (index, length) in lengths.enumerated() {
                #expect(padded[rank].outputs[UInt64(index)]?.count == Int(length))
            }
        }
    }

    /// More rows than are gathered, so that each goes to the owners of its experts.
    @Test(arguments: groups)
    func manySequencesHaveTheSameBits(group: Group) throws {
        let lengths: Lengths = Array(
            [Array(repeating: 5, count: 7), [5, 5, 5], [2]].prefix(
                group.ranks))
        let eager = try run(group, lengths, batchSizes: [])
        let padded = try run(group, lengths, batchSizes: [8])
        #expect(padded.map(\.outputs) == eager.map(\.outputs))
        let expected: [UInt64] = [4, 20, 31]
        #expect(padded.map(\.load.paddedTokens) == Array(expected.prefix(group.ranks)))
    }

    /// Three rows and no size for them, then two.
    @Test func ticksWithMoreRowsThanTheLargestSizeAreNotFilledUp() throws {
        let outcomes = try run(Group(ranks: 2), [[3, 6, 6], []], batchSizes: [2])
        #expect(outcomes.map(\.load.paddedTokens) == [0, 2 * 3])
    }

    @Test func aViewOfTheFirstVersionIsNotFilledUp() throws {
        let outcomes = try run(
            Group(ranks: 2), [[4], []], batchSizes: [2], protocolVersion: 1)
        #expect(outcomes.map(\.load.paddedTokens) == [0, 0])
    }

    /// Rank 1's prompt arrives before tick 3: no rank is filled up in that tick, all are in others.
    @Test func aPromptAnywhereKeepsTheTickFromBeingFilledUp() throws {
        let events = try EngineGroupTests().run(3, batchSizes: [4]) { rank, fixture, _ in
            if rank == 0 { fixture.submit(1, Self.prompt) { $0.maxTokens = 6 } }
            fixture.engine.wake(view: 1, fromTick: 0)
            for _ in 0..<3 { fixture.engine.step() }
            if rank == 1 { fixture.submit(2, Self.prompt) { $0.maxTokens = 4 } }
            while fixture.engine.isRunning { fixture.engine.step() }
            return fixture.takeEvents()
        }
        let loads = try events.map { try #require($0.loads.last) }
        // Rank 0 decodes in ticks 1 to 5, rank 1 in ticks 4 to 6; tick 3 has its prompt.
        let padded: [UInt64] = [16, 17, 20]
        #expect(loads.map(\.paddedTokens) == padded)
        let expected = try Driver("tiny-random", threads: 1).greedy([Self.prompt], count: 6)[0]
        #expect(events[0].tokens(of: 1) == expected)
        #expect(events[1].tokens(of: 2) == Array(expected.prefix(4)))
    }

    /// What padding writes is in no block that a sequence may take over, at the full cache too.
    @Test func theCacheHoldsAsManyTokensAndPrefixesAsWithout() throws {
        let long = (0..<40).map { Int32($0 * 5 % 200 + 1) }
        func run(_ batchSizes: [Int]) throws -> (events: [EngineEvent], load: RankLoad) {
            let fixture = try EngineFixture(
                EngineFixture.configuration(
                    length: 64, blockCount: 12, prefixCaching: true, batchSizes: batchSizes))
            fixture.enter(view: 1)
            for round in 0..<2 as Range<UInt64> {
                for id in 0..<3 as Range<UInt64> {
                    fixture.submit(round * 3 + id, long.map { $0 + Int32(id) }) {
                        $0.maxTokens = 24
                    }
                }
                fixture.runUntilIdle()
            }
            let events = fixture.takeEvents()
            return (events, try #require(events.loads.last))
        }
        let eager = try run([])
        let padded = try run([1, 2, 4, 8])
        for id in 0..<6 as Range<UInt64> {
            #expect(padded.events.tokens(of: id).count == 24)
            #expect(padded.events.tokens(of: id) == eager.events.tokens(of: id))
        }
        #expect(padded.load.prefixCacheHits == eager.load.prefixCacheHits)
        #expect(padded.load.prefixCacheHits > 0)
        #expect(padded.load.preemptions == eager.load.preemptions)
        // Three rows in all ticks of decoding in which nobody is preempted.
        #expect(padded.load.paddedTokens > 0)
    }
}
