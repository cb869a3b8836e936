import Protocol
import Testing

@testable import EngineWorker

/// Rows in which top_p's cut lies among many candidates, over many buckets of values.
@Suite struct LongTailTests {
    static let vocabularyCount = 700

    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func theChoiceIsThatOfTheReference(seed: UInt64) throws {
        var random = TestRandom(seed: seed)
        let sampler = Sampler(
            vocabularyCount: Self.vocabularyCount, tokenizerVocabularyCount: Self.vocabularyCount,
            eosTokenIDs: [])
        let reference = SamplerReference(
            tokenizerVocabularyCount: Self.vocabularyCount, eosTokenIDs: [])
        var compared = 0
        for round in 0..<4 {
            let bound: Float = [0.05, 1, 8, 60][round]
            let logits = (0..<Self.vocabularyCount).map { _ in random.float(bound: bound) }
            var parameters = SamplingParameters()
            parameters.seed = random.next()
            parameters.topP = 0.5 + abs(random.float(bound: 0.49))
            parameters.temperature = 0.2 + abs(random.float(bound: 2))
            if random.chance(1, of: 3) { parameters.topK = Int32(random.next(in: 100...600)) }
            guard let kept = reference.kept(logits, parameters: parameters) else { continue }
            for position in 0..<8 {
                let request = SamplingRequest(
                    parameters: parameters, position: position, outputCount: 0, occurrences: nil)
                let token = try logits.withUnsafeBufferPointer {
                    try sampler.sample(logits: $0, request: request)
                }
                let expected = reference.winner(
                    kept, parameters: parameters, position: position)
                #expect(token.tokenID == expected, "SEED=\(seed) round \(round)")
                compared += 1
            }
        }
        #expect(compared >= 16, "SEED=\(seed)")
    }
}
