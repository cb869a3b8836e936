import Foundation
import Protocol
import Testing

@testable import EngineWorker

@Suite struct SamplerTests {
    static let vocabularyCount = 24
    static let tokenizerVocabularyCount = 21
    static let eosTokenIDs: [Int32] = [2, 20]

    let sampler = Sampler(
        vocabularyCount: vocabularyCount,
        tokenizerVocabularyCount: tokenizerVocabularyCount,
        eosTokenIDs: eosTokenIDs)
    let reference = SamplerReference(
        tokenizerVocabularyCount: tokenizerVocabularyCount, eosTokenIDs: eosTokenIDs)

    func sample(
        _ logits: [Float],
        _ parameters: SamplingParameters,
        prompt: [Int32] = [1],
        output: [Int32] = []
    ) throws -> SampledToken {
        let request = Self.request(parameters, prompt: prompt, output: output)
        return try logits.withUnsafeBufferPointer { buffer in
            try sampler.sample(logits: buffer, request: request)
        }
    }

    static func request(
        _ parameters: SamplingParameters,
        prompt: [Int32],
        output: [Int32]
    ) -> SamplingRequest {
        var occurrences: TokenOccurrences?
        if parameters.usesPenalties {
            var counted = TokenOccurrences(prompt: prompt)
            for token in output { counted.appendOutput(token) }
            occurrences = counted
        }
        return SamplingRequest(
            parameters: parameters, position: prompt.count + output.count,
            outputCount: output.count, occurrences: occurrences)
    }

    static func randomLogits(_ random: inout TestRandom) -> [Float] {
        // Whole and half numbers now and then, so that ties are common.
        let isCoarse = random.chance(1, of: 3)
        return (0..<vocabularyCount).map { _ in
            let value = random.float(bound: 4)
            if random.chance(1, of: 12) { return -.infinity }
            return isCoarse ? (value * 2).rounded() / 2 : value
        }
    }

    static func randomParameters(_ random: inout TestRandom) -> SamplingParameters {
        var parameters = SamplingParameters()
        let ids = 0...(vocabularyCount + 1)
        parameters.seed = random.next()
        parameters.temperature = random.chance(1, of: 5) ? 0 : 0.1 + abs(random.float(bound: 2))
        if random.chance(1, of: 2) { parameters.topK = Int32(random.next(in: 1...26)) }
        if random.chance(1, of: 2) { parameters.topP = 0.01 + abs(random.float(bound: 0.98)) }
        if random.chance(1, of: 3) { parameters.minP = abs(random.float(bound: 1)) }
        if random.chance(1, of: 3) { parameters.presencePenalty = random.float(bound: 2) }
        if random.chance(1, of: 3) { parameters.frequencyPenalty = random.float(bound: 2) }
        if random.chance(1, of: 3) {
            parameters.repetitionPenalty = 0.5 + abs(random.float(bound: 1.5))
        }
        if random.chance(1, of: 3) { parameters.minTokens = Int32(random.next(in: 0...8)) }
        parameters.stopTokenIDs = (0..<random.next(in: 0...2)).map { _ in
            Int32(random.next(in: ids))
        }
        parameters.logitBias = (0..<random.next(in: 0...3)).map { _ in
            .init(tokenID: Int32(random.next(in: ids)), bias: random.float(bound: 6))
        }
        if random.chance(1, of: 4) {
            parameters.allowedTokenIDs = (0..<12).map { _ in Int32(random.next(in: ids)) }
        }
        return parameters
    }

    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func everyChoiceIsThatOfTheReference(seed: UInt64) throws {
        var random = TestRandom(seed: seed)
        var compared = 0
        for round in 0..<100 {
            let logits = Self.randomLogits(&random)
            let parameters = Self.randomParameters(&random)
            let tokens = (0..<random.next(in: 2...14)).map { _ in
                Int32(random.next(in: 0...(Self.vocabularyCount - 1)))
            }
            let promptCount = random.next(in: 1...tokens.count)
            let (prompt, output) = (tokens[..<promptCount], tokens[promptCount...])
            let values = reference.processed(
                logits, parameters: parameters, prompt: Array(prompt), output: Array(output))
            let expected: Int32?
            if let largest = values.max(), largest > -.infinity {
                if parameters.temperature == 0 {
                    expected = values.firstIndex(of: largest).map { Int32($0) }
                } else {
                    guard let kept = reference.kept(values, parameters: parameters) else {
                        continue
                    }
                    expected = reference.winner(
                        kept, parameters: parameters, position: tokens.count)
                }
                let token = try sample(
                    logits, parameters, prompt: Array(prompt), output: Array(output))
                #expect(token.tokenID == expected, "SEED=\(seed) round \(round) \(parameters)")
                compared += 1
            }
        }
        #expect(compared > 80, "SEED=\(seed)")
    }

