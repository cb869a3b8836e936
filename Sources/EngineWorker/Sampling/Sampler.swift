public import Protocol

/// Chooses tokens from logits: a pure function of the logits, the request and the position.
///
/// The order of operations is that of vLLM's V1 sampler: the unmodified logits are kept for the
/// logprobs; allowed_token_ids; min_tokens; logit_bias; repetition, frequency and presence
/// penalty; greedy rows end here; temperature; min_p; top_k; top_p; and an exponential race over
/// what is left, with the randomness of ``RandomSource``.
///
/// It owns scratch for one row and allocates nothing for a token, but for the list of top
/// logprobs where a request asks. One thread at a time. It must never write to the logits.
public final class Sampler {
    /// Length of a row of logits.
    public let vocabularyCount: Int
    /// Ids from here on are padding of the embedding: never sampled, never listed.
    public let tokenizerVocabularyCount: Int
    private let eosTokenIDs: [Int32]

    /// `[tokenizerVocabularyCount]`: the row after masks, bias, penalties and temperature.
    private let values: UnsafeMutableBufferPointer<Float>
    /// `[tokenizerVocabularyCount]`: ids that may still be chosen.
    private let candidates: UnsafeMutableBufferPointer<Int32>
    /// `[tokenizerVocabularyCount]`: selection of the best few.
    private let selection: UnsafeMutableBufferPointer<Int32>
    /// `[vocabularyCount]`, by id: e to (value - largest value).
    private let weights: UnsafeMutableBufferPointer<Double>
    /// `[NucleusBuckets.count]`: weight of the candidates by bucket of value.
    private let bucketWeights: UnsafeMutableBufferPointer<Double>

    /// How top_p divides values: by their distance from the largest.
    private enum NucleusBuckets {
        static let count = 1024
        /// The last bucket takes everything from distance 1023 / 25.6 = 40 on, where a weight is
        /// below 5e-18.
        static let perUnit: Float = 25.6

        @inline(__always)
        static func index(distance: Float) -> Int {
            Int(min(distance * perUnit, Float(count - 1)))
        }
    }

    public init(vocabularyCount: Int, tokenizerVocabularyCount: Int, eosTokenIDs: [Int32]) {
        precondition(
            tokenizerVocabularyCount > 0 && tokenizerVocabularyCount <= vocabularyCount
                && vocabularyCount <= Int(Int32.max),
            "\(tokenizerVocabularyCount) tokens in rows of \(vocabularyCount)")
        self.vocabularyCount = vocabularyCount
        self.tokenizerVocabularyCount = tokenizerVocabularyCount
        self.eosTokenIDs = eosTokenIDs
        values = .allocate(capacity: tokenizerVocabularyCount)
        candidates = .allocate(capacity: tokenizerVocabularyCount)
        selection = .allocate(capacity: tokenizerVocabularyCount)
        weights = .allocate(capacity: vocabularyCount)
        bucketWeights = .allocate(capacity: NucleusBuckets.count)
        values.initialize(repeating: 0)
        candidates.initialize(repeating: 0)
        selection.initialize(repeating: 0)
        weights.initialize(repeating: 0)
        bucketWeights.initialize(repeating: 0)
    }

    deinit {
        values.deallocate()
        candidates.deallocate()
        selection.deallocate()
        weights.deallocate()
        bucketWeights.deallocate()
    }

    /// Chooses the token at `request.position`.
    ///
    /// - Parameter logits: `[vocabularyCount]`, float32; read only.
    /// - Throws: where a logit is NaN or +infinity, or no token is left. That ends the request,
    ///   not the step.
    public func sample(
        logits: UnsafeBufferPointer<Float>,
        request: SamplingRequest
    ) throws(SamplingError) -> SampledToken {
        precondition(
            logits.count == vocabularyCount, "\(logits.count) logits, not \(vocabularyCount)")
        let parameters = request.parameters
        let largest = try largestLogit(logits)
        let tokenID: Int32
        if Self.isUnmodified(request) && parameters.temperature == 0 {
            tokenID = largest
        } else {
            modify(logits, request: request)
            let best = Self.firstLargest(UnsafeBufferPointer(values))
            guard values[Int(best)] > -.infinity else { throw .everyTokenMasked }
            tokenID = parameters.temperature == 0 ? best : draw(request, best: best)
        }
        guard let topCount = parameters.logprobs else {
            return SampledToken(tokenID: tokenID, logprobs: nil)
        }
        let logprobs = score(logits, tokenID: tokenID, topCount: Int(topCount))
        return SampledToken(tokenID: tokenID, logprobs: logprobs)
    }

