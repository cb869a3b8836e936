internal import CKernels
public import Protocol

/// Chooses tokens from logits: a pure function of the logits, the request and the position.
///
/// The order of operations is that of vLLM's V1 sampler: the unmodified logits are kept for the
/// logprobs; allowed_token_ids; min_tokens; logit_bias; repetition, frequency and presence
/// penalty; greedy rows end here; temperature; min_p; top_k; top_p; and an exponential race over
/// what is left, with the randomness of ``RandomSource``.
///
/// A row is read in passes of CKernels' `ck_sampling`, which give the same bits on every CPU. It
/// owns scratch for a row a thread and allocates nothing as long as the vocabulary for a token.
/// One caller at a time. It must never write to the logits.
public final class Sampler {
    /// Length of a row of logits.
    public let vocabularyCount: Int
    /// Ids from here on are padding of the embedding: never sampled, never listed.
    public let tokenizerVocabularyCount: Int

    let runner: any RowRunner
    /// One a thread of `runner`.
    let rowSamplers: [RowSampler]
    let steps: StepRows

    /// - Parameter runner: the threads that share the rows of a step.
    public convenience init(
        vocabularyCount: Int, tokenizerVocabularyCount: Int, eosTokenIDs: [Int32],
        runner: any RowRunner = SequentialRows()
    ) {
        self.init(
            vocabularyCount: vocabularyCount, tokenizerVocabularyCount: tokenizerVocabularyCount,
            eosTokenIDs: eosTokenIDs, runner: runner, level: ck_kernels_best())
    }

    /// - Parameter level: of the passes, one that this CPU runs. No result depends on it.
    init(
        vocabularyCount: Int, tokenizerVocabularyCount: Int, eosTokenIDs: [Int32],
        runner: any RowRunner, level: Int32
    ) {
        precondition(
            tokenizerVocabularyCount > 0 && tokenizerVocabularyCount <= vocabularyCount
                && vocabularyCount <= Int(Int32.max),
            "\(tokenizerVocabularyCount) tokens in rows of \(vocabularyCount)")
        guard let passes = ck_sampling_select(level) else {
            preconditionFailure("this CPU does not run level \(level)")
        }
        self.vocabularyCount = vocabularyCount
        self.tokenizerVocabularyCount = tokenizerVocabularyCount
        self.runner = runner
        rowSamplers = (0..<runner.threadCount).map { _ in
            RowSampler(
                vocabularyCount: vocabularyCount,
                tokenizerVocabularyCount: tokenizerVocabularyCount, eosTokenIDs: eosTokenIDs,
                passes: passes)
        }
        steps = StepRows(width: vocabularyCount, rowSamplers: rowSamplers)
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
        try rowSamplers[0].sample(logits: logits, request: request)
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
            tokenID >= 0 && Int(tokenID) < vocabularyCount,
            "token \(tokenID) is not in 0 ..< \(vocabularyCount)")
        return try rowSamplers[0].logprobs(logits: logits, tokenID: tokenID, topCount: topCount)
    }
}
