internal import CKernels
internal import Protocol

/// Chooses and scores tokens with the scratch of one thread.
final class RowSampler {
    private let vocabularyCount: Int
    private let tokenizerVocabularyCount: Int
    private let eosTokenIDs: [Int32]
    private let passes: LogitRow.Passes

    /// `[tokenizerVocabularyCount]`: the row after masks, bias and penalties.
    private let values: UnsafeMutableBufferPointer<Float>
    /// Maxima of the blocks of the logits, of `values`, and of the logits of padding.
    private let logitMaxima: UnsafeMutablePointer<Float>
    private let valueMaxima: UnsafeMutablePointer<Float>
    private let paddingMaxima: UnsafeMutablePointer<Float>
    /// `[tokenizerVocabularyCount]` each: ids that a pass lists, and the best few of them.
    private let ids: UnsafeMutableBufferPointer<Int32>
    private let selection: UnsafeMutableBufferPointer<Int32>

    init(
        vocabularyCount: Int, tokenizerVocabularyCount: Int, eosTokenIDs: [Int32],
        passes: LogitRow.Passes
    ) {
        self.vocabularyCount = vocabularyCount
        self.tokenizerVocabularyCount = tokenizerVocabularyCount
        self.eosTokenIDs = eosTokenIDs
        self.passes = passes
        let padding = vocabularyCount - tokenizerVocabularyCount
        let blocks = LogitRow.blockCount(tokenizerVocabularyCount)
        values = .allocate(capacity: tokenizerVocabularyCount)
        logitMaxima = .allocate(capacity: blocks)
        valueMaxima = .allocate(capacity: blocks)
        paddingMaxima = .allocate(capacity: LogitRow.blockCount(padding))
        ids = .allocate(capacity: tokenizerVocabularyCount)
        selection = .allocate(capacity: tokenizerVocabularyCount)
        values.initialize(repeating: 0)
        logitMaxima.initialize(repeating: 0, count: blocks)
        valueMaxima.initialize(repeating: 0, count: blocks)
        paddingMaxima.initialize(repeating: 0, count: LogitRow.blockCount(padding))
        ids.initialize(repeating: 0)
        selection.initialize(repeating: 0)
    }

    deinit {
        values.deallocate()
        logitMaxima.deallocate()
        valueMaxima.deallocate()
        paddingMaxima.deallocate()
        ids.deallocate()
        selection.deallocate()
    }

    func sample(
        logits: UnsafeBufferPointer<Float>,
        request: SamplingRequest
    ) throws(SamplingError) -> SampledToken {
        let (row, padding) = try scan(logits)
        let tokenID: Int32
        if Self.isUnmodified(request) {
            tokenID = choose(request, row: row)
        } else {
            modify(logits, request: request)
            let modified = view(UnsafePointer(base(values)), count: values.count, valueMaxima)
            _ = modified.scan()
            guard modified.largest > -.infinity else { throw .everyTokenMasked }
            tokenID = choose(request, row: modified)
        }
        guard let topCount = request.parameters.logprobs else {
            return SampledToken(tokenID: tokenID, logprobs: nil)
        }
        let logprobs = score(row, padding, tokenID: tokenID, topCount: Int(topCount))
        return SampledToken(tokenID: tokenID, logprobs: logprobs)
    }

    func logprobs(
        logits: UnsafeBufferPointer<Float>,
        tokenID: Int32,
        topCount: Int
    ) throws(SamplingError) -> TokenLogprobs {
        let (row, padding) = try scan(logits)
        return score(row, padding, tokenID: tokenID, topCount: topCount)
    }

    // MARK: Logits

    /// Looks at every logit once; returns those of the tokenizer's tokens and those of padding.
    private func scan(
        _ logits: UnsafeBufferPointer<Float>
    ) throws(SamplingError) -> (row: LogitRow, padding: LogitRow) {
        precondition(
            logits.count == vocabularyCount, "\(logits.count) logits, not \(vocabularyCount)")
        guard let start = logits.baseAddress else { preconditionFailure("no vocabulary") }
        let row = view(start, count: tokenizerVocabularyCount, logitMaxima)
        let padding = view(
            start + tokenizerVocabularyCount, count: vocabularyCount - tokenizerVocabularyCount,
            paddingMaxima)
        if let bad = row.scan() { throw .logitNotFinite(tokenID: bad) }
        if let bad = padding.scan() {
            throw .logitNotFinite(tokenID: bad + Int32(tokenizerVocabularyCount))
        }
        guard row.largest > -.infinity else { throw .noFiniteLogit }
        return (row, padding)
    }

    private func view(
        _ values: UnsafePointer<Float>, count: Int, _ maxima: UnsafeMutablePointer<Float>
    ) -> LogitRow {
        LogitRow(values: values, count: count, maxima: maxima, passes: passes)
    }

    private func base(
        _ buffer: UnsafeMutableBufferPointer<Float>
    ) -> UnsafeMutablePointer<Float> {
        guard let base = buffer.baseAddress else { preconditionFailure("no vocabulary") }
        return base
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

    private func choose(_ request: SamplingRequest, row: LogitRow) -> Int32 {
        let parameters = request.parameters
        let best = row.firstLargest
        guard parameters.temperature > 0 else { return best }
        let temperature = Temperature(divisor: parameters.temperature)
        let largest = temperature(row[best])
        // A tiny temperature may carry the best past the largest float: then it alone is left.
        guard largest.isFinite else { return best }
        var cut = TokenCut(row: row, temperature: temperature, largest: largest)
        cut.keepLikely(minP: parameters.minP)
        cut.keepTop(Int(parameters.topK), ids: ids, selection: selection)
        cut.keepNucleus(parameters.topP, ids: ids)
        let source = RandomSource(seed: parameters.seed, position: request.position)
        var race = ExponentialRace(cut: cut, source: source, best: best)
        return race.finish(ids: ids)
    }

    // MARK: Logprobs

    private func score(
        _ row: LogitRow, _ padding: LogitRow,
        tokenID: Int32,
        topCount: Int
    ) -> TokenLogprobs {
        let largest = max(row.largest, padding.largest)
        let sum = row.sumExponentials(largest: largest) + padding.sumExponentials(largest: largest)
        let normalizer = Double(largest) + ElementaryFunctions.logarithm(sum)
        let logprob = { (id: Int32) in Float(Double(row[id]) - normalizer) }
        let rank = rank(of: tokenID, in: row)
        guard topCount > 0 else {
            return TokenLogprobs(
                tokenID: tokenID, logprob: logprob(tokenID), rank: rank, top: [])
        }
        let limit = min(topCount, row.count)
        let count = row.gatherLargest(limit, floor: -.infinity, into: ids)
        var heap = CandidateHeap(ids: selection, values: row.values)
        for place in 0..<count { heap.offer(ids[place], limit: limit) }
        heap.sortBestFirst()
        let top = selection[0..<limit].map { id in
            TokenLogprobs.Candidate(tokenID: id, logprob: logprob(id))
        }
        return TokenLogprobs(tokenID: tokenID, logprob: logprob(tokenID), rank: rank, top: top)
    }

    /// 1 and the tokens with a larger logit, or with an equal one and a lower id.
    private func rank(of tokenID: Int32, in row: LogitRow) -> Int32 {
        let value = row[tokenID]
        let equals = row.gather(from: value, below: value.nextUp, into: ids)
        var rank = 1 + row.countAbove(value)
        for place in 0..<equals where ids[place] < tokenID { rank += 1 }
        return Int32(rank)
    }
}