    /// Scores a given token under the unmodified logits: log-softmax over the whole row.
    ///
    /// - Parameters:
    ///   - logits: `[vocabularyCount]`, float32; read only.
    ///   - topCount: how many of the most likely tokens to list; clamped to the vocabulary.
    public func logprobs(
        logits: UnsafeBufferPointer<Float>,
        tokenID: Int32,
        topCount: Int
    ) throws(SamplingError) -> TokenLogprobs {
        precondition(
            logits.count == vocabularyCount, "\(logits.count) logits, not \(vocabularyCount)")
        precondition(
            tokenID >= 0 && Int(tokenID) < vocabularyCount,
            "token \(tokenID) is not in 0 ..< \(vocabularyCount)")
        _ = try largestLogit(logits)
        return score(logits, tokenID: tokenID, topCount: topCount)
    }

    // MARK: Logits

    /// The token with the largest logit, the first on a tie, padding left out.
    private func largestLogit(
        _ logits: UnsafeBufferPointer<Float>
    ) throws(SamplingError) -> Int32 {
        // The one comparison is false for NaN, too.
        for (index, logit) in logits.enumerated() where !(logit < .infinity) {
            throw .logitNotFinite(tokenID: Int32(index))
        }
        let largest = Self.firstLargest(
            UnsafeBufferPointer(rebasing: logits[0..<tokenizerVocabularyCount]))
        guard logits[Int(largest)] > -.infinity else { throw .noFiniteLogit }
        return largest
    }

    private static func firstLargest(_ values: UnsafeBufferPointer<Float>) -> Int32 {
        var best = 0
        for index in 1..<max(1, values.count) where values[index] > values[best] { best = index }
        return Int32(best)
    }

    private static func isUnmodified(_ request: SamplingRequest) -> Bool {
        let parameters = request.parameters
        return parameters.allowedTokenIDs.isEmpty && parameters.logitBias.isEmpty
            && request.outputCount >= Int(parameters.minTokens) && !parameters.usesPenalties
    }

    /// Writes the row into `values`, with masks, bias and penalties. Ids that are not of this
    /// vocabulary are ignored.
    private func modify(_ logits: UnsafeBufferPointer<Float>, request: SamplingRequest) {
        let parameters = request.parameters
        if parameters.allowedTokenIDs.isEmpty {
            _ = values.update(fromContentsOf: logits[0..<tokenizerVocabularyCount])
        } else {
            values.update(repeating: -.infinity)
            for id in parameters.allowedTokenIDs where values.indices.contains(Int(id)) {
                values[Int(id)] = logits[Int(id)]
            }
        }
        if request.outputCount < Int(parameters.minTokens) {
            for id in eosTokenIDs where values.indices.contains(Int(id)) {
                values[Int(id)] = -.infinity
            }
            for id in parameters.stopTokenIDs where values.indices.contains(Int(id)) {
                values[Int(id)] = -.infinity
            }
        }
        for bias in parameters.logitBias where values.indices.contains(Int(bias.tokenID)) {
            values[Int(bias.tokenID)] += bias.bias
        }
        if let occurrences = request.occurrences, parameters.usesPenalties {
            penalize(occurrences, parameters: parameters)
        }
    }

    private func penalize(_ occurrences: TokenOccurrences, parameters: SamplingParameters) {
        let repetition = parameters.repetitionPenalty
        for (id, count) in zip(occurrences.tokenIDs, occurrences.outputCounts)
        where values.indices.contains(Int(id)) {
            var value = values[Int(id)]
            value = value > 0 ? value / repetition : value * repetition
            if count > 0 {
                value -= parameters.frequencyPenalty * Float(count)
                value -= parameters.presencePenalty
            }
            values[Int(id)] = value
        }
    }

    // MARK: Choice

    /// Draws a token from `values`, whose largest is at `best`.
    private func draw(_ request: SamplingRequest, best: Int32) -> Int32 {
        let parameters = request.parameters
        for index in values.indices { values[index] /= parameters.temperature }
        let largest = values[Int(best)]
        // A tiny temperature may carry the best past the largest float: then it alone is left.
        guard largest.isFinite else { return best }
        var count = keepLikely(largest: largest, minP: parameters.minP)
        count = keepTop(count: count, topK: Int(parameters.topK))
        let total = weigh(count: count, largest: largest)
        if parameters.topP < 1 {
            count = keepNucleus(
                count: count, largest: largest, mass: Double(parameters.topP) * total)
        }
        let source = RandomSource(seed: parameters.seed, position: request.position)
        return race(count: count, source: source)
    }

    /// Writes the weights of the first `count` candidates and returns their sum.
    private func weigh(count: Int, largest: Float) -> Double {
        guard count < values.count else {
            return ElementaryFunctions.exponentials(
                UnsafeBufferPointer(values), largest: largest, into: weights)
        }
        var total = 0.0
        for place in 0..<count {
            let id = Int(candidates[place])
            let weight = ElementaryFunctions.exponential(Double(values[id]) - Double(largest))
            weights[id] = weight
            total += weight
        }
        return total
    }

