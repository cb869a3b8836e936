import DaemonRuntime
import Protocol
import Testing

@testable import EngineWorker

/// A prompt that is found in the cache gives the bits of one that is computed.
@Suite struct EnginePrefixTests {
    private func run(
        _ model: String, caching: Bool, length: Int = 512, blockCount: Int = 64,
        cacheType: String = "auto", _ prompts: [[Int32]], together: Bool
    ) throws -> (outputs: [[TokenLogprobs]], cached: [Int], load: RankLoad) {
        let fixture = try EngineFixture(
            EngineFixture.configuration(
                model: model, length: length, blockCount: blockCount, cacheType: cacheType,
                prefixCaching: caching))
        fixture.enter(view: 1)
        var events: [EngineEvent] = []
        for (index, prompt) in prompts.enumerated() {
            fixture.submit(UInt64(index), prompt) {
                $0.maxTokens = 24
                $0.logprobs = 5
            }
            if !together { fixture.runUntilIdle() }
            events += fixture.takeEvents()
        }
        fixture.runUntilIdle()
        events += fixture.takeEvents()
        let outputs = prompts.indices.map { index in
            events.outputs.filter { $0.sequence.rawValue == UInt64(index) }.compactMap {
                $0.token?.logprobs
            }
        }
        let cached = prompts.indices.map { index in
            events.outputs.first { $0.sequence.rawValue == UInt64(index) }?.cachedPromptTokens ?? -1
        }
        return (outputs, cached, try #require(events.loads.last))
    }

    /// Log-probabilities are a function of all logits of a row, so equal ones of 24 tokens and
    /// their 5 best each mean equal bits.
    @Test(arguments: ["tiny-random", "tiny-w8a8"], ["auto", "int8"])
    func cachedAndComputedPromptsGiveTheSameBits(model: String, cacheType: String) throws {
        let opening: [Int32] = (0..<70).map { Int32($0 * 7 % 200 + 1) }
        let prompts: [[Int32]] = [
            opening, opening, opening + [5, 6, 7], Array(opening.prefix(48)), opening.reversed(),
        ]
        let plain = try run(
            model, caching: false, cacheType: cacheType, prompts, together: false)
        let cached = try run(
            model, caching: true, cacheType: cacheType, prompts, together: false)
        #expect(plain.cached == [0, 0, 0, 0, 0])
        #expect(cached.cached == [0, 64, 64, 32, 0])
        #expect(cached.load.prefixCacheQueries == 70 + 70 + 73 + 48 + 70)
        #expect(cached.load.prefixCacheHits == 160)
        #expect(plain.load.prefixCacheQueries == 0)
        #expect(cached.load.pendingPrefillTokens == 0 && cached.load.kvCacheUsage == 0)
        #expect(plain.outputs.allSatisfy { $0.count == 24 })
        #expect(cached.outputs == plain.outputs)
    }

    @Test(arguments: ["auto", "bfloat16", "int8"])
    func preemptedSequencesFindTheirBlocksAndTheSameBits(cacheType: String) throws {
        let prompts = (0..<6 as Range<Int32>).map { sequence -> [Int32] in
            (0..<40 as Range<Int32>).map { ($0 * 7 + sequence * 13) % 200 + 1 }
        }
        let plain = try run(
            "tiny-random", caching: false, cacheType: cacheType, prompts, together: false)
        // 6 sequences of 40 tokens and 24 more want 24 blocks.
        let cached = try run(
            "tiny-random", caching: true, length: 128, blockCount: 20, cacheType: cacheType,
            prompts, together: true)
        #expect(cached.load.preemptions > 0)
        #expect(cached.outputs == plain.outputs)
    }
}
