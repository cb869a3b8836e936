import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import EngineWorker

/// Results over several workers have the bits that one worker gives.
@Suite(.serialized) struct ExpertExchangeTests {
    /// What one rank found: logits by step, or the error.
    typealias Outcome = Result<[[[UInt32]]], CollectiveError>

    /// One worker a DP rank; `plans[rank][step]` as in ``TensorParallelTests``.
    static func run(
        _ name: String, plans: [[[Int32]]], seconds: Int = 60,
        tamper: (@Sendable (Int, OperationTag, Int, [UInt8]) -> [UInt8])? = nil
    ) -> [Outcome] {
        TensorParallelTests.run(
            name, .init(dp: plans.count, tp: 1, experts: .byExpert), plans: plans,
            seconds: seconds, tamper: tamper)
    }

    @Test(arguments: ["tiny-random", "tiny-w8a8", "demo-bf16"], [2, 4])
    func bitsDoNotDependOnTheNumberOfWorkers(name: String, worldSize: Int) throws {
        let prompts = try Fixtures.prompts(name)
        let single = try Driver(name)
        // Rank r's step s takes prompt (s + r); the last rank runs dummy batches only, and in the
        // last step the first rank does too.
        var plans: [[[Int32]]] = []
        for rank in 0..<worldSize {
            plans.append((3..<7).map { rank == worldSize - 1 ? [] : prompts[$0 + rank] })
        }
        plans[0][3] = []
        let outcomes = Self.run(name, plans: plans)
        for (rank, outcome) in outcomes.enumerated() {
            for (step, found) in try outcome.get().enumerated() {
                let tokens = plans[rank][step]
                guard !tokens.isEmpty else {
                    #expect(found.isEmpty)
                    continue
                }
                #expect(found == bits(try single.logits(of: tokens)), "rank \(rank) step \(step)")
            }
        }
    }

    @Test func expertsThatDoNotDivideEvenlyGiveTheSameBits() throws {
        let prompt = try Fixtures.prompts("tiny-random")[6]
        let expected = bits(try Driver("tiny-random").logits(of: prompt))
        let outcomes = Self.run("tiny-random", plans: [[prompt], [[]], [prompt]])
        #expect(try outcomes[0].get()[0] == expected)
        #expect(try outcomes[2].get()[0] == expected)
    }

    @Test func aNewGroupServesTheSameWeights() throws {
        let prompt = try Fixtures.prompts("tiny-random")[5]
        let driver = try Driver("tiny-random")
        let expected = bits(try driver.logits(of: prompt))
        driver.model.setCollectives(
            InProcessCollectives(group: InProcessGroup(worldSize: 1), rank: 0, worldSize: 1))
        #expect(bits(try driver.logits(of: prompt)) == expected)
    }

    @Test func aPeerThatStaysAwayIsNamed() throws {
        let collectives = InProcessCollectives(
            group: InProcessGroup(worldSize: 2), rank: 0, worldSize: 2)
        let driver = try Driver("tiny-random", rank: 0, collectives: collectives)
        driver.deadline = MonotonicClock.now() + .milliseconds(20)
        let part = Driver.Part(tokens: [1, 2, 3])
        #expect {
            try driver.run([part])
        } throws: { error in
            guard case .timeout(let peers, let tag)? = error as? CollectiveError else {
                return false
            }
            return peers == [1] && tag == .dispatch(view: 1, tick: 1, layer: 1)
        }
    }

    @Test func malformedMessagesOfAPeerAreErrors() throws {
        let prompt = try Fixtures.prompts("tiny-random")[4]
        let damages: [@Sendable ([UInt8]) -> [UInt8]] = [
            { Array($0.dropLast(1)) },
            { $0 + [0] },
            { _ in [] },
            { [0] + $0.dropFirst(1) },
            // Another number of rows, then a row index beyond the rows.
            { $0.prefix(4) + [0xff, 0xff, 0xff, 0xff] + $0.dropFirst(8) },
            { $0.dropLast(8) + [0xff, 0xff, 0, 0] + $0.suffix(4) },
            // An expert beyond those of the owner.
            { $0.dropLast(4) + [8, 0, 0, 0] },
        ]
        for (index, damage) in damages.enumerated() {
            let outcomes = Self.run("tiny-random", plans: [[prompt], [prompt]], seconds: 20) {
                rank, tag, peer, bytes in
                rank == 0 && peer == 1 && tag.operation % 2 == 1 ? damage(bytes) : bytes
            }
            guard case .failure(.peerLost(peer: 0, _, _)) = outcomes[1] else {
                Issue.record("damage \(index): \(outcomes[1])")
                continue
            }
        }
    }
}

@Suite struct ExpertPlacementTests {
    @Test func everyExpertHasOneOwner() {
        for experts in [1, 5, 16, 256, 384] {
            for workers in [1, 2, 3, 7, 16, 40] {
                var next = 0
                for rank in 0..<workers {
                    let placement = ExpertPlacement(
                        expertCount: experts, rank: rank, worldSize: workers)
                    #expect(placement.localExperts.lowerBound == next)
                    next = placement.localExperts.upperBound
                    for expert in placement.localExperts {
                        #expect(placement.owner(of: expert) == rank)
                    }
                }
                #expect(next == experts)
            }
        }
    }
}