    /// min_p: lists the ids whose value is at least `largest + ln minP`; all finite ones if 0.
    /// (A subnormal one drops nothing that could ever be drawn, so it counts as 0.)
    private func keepLikely(largest: Float, minP: Float) -> Int {
        var threshold = -Float.greatestFiniteMagnitude
        if minP >= Float.leastNormalMagnitude {
            threshold = largest + Float(ElementaryFunctions.logarithm(Double(minP)))
        }
        var count = 0
        for index in values.indices where values[index] >= threshold {
            candidates[count] = Int32(index)
            count += 1
        }
        return count
    }

    /// top_k: drops the ids whose value is below the k-th largest; ties with it stay.
    private func keepTop(count: Int, topK: Int) -> Int {
        guard topK > 0, topK < count else { return count }
        var heap = CandidateHeap(ids: selection, values: valuesBase)
        for place in 0..<count { heap.offer(candidates[place], limit: topK) }
        let threshold = values[Int(heap.worst)]
        var kept = 0
        for place in 0..<count where values[Int(candidates[place])] >= threshold {
            candidates[kept] = candidates[place]
            kept += 1
        }
        return kept
    }

    /// top_p: keeps the most likely ids, as many as are needed to reach `mass`; at least 1.
    ///
    /// An id stays if those before it, most likely first, weigh less than `mass`: vLLM's rule read
    /// from the other end. Only the bucket of values in which `mass` is reached is put in order.
    private func keepNucleus(count: Int, largest: Float, mass: Double) -> Int {
        bucketWeights.update(repeating: 0)
        for place in 0..<count {
            let id = Int(candidates[place])
            bucketWeights[NucleusBuckets.index(distance: largest - values[id])] += weights[id]
        }
        var last = 0
        var reached = 0.0
        while last < NucleusBuckets.count - 1, reached + bucketWeights[last] < mass {
            reached += bucketWeights[last]
            last += 1
        }
        var kept = 0
        var undecided = 0
        for place in 0..<count {
            let id = candidates[place]
            let bucket = NucleusBuckets.index(distance: largest - values[Int(id)])
            if bucket < last {
                candidates[kept] = id
                kept += 1
            } else if bucket == last {
                selection[undecided] = id
                undecided += 1
            }
        }
        var heap = CandidateHeap(ids: selection, values: valuesBase)
        heap.makeBestFirst(count: undecided)
        while heap.count > 0 && (reached < mass || kept == 0) {
            let id = heap.takeBest()
            reached += weights[Int(id)]
            candidates[kept] = id
            kept += 1
        }
        return kept
    }

    /// The exponential race: the token with the least -ln(u) / weight wins, which each does with
    /// a probability in proportion to its weight. Each token's u depends on nothing but seed,
    /// position and id, so a small change of the weights rarely changes the winner.
    private func race(count: Int, source: RandomSource) -> Int32 {
        var winner = candidates[0]
        var least = Double.infinity
        for place in 0..<count {
            let id = candidates[place]
            let weight = weights[Int(id)]
            let uniform = source.uniform(tokenID: id)
            // -ln(u) >= 1 - u, so most are out without a logarithm.
            guard 1 - uniform <= least * weight, weight > 0 else { continue }
            let time = -ElementaryFunctions.logarithm(uniform) / weight
            if time < least || (time == least && id < winner) {
                least = time
                winner = id
            }
        }
        return winner
    }

    // MARK: Logprobs

    private func score(
        _ logits: UnsafeBufferPointer<Float>,
        tokenID: Int32,
        topCount: Int
    ) -> TokenLogprobs {
        let normalizer = logSumExponentials(logits)
        let value = logits[Int(tokenID)]
        var rank: Int32 = 1
        for index in 0..<tokenizerVocabularyCount
        where logits[index] > value || (logits[index] == value && index < Int(tokenID)) {
            rank += 1
        }
        guard topCount > 0, let base = logits.baseAddress else {
            return TokenLogprobs(
                tokenID: tokenID, logprob: Float(Double(value) - normalizer), rank: rank, top: [])
        }
        let limit = min(topCount, tokenizerVocabularyCount)
        var heap = CandidateHeap(ids: selection, values: base)
        for index in 0..<Int32(tokenizerVocabularyCount) { heap.offer(index, limit: limit) }
        heap.sortBestFirst()
        let top = selection[0..<limit].map { id in
            TokenLogprobs.Candidate(
                tokenID: id, logprob: Float(Double(logits[Int(id)]) - normalizer))
        }
        return TokenLogprobs(
            tokenID: tokenID, logprob: Float(Double(value) - normalizer), rank: rank, top: top)
    }

    /// ln of the sum of e to each logit, in double precision.
    private func logSumExponentials(_ logits: UnsafeBufferPointer<Float>) -> Double {
        let largest = logits[Int(Self.firstLargest(logits))]
        let sum = ElementaryFunctions.exponentials(logits, largest: largest, into: weights)
        return Double(largest) + ElementaryFunctions.logarithm(sum)
    }

    private var valuesBase: UnsafePointer<Float> {
        guard let base = values.baseAddress else { preconditionFailure("no vocabulary") }
        return UnsafePointer(base)
    }
}
