import Protocol
import Testing

@testable import EngineWorker

@Suite struct LogprobsTests {
    /// Half a unit in the last place of a float32 of magnitude 16 to 32, and the reference's own.
    static let tolerance = 1.2e-6

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func scoresRanksAndTopAreThoseOfAFullSort(seed: UInt64) throws {
        var random = TestRandom(seed: seed)
        let sampler = Sampler(
            vocabularyCount: 24, tokenizerVocabularyCount: 21, eosTokenIDs: [])
        for _ in 0..<40 {
            let logits = SamplerTests.randomLogits(&random)
            let expected = SamplerReference.logprobs(logits)
            let order = (0..<21).sorted {
                logits[$0] > logits[$1] || (logits[$0] == logits[$1] && $0 < $1)
            }
            let tokenID = Int32(random.next(in: 0...20))
            let topCount = random.next(in: 0...25)
            let scored = try logits.withUnsafeBufferPointer { buffer in
                try sampler.logprobs(logits: buffer, tokenID: tokenID, topCount: topCount)
            }
            #expect(scored.tokenID == tokenID)
            #expect(isNear(scored.logprob, expected[Int(tokenID)]), "SEED=\(seed)")
            #expect(order[Int(scored.rank) - 1] == Int(tokenID), "SEED=\(seed)")
            let top = order.prefix(topCount)
            #expect(scored.top.map { Int($0.tokenID) } == Array(top), "SEED=\(seed)")
            for candidate in scored.top {
                let value = expected[Int(candidate.tokenID)]
                #expect(isNear(candidate.logprob, value), "SEED=\(seed)")
            }
        }
    }

    func isNear(_ value: Float, _ expected: Double) -> Bool {
        Double(value) == expected || abs(Double(value) - expected) < Self.tolerance
    }

    @Test func logprobsIgnoreMasksPenaltiesAndTemperature() throws {
        let sampler = Sampler(vocabularyCount: 8, tokenizerVocabularyCount: 8, eosTokenIDs: [])
        let logits = (0..<8).map { Float($0) * 0.3 }
        var parameters = SamplingParameters()
        parameters.logprobs = 3
        (parameters.allowedTokenIDs, parameters.temperature) = ([0, 1], 0.1)
        parameters.presencePenalty = 2
        let request = SamplerTests.request(parameters, prompt: [1], output: [0])
        let (token, plain) = try logits.withUnsafeBufferPointer { buffer in
            let token = try sampler.sample(logits: buffer, request: request)
            let plain = try sampler.logprobs(logits: buffer, tokenID: token.tokenID, topCount: 3)
            return (token, plain)
        }
        #expect(token.tokenID < 2)
        #expect(token.logprobs == plain)
        #expect(plain.top.map(\.tokenID) == [7, 6, 5])
        #expect(plain.rank == 8 - token.tokenID)
    }
}
