import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import EngineWorker

/// One engine alone: real model, scheduler and sampler.
@Suite struct EngineTests {
    private let prompt: [Int32] = [3, 141, 59, 26, 53]

    @Test func aSequenceRunsFromSubmitToFinish() throws {
        let fixture = try EngineFixture()
        fixture.enter(view: 1)
        fixture.submit(7, prompt) { $0.maxTokens = 6 }
        #expect(!fixture.engine.isRunning)
        fixture.runUntilIdle()
        let events = fixture.takeEvents()
        let expected = try Driver("tiny-random", threads: 1).greedy([prompt], count: 6)[0]
        #expect(events.tokens(of: 7) == expected)
        #expect(events.finishes(of: 7) == [.length])
        let load = try #require(events.loads.last)
        #expect(load.running == 0 && load.kvCacheUsage == 0 && load.pendingPrefillTokens == 0)
        #expect(load.promptTokens == 5 && load.generationTokens == 6)
        #expect(fixture.engine.patience(at: MonotonicClock.now()) == .seconds(3600))
    }

    @Test func eachSeedHasItsOwnTokensWhateverRunsBesides() throws {
        func run(_ seeds: [UInt64]) throws -> [[Int32]] {
            let fixture = try EngineFixture()
            fixture.enter(view: 1)
            for seed in seeds {
                fixture.submit(seed, prompt) {
                    $0.seed = seed
                    $0.temperature = 1
                    $0.maxTokens = 12
                }
            }
            fixture.runUntilIdle()
            let events = fixture.takeEvents()
            return seeds.map { events.tokens(of: $0) }
        }
        let together = try run([11, 12, 13])
        #expect(Set(together).count == 3)
        for (seed, tokens) in zip([11, 12, 13] as [UInt64], together) {
            #expect(tokens.count == 12)
            #expect(try run([seed]) == [tokens])
        }
    }

    @Test(arguments: [1, 5, 11])
    func anotherViewGoesOnWithTheDeliveredTokens(steps: Int) throws {
        let fixture = try EngineFixture()
        let change: (inout SamplingParameters) -> Void = {
            $0.seed = 99
            $0.temperature = 1
            $0.maxTokens = 12
            $0.frequencyPenalty = 1
        }
        fixture.enter(view: 1)
        fixture.submit(1, prompt, change)
        fixture.runUntilIdle()
        let undisturbed = fixture.takeEvents().tokens(of: 1)

        fixture.submit(2, prompt, change)
        fixture.step(steps)
        fixture.engine.leaveView()
        fixture.engine.handBack("over")
        var events = fixture.takeEvents()
        let delivered = events.tokens(of: 2)
        #expect(delivered.count == steps)
        #expect(events.rejections == ["2 otherView"])
        #expect(events.loads.last?.kvCacheUsage == 0)
        #expect(events.loads.last?.pendingPrefillTokens == 0)

        fixture.submit(3, prompt, change)
        fixture.enter(view: 2)
        fixture.submit(4, prompt, view: 1, change)
        #expect(fixture.takeEvents().rejections == ["3 otherView", "4 otherView"])
        fixture.submit(5, prompt, delivered: delivered, view: 2, change)
        fixture.runUntilIdle()
        events = fixture.takeEvents()
        #expect(delivered + events.tokens(of: 5) == undisturbed)
        #expect(events.finishes(of: 5) == [.length])
    }

    @Test func thePromptIsScoredOnceAndAloneWhereNoTokenIsWanted() throws {
        let fixture = try EngineFixture()
        fixture.enter(view: 1)
        // Longer than a step's 64 rows.
        let long = (0..<150).map { Int32($0 * 7 % 200 + 1) }
        fixture.submit(1, long) {
            $0.maxTokens = 2
            $0.promptLogprobs = 1
        }
        fixture.submit(2, long) {
            $0.maxTokens = 0
            $0.promptLogprobs = 1
        }
        fixture.runUntilIdle()
        let events = fixture.takeEvents()
        let scored = events.outputs.filter { !$0.promptLogprobs.isEmpty }
        #expect(scored.map(\.sequence.rawValue) == [1, 2])
        #expect(scored.allSatisfy { $0.promptLogprobs.map(\.tokenID) == Array(long.dropFirst()) })
        #expect(scored[0].promptLogprobs == scored[1].promptLogprobs)
        #expect(events.tokens(of: 1).count == 2 && events.tokens(of: 2).isEmpty)
        #expect(events.finishes(of: 2) == [.length])
    }

    @Test func whatCanNeverRunIsRefusedWithItsReason() throws {
        let fixture = try EngineFixture()
        fixture.submit(1, prompt)
        fixture.enter(view: 1)
        fixture.submit(2, Array(repeating: 1, count: 512))
        fixture.submit(3, [-1])
        fixture.submit(4, [])
        for id in 10..<19 { fixture.submit(UInt64(id), prompt) }
        #expect(
            fixture.takeEvents().rejections == [
                "1 otherView", "2 tooLong", "3 invalid", "4 invalid", "18 overloaded",
            ])
    }
}
