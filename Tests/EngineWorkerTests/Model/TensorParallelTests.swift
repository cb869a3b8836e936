import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import EngineWorker

/// Every division of a model over workers computes the bits of one worker.
@Suite(.serialized) struct TensorParallelTests {
    struct Division: CustomTestStringConvertible, Sendable {
        let dp: Int
        let tp: Int
        let experts: ExpertDivision
        var gathers = false
        var testDescription: String {
            "dp \(dp) tp \(tp) \(experts)\(gathers ? " gathered" : "")"
        }
    }

    static let divisions: [Division] = [1, 2, 4].flatMap { dp in
        [1, 2, 4].flatMap { tp in
            [ExpertDivision.byExpert, .bySlice].map { Division(dp: dp, tp: tp, experts: $0) }
                + [Division(dp: dp, tp: tp, experts: .byExpert, gathers: true)]
        }
    }.filter { $0.dp * $0.tp > 1 }

    /// Runs a group of models on threads of their own. `plans[dpRank][step]` is that rank's tokens
    /// (a whole prompt of a new sequence), empty for a dummy batch; logits come from leaders.
    static func run(
        _ name: String, _ division: Division, plans: [[[Int32]]], seconds: Int = 60,
        cacheType: CPUBackend.CacheType? = nil,
        tamper: (@Sendable (Int, OperationTag, Int, [UInt8]) -> [UInt8])? = nil
    ) -> [ExpertExchangeTests.Outcome] {
        let worldSize = division.dp * division.tp
        let group = InProcessGroup(worldSize: worldSize)
        let outcomes = Lock<[ExpertExchangeTests.Outcome?]>(
            Array(repeating: nil, count: worldSize))
        let threads = (0..<worldSize).map { worker in
            let finished = DispatchSemaphore(value: 0)
            let thread = Thread {
                let collectives = InProcessCollectives(
                    group: group, rank: worker, worldSize: worldSize)
                if let tamper { collectives.tamper = { tamper(worker, $0, $1, $2) } }
                let outcome = Self.work(
                    worker, name, division, plans, collectives, seconds, cacheType)
                outcomes.withLock { $0[worker] = outcome }
                finished.signal()
            }
            thread.stackSize = 8 << 20
            thread.start()
            return finished
        }
        for finished in threads { finished.wait() }
        return outcomes.withLock { $0 }.compactMap { $0 }
    }

    private static func work(
        _ worker: Int, _ name: String, _ division: Division, _ plans: [[[Int32]]],
        _ collectives: InProcessCollectives, _ seconds: Int, _ cacheType: CPUBackend.CacheType?
    ) -> ExpertExchangeTests.Outcome {
        do {
            let driver = try Driver(
                name, threads: 1, rank: worker, tensorParallelSize: division.tp,
                division: division.experts, collectives: collectives, cacheType: cacheType)
            driver.deadline = MonotonicClock.now() + .seconds(seconds)
            return .success(
                try plans[worker / division.tp].enumerated().map { index, tokens in
                    let part = Driver.Part(
                        sequence: UInt64(index), tokens: tokens, allLogits: true)
                    return bits(
                        try driver.run(
                            tokens.isEmpty ? [] : [part],
                            gathering: division.gathers ? plans.map { $0[index].count } : nil))
                })
        } catch let error as CollectiveError {
            collectives.group.leave(rank: worker)
            return .failure(error)
        } catch {
            collectives.group.leave(rank: worker)
            return .failure(.setup(reason: "\(error)"))
        }
    }

    /// Prompts with their golden continuations, so that equal bits are equal greedy tokens too.
    private static func texts(_ name: String) throws -> [[Int32]] {
        let goldens = try Fixtures.greedy(name)
        return try Fixtures.prompts(name).enumerated().map { index, prompt in
            prompt + (goldens.first { $0.n == index }?.tokens.dropLast() ?? [])
        }
    }

