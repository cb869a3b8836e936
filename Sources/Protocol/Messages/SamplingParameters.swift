/// How one sequence's tokens are chosen, with vLLM's names and meanings; already validated.
///
/// The gateway is the border: it refuses bad values with a 400 that names the field, and the
/// decoder of `Submit` checks the same ranges again, so the engine never sees a wrong value.
public struct SamplingParameters: Hashable, Sendable {
    /// 0 means greedy: the largest logit, lowest id on a tie.
    public var temperature: Float = 1
    /// Keep the k largest logits (ties with the k-th are kept); 0 is off.
    public var topK: Int32 = 0
    /// Nucleus sampling, in (0, 1]; 1 is off.
    public var topP: Float = 1
    /// Drop tokens less likely than `minP` times the most likely one, in [0, 1]; 0 is off.
    public var minP: Float = 0
    /// In [-2, 2]; over the output only.
    public var presencePenalty: Float = 0
    /// In [-2, 2]; over the output only.
    public var frequencyPenalty: Float = 0
    /// Above 0; over prompt and output; 1 is off.
    public var repetitionPenalty: Float = 1
    /// Key of the counter-based random source. The gateway draws one where the client gave none.
    public var seed: UInt64 = 0
    /// At least 1 (0 only together with `promptLogprobs`, for `echo` alone).
    public var maxTokens: Int32 = 16
    /// No stop token ends the sequence before this many output tokens.
    public var minTokens: Int32 = 0
    /// Generate on after the end-of-sequence token.
    public var ignoreEOS = false
    /// Token ids that end the sequence, besides the model's own.
    public var stopTokenIDs: [Int32] = []
    /// Return the logprob of each sampled token and of this many most likely ones; nil is off.
    public var logprobs: Int32?
    /// The same for the tokens of the prompt (from its second on).
    public var promptLogprobs: Int32?
    /// Added to the logits before sampling.
    public var logitBias: [LogitBias] = []
    /// When not empty, only these tokens may be sampled.
    public var allowedTokenIDs: [Int32] = []

    public init() {}

    public struct LogitBias: Hashable, Sendable {
        public let tokenID: Int32
        /// In [-100, 100].
        public let bias: Float

        public init(tokenID: Int32, bias: Float) {
            self.tokenID = tokenID
            self.bias = bias
        }
    }
}

/// Why a sequence ended. Raw values are part of the protocol.
public enum FinishReason: UInt8, Hashable, Sendable, CaseIterable {
    case stop = 1
    case length = 2
    case abort = 3
    case error = 4
}

/// A token with its log-probability under the unmodified logits, and the best alternatives.
public struct TokenLogprobs: Hashable, Sendable {
    public struct Candidate: Hashable, Sendable {
        public let tokenID: Int32
        public let logprob: Float

        public init(tokenID: Int32, logprob: Float) {
            self.tokenID = tokenID
            self.logprob = logprob
        }
    }

    public let tokenID: Int32
    public let logprob: Float
    /// 1 for the most likely token.
    public let rank: Int32
    /// Most likely first, ties by lower id; as many as asked for.
    public let top: [Candidate]

    public init(tokenID: Int32, logprob: Float, rank: Int32, top: [Candidate]) {
        self.tokenID = tokenID
        self.logprob = logprob
        self.rank = rank
        self.top = top
    }
}