    @Test(
        arguments: [
            (topK: 0, topP: 1, minP: 0, temperature: 1),
            (topK: 5, topP: 1, minP: 0, temperature: 0.7),
            (topK: 0, topP: 0.8, minP: 0, temperature: 1.3),
            (topK: 0, topP: 1, minP: 0.1, temperature: 1),
            (topK: 9, topP: 0.9, minP: 0.02, temperature: 1.5),
        ] as [(topK: Int32, topP: Float, minP: Float, temperature: Float)])
    func frequenciesFollowTheDistribution(
        topK: Int32, topP: Float, minP: Float, temperature: Float
    ) throws {
        let logits = (0..<Self.vocabularyCount).map { Float(($0 * 7) % 23) * 0.17 }
        var parameters = SamplingParameters()
        (parameters.topK, parameters.topP) = (topK, topP)
        (parameters.minP, parameters.temperature) = (minP, temperature)
        parameters.seed = 99
        let values = Array(logits[..<Self.tokenizerVocabularyCount])
        let kept = try #require(reference.kept(values, parameters: parameters))
        let total = kept.reduce(0) { $0 + $1.weight }
        let count = 6000
        var counts = [Int](repeating: 0, count: Self.vocabularyCount)
        try logits.withUnsafeBufferPointer { buffer in
            for position in 0..<count {
                let request = SamplingRequest(
                    parameters: parameters, position: position, outputCount: 0, occurrences: nil)
                counts[Int(try sampler.sample(logits: buffer, request: request).tokenID)] += 1
            }
        }
        var chiSquare = 0.0
        for (id, weight) in kept {
            let expected = Double(count) * weight / total
            chiSquare += pow(Double(counts[Int(id)]) - expected, 2) / expected
            counts[Int(id)] = 0
        }
        #expect(counts.allSatisfy { $0 == 0 }, "a token outside the kept ones was chosen")
        // Mean k and deviation sqrt(2k): 5 deviations are beyond chance, and the seed is fixed.
        let freedom = Double(kept.count - 1)
        #expect(chiSquare < freedom + 5 * (2 * freedom).squareRoot(), "\(chiSquare) of \(freedom)")
    }

    @Test func differentSeedsGiveIndependentTokens() throws {
        let logits = [Float](repeating: 0, count: Self.vocabularyCount)
        var same = 0
        for seed in 0..<2000 as Range<UInt64> {
            var parameters = SamplingParameters()
            parameters.seed = seed
            let one = try sample(logits, parameters).tokenID
            parameters.seed = seed + 1
            if try sample(logits, parameters).tokenID == one { same += 1 }
        }
        // 2000 / 21 = 95 expected, deviation 9.5.
        #expect((50...140).contains(same), "\(same)")
    }

    @Test func greedyTakesTheLowestIDOfATie() throws {
        var logits = [Float](repeating: 0.5, count: Self.vocabularyCount)
        (logits[7], logits[11], logits[23]) = (3, 3, 9)
        var parameters = SamplingParameters()
        parameters.temperature = 0
        #expect(try sample(logits, parameters).tokenID == 7)
        parameters.logitBias = [.init(tokenID: 19, bias: 2.5)]
        #expect(try sample(logits, parameters).tokenID == 7)
        parameters.logitBias = [.init(tokenID: 19, bias: 2.75)]
        #expect(try sample(logits, parameters).tokenID == 19)
    }

