import Foundation
import Protocol

@testable import EngineWorker

/// The sampling rules once more, as plainly as they can be written: whole-vocabulary arrays, full
/// sorts, the C library's exp and log.
struct SamplerReference {
    let tokenizerVocabularyCount: Int
    let eosTokenIDs: [Int32]

    /// Masked, biased and penalised logits.
    func processed(
        _ logits: [Float],
        parameters: SamplingParameters,
        prompt: [Int32],
        output: [Int32]
    ) -> [Float] {
        (0..<Int32(tokenizerVocabularyCount)).map { id in
            var value = logits[Int(id)]
            if !parameters.allowedTokenIDs.isEmpty, !parameters.allowedTokenIDs.contains(id) {
                value = -.infinity
            }
            let stops = eosTokenIDs + parameters.stopTokenIDs
            if output.count < Int(parameters.minTokens), stops.contains(id) { value = -.infinity }
            for bias in parameters.logitBias where bias.tokenID == id { value += bias.bias }
            let inOutput = output.filter { $0 == id }.count
            if inOutput > 0 || prompt.contains(id) {
                if value > 0 {
                    value /= parameters.repetitionPenalty
                } else {
                    value *= parameters.repetitionPenalty
                }
            }
            if inOutput > 0 {
                value -= parameters.frequencyPenalty * Float(inOutput)
                value -= parameters.presencePenalty
            }
            return value
        }
    }

    /// The ids that temperature, min_p, top_k and top_p leave, with their weights; nil where
    /// top_p's cut is so near a sum that rounding may decide it.
    func kept(_ values: [Float], parameters: SamplingParameters) -> [(id: Int32, weight: Double)]? {
        let scaled = values.map { $0 / parameters.temperature }
        guard let largest = scaled.max() else { return nil }
        var ids = scaled.indices.filter { scaled[$0] > -.infinity }
        if parameters.minP > 0 {
            ids = ids.filter { scaled[$0] >= largest + Float(log(Double(parameters.minP))) }
        }
        if parameters.topK > 0 && Int(parameters.topK) < ids.count {
            let kth = ids.map { scaled[$0] }.sorted(by: >)[Int(parameters.topK) - 1]
            ids = ids.filter { scaled[$0] >= kth }
        }
        func weight(_ id: Int) -> Double { exp(Double(scaled[id]) - Double(largest)) }
        let total = ids.reduce(0) { $0 + weight($1) }
        if parameters.topP < 1 {
            // vLLM's form: ascending, drop the prefix whose cumulative sum is at most 1 - p.
            let ascending = ids.sorted {
                scaled[$0] < scaled[$1] || (scaled[$0] == scaled[$1] && $0 > $1)
            }
            var dropped = Set<Int>()
            var sum = 0.0
            for id in ascending.dropLast() {
                sum += weight(id) / total
                // The sampler sums weights in single precision.
                if abs(sum - (1 - Double(parameters.topP))) < 3e-6 { return nil }
                if sum <= 1 - Double(parameters.topP) { dropped.insert(id) }
            }
            ids = ids.filter { !dropped.contains($0) }
        }
        return ids.map { (Int32($0), weight($0)) }
    }

    /// The winner of a race in which every candidate runs to the end.
    func winner(
        _ kept: [(id: Int32, weight: Double)],
        parameters: SamplingParameters,
        position: Int
    ) -> Int32? {
        let source = RandomSource(seed: parameters.seed, position: position)
        return kept.min { left, right in
            -log(source.uniform(tokenID: left.id)) / left.weight
                < -log(source.uniform(tokenID: right.id)) / right.weight
        }?.id
    }

    static func logprobs(_ logits: [Float]) -> [Double] {
        let largest = Double(logits.max() ?? 0)
        let normalizer = largest + log(logits.reduce(0) { $0 + exp(Double($1) - largest) })
        return logits.map { Double($0) - normalizer }
    }
}
