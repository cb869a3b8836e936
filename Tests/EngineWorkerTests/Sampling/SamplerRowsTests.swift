import CKernels
import Protocol
import Testing

@testable import EngineWorker

/// Counts the calls of each item; one with a thread that does not exist counts a hundred.
private final class CountedRows: RowWork {
    private let calls: UnsafeMutableBufferPointer<Int>

    init(_ calls: UnsafeMutableBufferPointer<Int>) { self.calls = calls }

    override func perform(item: Int, thread: Int) {
        calls[item] += (0..<3).contains(thread) ? 1 : 100
    }
}

/// Rows of several blocks: cuts that are searched for, on every level and any number of threads.
@Suite struct SamplerRowsTests {
    static let vocabularyCount = 3000
    static let tokenizerVocabularyCount = 2900

    static func sampler(level: Int32, runner: any RowRunner = SequentialRows()) -> Sampler {
        Sampler(
            vocabularyCount: vocabularyCount,
            tokenizerVocabularyCount: tokenizerVocabularyCount, eosTokenIDs: [],
            runner: runner, level: level)
    }

    static func parameters(_ random: inout TestRandom) -> SamplingParameters {
        var parameters = SamplingParameters()
        parameters.seed = random.next()
        parameters.temperature = [1, 0.6, 1.7, 1e-3, 40][random.next(in: 0...4)]
        if random.chance(1, of: 2) {
            parameters.topK = [1, 2, 11, 12, 13, 700, 2899][random.next(in: 0...6)]
        }
        if random.chance(1, of: 2) {
            parameters.topP = [1e-6, 0.3, 0.95, 0.9999][random.next(in: 0...3)]
        }
        if random.chance(1, of: 3) { parameters.minP = [1e-6, 0.2, 1][random.next(in: 0...2)] }
        return parameters
    }

    static func row(_ random: inout TestRandom) -> [Float] {
        let bound: Float = [0.01, 1, 12, 200][random.next(in: 0...3)]
        let isCoarse = random.chance(1, of: 3)
        return (0..<vocabularyCount).map { _ in
            let value = random.float(bound: bound)
            return isCoarse ? (value * 3).rounded() : value
        }
    }

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func everyChoiceIsThatOfTheReferenceOnEveryLevel(seed: UInt64) throws {
        var random = TestRandom(seed: seed)
        let samplers = SamplingPassesTests.levels.map { Self.sampler(level: $0) }
        let reference = SamplerReference(
            tokenizerVocabularyCount: Self.tokenizerVocabularyCount, eosTokenIDs: [])
        var compared = 0
        for round in 0..<12 {
            let logits = Self.row(&random)
            let parameters = Self.parameters(&random)
            let values = Array(logits[..<Self.tokenizerVocabularyCount])
            let kept = reference.kept(values, parameters: parameters)
            for position in 0..<4 {
                let request = SamplingRequest(
                    parameters: parameters, position: position, outputCount: 0, occurrences: nil)
                let tokens = try samplers.map { sampler in
                    try logits.withUnsafeBufferPointer {
                        try sampler.sample(logits: $0, request: request).tokenID
                    }
                }
                #expect(Set(tokens).count == 1, "SEED=\(seed) round \(round) \(parameters)")
                guard let kept else { continue }
                let expected = reference.winner(kept, parameters: parameters, position: position)
                #expect(tokens[0] == expected, "SEED=\(seed) round \(round) \(parameters)")
                compared += 1
            }
        }
        #expect(compared > 12, "SEED=\(seed)")
    }

    @Test func theChoiceAmongEqualLogitsStaysInsideTheNucleus() throws {
        let logits = [Float](repeating: 0.25, count: Self.vocabularyCount)
        var parameters = SamplingParameters()
        parameters.topP = 0.01
        let sampler = Self.sampler(level: ck_kernels_best())
        // The first 29 of 2900: each but the last has less than 1 % before it.
        var seen = Set<Int32>()
        for position in 0..<400 {
            let request = SamplingRequest(
                parameters: parameters, position: position, outputCount: 0, occurrences: nil)
            let token = try logits.withUnsafeBufferPointer {
                try sampler.sample(logits: $0, request: request)
            }
            seen.insert(token.tokenID)
        }
        #expect(seen.allSatisfy { $0 <= 29 } && seen.count >= 28, "\(seen.sorted())")
    }

    @Test func theBackendsThreadsRunEveryRowOnce() throws {
        let backend = try CPUBackend(kernels: .best, threads: 3)
        #expect(backend.threadCount == 3)
        for count in [0, 1, 2, 7, 100] {
            var calls = [Int](repeating: 0, count: count)
            calls.withUnsafeMutableBufferPointer { backend.run(count, CountedRows($0)) }
            #expect(calls == [Int](repeating: 1, count: count))
        }
    }

    @Test func aTemperaturesThresholdIsTheLeastLogitThatReachesIt() {
        var random = TestRandom(seed: 5)
        for divisor in [1, 0.6, 3, 1e-5, 1e30] as [Float] {
            let temperature = Temperature(divisor: divisor)
            for _ in 0..<200 {
                let quotient = temperature(random.float(bound: 20))
                let least = temperature.leastLogit(quotient)
                #expect(temperature(least) >= quotient, "\(divisor) \(quotient)")
                #expect(temperature(least.nextDown) < quotient, "\(divisor) \(quotient)")
            }
        }
    }
}