    @Test func greedyObeysMinTokens() throws {
        var logits = [Float](repeating: 0, count: Self.vocabularyCount)
        (logits[2], logits[9], logits[4]) = (5, 4, 3)
        var parameters = SamplingParameters()
        (parameters.temperature, parameters.minTokens) = (0, 2)
        parameters.stopTokenIDs = [9]
        #expect(try sample(logits, parameters, output: []).tokenID == 4)
        #expect(try sample(logits, parameters, output: [7]).tokenID == 4)
        #expect(try sample(logits, parameters, output: [7, 7]).tokenID == 2)
    }

    @Test func tiesWithTheKthStay() throws {
        var logits = [Float](repeating: 0, count: Self.vocabularyCount)
        for id in [3, 8, 15] { logits[id] = 5 }
        var parameters = SamplingParameters()
        parameters.topK = 1
        var seen = Set<Int32>()
        for seed in 0..<100 as Range<UInt64> {
            parameters.seed = seed
            seen.insert(try sample(logits, parameters).tokenID)
        }
        #expect(seen == [3, 8, 15])
    }

    @Test func paddingIsNeverSampledOrListed() throws {
        var logits = [Float](repeating: 0, count: Self.vocabularyCount)
        for id in Self.tokenizerVocabularyCount..<Self.vocabularyCount { logits[id] = 50 }
        var parameters = SamplingParameters()
        parameters.logprobs = 30
        for seed in 0..<50 as Range<UInt64> {
            parameters.seed = seed
            let token = try sample(logits, parameters)
            #expect(Int(token.tokenID) < Self.tokenizerVocabularyCount)
            let top = try #require(token.logprobs?.top)
            #expect(top.map(\.tokenID) == Array(0..<Int32(Self.tokenizerVocabularyCount)))
        }
    }

    @Test func damagedLogitsEndTheRequestWithAnError() {
        let fine = [Float](repeating: 0, count: Self.vocabularyCount)
        for value in [Float.nan, .infinity] {
            for id in [0, 13, 23] {
                for temperature in [0, 1] as [Float] {
                    var logits = fine
                    logits[id] = value
                    var parameters = SamplingParameters()
                    parameters.temperature = temperature
                    #expect(throws: SamplingError.logitNotFinite(tokenID: Int32(id))) {
                        try sample(logits, parameters)
                    }
                }
            }
        }
        let none = [Float](repeating: -.infinity, count: Self.vocabularyCount)
        #expect(throws: SamplingError.noFiniteLogit) { try sample(none, SamplingParameters()) }
    }

    @Test func masksThatLeaveNothingAreAnError() {
        var parameters = SamplingParameters()
        parameters.allowedTokenIDs = [2, 22, 1000, -3]
        parameters.minTokens = 1
        let logits = [Float](repeating: 0, count: Self.vocabularyCount)
        #expect(throws: SamplingError.everyTokenMasked) { try sample(logits, parameters) }
        parameters.temperature = 0
        #expect(throws: SamplingError.everyTokenMasked) { try sample(logits, parameters) }
    }

    @Test func extremeTemperaturesAndPenaltiesDoNotTrap() throws {
        var logits = (0..<Self.vocabularyCount).map { Float($0) - 12 }
        logits[4] = 3e38
        logits[5] = -3e38
        for temperature in [1e-30, 1e-5, 1, 1e30] as [Float] {
            for penalty in [1e-38, 1, 1e38] as [Float] {
                var parameters = SamplingParameters()
                (parameters.temperature, parameters.repetitionPenalty) = (temperature, penalty)
                (parameters.topP, parameters.topK, parameters.minP) = (
                    0.9, 7, .leastNonzeroMagnitude
                )
                let token = try sample(logits, parameters, prompt: [4, 5, 6], output: [7, 7])
                #expect((0..<Int32(Self.tokenizerVocabularyCount)).contains(token.tokenID))
            }
        }
    }
}