    @Test(arguments: ["tiny-random", "tiny-fp8", "tiny-w8a8"], divisions)
    func everyDivisionHasTheBitsOfOneWorker(name: String, division: Division) throws {
        let texts = try Self.texts(name)
        let single = try Driver(name)
        // The first text has one row: fewer than a DP rank's workers. The last rank of several has
        // a dummy batch in its last step.
        var plans = (0..<division.dp).map { rank in [0, 4, 7].map { texts[$0 + rank] } }
        plans[0][0] = [texts[0][0]]
        if division.dp > 1 { plans[division.dp - 1][2] = [] }
        let outcomes = Self.run(name, division, plans: plans)
        for (worker, outcome) in outcomes.enumerated() {
            let found = try outcome.get()
            for (step, tokens) in plans[worker / division.tp].enumerated() {
                guard worker % division.tp == 0, !tokens.isEmpty else {
                    #expect(found[step].isEmpty)
                    continue
                }
                #expect(
                    found[step] == bits(try single.logits(of: tokens)),
                    "worker \(worker) step \(step)")
            }
        }
    }

    /// Every TP worker quantises the same latents for its own heads.
    @Test(arguments: [(1, 2), (2, 2), (2, 1), (1, 4)])
    func anInt8CacheHasTheBitsOfOneWorker(dp: Int, tp: Int) throws {
        let texts = try Self.texts("tiny-w8a8")
        let single = try Driver("tiny-w8a8", cacheType: .int8)
        let plans = (0..<dp).map { rank in [4, 7].map { texts[$0 + rank] } }
        let outcomes = Self.run(
            "tiny-w8a8", Division(dp: dp, tp: tp, experts: .byExpert), plans: plans,
            cacheType: .int8)
        for rank in 0..<dp {
            let found = try outcomes[rank * tp].get()
            let expected = try plans[rank].map { bits(try single.logits(of: $0)) }
            #expect(found == expected, "rank \(rank)")
        }
    }

    /// 3 workers divide neither 4 heads nor 16 experts, 32 inner activations or the vocabulary.
    @Test(arguments: [ExpertDivision.byExpert, .bySlice])
    func whatDoesNotDivideEvenlyGivesTheSameBits(experts: ExpertDivision) throws {
        let text = try Self.texts("tiny-w8a8")[6]
        let expected = bits(try Driver("tiny-w8a8").logits(of: text))
        let outcomes = Self.run(
            "tiny-w8a8", Division(dp: 1, tp: 3, experts: experts), plans: [[text]])
        #expect(try outcomes[0].get()[0] == expected)
    }

    @Test func malformedMessagesOfAPeerAreErrors() throws {
        let text = try Self.texts("tiny-random")[4]
        let damages: [@Sendable ([UInt8]) -> [UInt8]] = [
            { Array($0.dropLast(1)) },
            { $0 + [0] },
            { _ in [] },
        ]
        for operation in [LayerOperation.gatherHeads, .scatterOutputs, .gatherRows, .gatherSlices] {
            for (index, damage) in damages.enumerated() {
                let division = Division(dp: 1, tp: 2, experts: .bySlice)
                let outcomes = Self.run("tiny-random", division, plans: [[text]]) {
                    worker, tag, peer, bytes in
                    let stage = tag.operation % LayerOperation.stride
                    let isHit = worker == 0 && peer == 1 && stage == operation.rawValue
                    return isHit ? damage(bytes) : bytes
                }
                guard case .failure(.peerLost(peer: 0, _, _)) = outcomes[1] else {
                    Issue.record("\(operation) damage \(index): \(outcomes[1])")
                    continue
                }
            }
        }
    }

    @Test func aDispatchToSlicedExpertsIsCheckedWhole() throws {
        let text = try Self.texts("tiny-random")[4]
        let damages: [@Sendable ([UInt8]) -> [UInt8]] = [
            { Array($0.dropLast(1)) },
            { _ in [] },
            { [0] + $0.dropFirst(1) },
            { $0.prefix(4) + [0xff, 0xff, 0xff, 0xff] + $0.dropFirst(8) },
            { $0.prefix(8) + [9, 0, 0, 0] + $0.dropFirst(12) },
            // The last chosen expert of the last row: four weights a row stand behind it.
            { bytes in
                let weights = (bytes.count - 16) / ((64 + 4 + 4) * 4) * 4 * 4
                return bytes.dropLast(weights + 4) + [16, 0, 0, 0] + bytes.suffix(weights)
            },
        ]
        for (index, damage) in damages.enumerated() {
            let division = Division(dp: 2, tp: 1, experts: .bySlice)
            let outcomes = Self.run("tiny-random", division, plans: [[text], [text]]) {
                worker, tag, peer, bytes in
                let isDispatch =
                    tag.operation % LayerOperation.stride == LayerOperation.dispatch.rawValue
                return worker == 0 && peer == 1 && isDispatch ? damage(bytes) : bytes
            }
            guard case .failure(.peerLost(peer: 0, _, _)) = outcomes[1] else {
                Issue.record("damage \(index): \(outcomes[1])")
                continue
            }
        }
    }

    @Test func gatheredRowsAreCheckedWhole() throws {
        let text = try Self.texts("tiny-random")[4]
        let damages: [@Sendable ([UInt8]) -> [UInt8]] = [
            { Array($0.dropLast(1)) }, { $0 + [0] }, { _ in [] },
            { $0.dropLast(4) + [16, 0, 0, 0] }, { $0.dropLast(4) + [0xff, 0xff, 0xff, 0xff] },
        ]
        for (index, damage) in damages.enumerated() {
            let division = Division(dp: 2, tp: 1, experts: .byExpert, gathers: true)
            let outcomes = Self.run("tiny-random", division, plans: [[text], [text]]) {
                worker, tag, peer, bytes in
                let isDispatch =
                    tag.operation % LayerOperation.stride == LayerOperation.dispatch.rawValue
                return worker == 0 && peer == 1 && isDispatch ? damage(bytes) : bytes
            }
            guard case .failure(.peerLost(peer: 0, _, _)) = outcomes[1] else {
                Issue.record("damage \(index): \(outcomes[1])")
                continue
            }
        }
    }

    @Test func tooManyWorkersForTheModelAreRefusedWithAReason() {
        for division in [
            Division(dp: 1, tp: 5, experts: .byExpert), Division(dp: 33, tp: 1, experts: .bySlice),
        ] {
            let worldSize = division.dp * division.tp
            #expect {
                try Driver(
                    "tiny-random", tensorParallelSize: division.tp, division: division.experts,
                    collectives: UnconnectedCollectives(rank: 0, worldSize: worldSize))
            } throws: { error in
                guard case .layout(let text)? = error as? ModelLoadError else { return false }
                return text.contains(division.tp == 5 ? "4 attention heads" : "32 inner")
            }
        }
    }
}

@Suite struct ParallelLayoutTests {
    @Test func workersAreNumberedRankByRank() {
        let layouts = (0..<6).map {
            ParallelLayout(dataParallelSize: 2, tensorParallelSize: 3, worker: $0)
        }
        #expect(layouts.map(\.dpRank) == [0, 0, 0, 1, 1, 1])
        #expect(layouts.map(\.tpRank) == [0, 1, 2, 0, 1, 2])
        #expect(layouts.map(\.leader) == [0, 0, 0, 3, 3, 3])
        #expect(layouts[4].tensorPeers == 3..<6)
    }

    @Test func partsCoverEverythingOnce() {
        for count in [0, 1, 5, 7, 129_280] {
            for parts in [1, 2, 3, 8] {
                let ranges = (0..<parts).map { ParallelLayout.part(count, index: $0, of: parts) }
                #expect(ranges.map(\.count).reduce(0, +) == count)
                #expect(
                    zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
                #expect((ranges.map(\.count).max() ?? 0) - (ranges.map(\.count).min() ?? 0) <= 1)
            }
        }
    }
}
