public import Protocol

/// A sequence as it is handed to the scheduler.
public struct NewSequence: Sendable {
    public let id: SequenceID
    public let promptTokens: [Int32]
    /// Output tokens that another rank had already delivered when it was lost. They are computed
    /// like a prompt and count as output, so the stream goes on as it would have; prompt logprobs
    /// count as delivered with the first of them.
    public let deliveredTokens: [Int32]
    public let parameters: SamplingParameters
    /// Lower is served first, where the policy is ``SchedulerLimits/Policy/priority``.
    public let priority: Int32
    /// Cached blocks are common to sequences with the same one.
    public let cacheSalt: [UInt8]

    /// Prompt, then output.
    var allTokens: [Int32] {
        deliveredTokens.isEmpty ? promptTokens : promptTokens + deliveredTokens
    }

    public init(
        id: SequenceID,
        promptTokens: [Int32],
        deliveredTokens: [Int32] = [],
        parameters: SamplingParameters,
        priority: Int32 = 0,
        cacheSalt: [UInt8] = []
    ) {
        self.cacheSalt = cacheSalt
        self.id = id
        self.promptTokens = promptTokens
        self.deliveredTokens = deliveredTokens
        self.parameters = parameters
        self.priority = priority
    }
}

public enum SubmitAction: Hashable, Sendable {
    case accepted
    case rejected(SubmitRejection)
}

/// Why a sequence was not accepted. Nothing of it is kept.
public enum SubmitRejection: Error, Hashable, Sendable, CustomStringConvertible {
    case queueFull(limit: Int)
    case emptyPrompt
    case tokenOutOfVocabulary(tokenID: Int32, index: Int, vocabularyCount: Int)
    /// The model's length leaves no room for the tokens and one more.
    case promptTooLong(tokenCount: Int, modelLength: Int)
    /// Even alone it could outgrow the KV cache.
    case neverFits(blocksNeeded: Int, blockCount: Int)
    /// All of max_tokens is delivered, or it is 0 and no prompt logprobs are wanted.
    case nothingToGenerate(maxTokens: Int32, delivered: Int)

    public var description: String {
        switch self {
        case .queueFull(let limit):
            "\(limit) sequences wait already; retry later or on another rank"
        case .emptyPrompt:
            "the prompt is empty; send at least one token"
        case .tokenOutOfVocabulary(let tokenID, let index, let vocabularyCount):
            "token \(tokenID) at index \(index) is not in 0 ..< \(vocabularyCount)"
        case .promptTooLong(let tokenCount, let modelLength):
            "\(tokenCount) tokens leave no room for output in the model's length of "
                + "\(modelLength); shorten the prompt"
        case .neverFits(let blocksNeeded, let blockCount):
            "prompt and max_tokens need \(blocksNeeded) KV blocks of \(blockCount); shorten the "
                + "prompt or lower max_tokens"
        case .nothingToGenerate(let maxTokens, let delivered):
            "max_tokens is \(maxTokens), \(delivered) tokens are delivered and no prompt "
                + "logprobs are wanted; nothing is left to do"
        }
    }
}

public enum CancelAction: Hashable, Sendable {
    /// Its blocks are free.
    case freed
    /// It is part of the step being executed: its result will be dropped and its blocks will be
    /// freed when that step completes.
    case freedAtStepEnd
    /// It is not known: finished or cancelled before.
    case unknown
}

/// What a step computed for one entry of its plan.
public struct EntryResult: Hashable, Sendable {
    public enum Outcome: Hashable, Sendable {
        /// The entry does not sample.
        case notSampled
        case sampled(SampledToken)
        /// The sequence ends with ``FinishReason/error``.
        case failed(SamplingError)
    }

    public var outcome: Outcome
    /// Row i of the entry scores the prompt token at its position + 1; empty where the sequence
    /// does not ask.
    public var promptLogprobs: [TokenLogprobs]

    public init(outcome: Outcome, promptLogprobs: [TokenLogprobs] = []) {
        self.outcome = outcome
        self.promptLogprobs = promptLogprobs
    }
}

/// The news of one sequence after a step. A finish comes exactly once and last.
public struct SequenceUpdate: Hashable, Sendable {
    public struct Finish: Hashable, Sendable {
        public let reason: FinishReason
        /// The id from stop_token_ids that ended it; nil for an end-of-sequence token.
        public let stopTokenID: Int32?
        /// Set where the reason is ``FinishReason/error``.
        public let error: SamplingError?

        public init(reason: FinishReason, stopTokenID: Int32? = nil, error: SamplingError? = nil) {
            self.reason = reason
            self.stopTokenID = stopTokenID
            self.error = error
        }
    }

    public let sequence: SequenceID
    /// The new token and, where asked for, its logprobs.
    public let token: SampledToken?
    /// For the prompt's tokens from the second on; set exactly once, when the prompt is complete,
    /// and only where asked for.
    public let promptLogprobs: [TokenLogprobs]?
    public let finish: Finish?
    /// Prompt tokens that the prefix cache had when the sequence was first admitted.
    public let cachedPromptTokens: Int
}

/// Counters of one scheduler, for load reports and metrics.
public struct SchedulerStatistics: Hashable, Sendable {
    public var running = 0
    public var waiting = 0
    /// Owned part of the KV cache, 0 ... 1.
    public var kvUsage = 0.0
    public var preemptionsTotal = 0
    /// Prompt positions computed or found in the prefix cache, each once: recomputing after a
    /// preemption is not counted.
    public var promptTokensTotal = 0
    public var generationTokensTotal = 0
    /// Tokens of sequences that were looked up in the prefix cache, when first admitted, and how
    /// many of them were found there.
    public var prefixQueriesTotal = 0
    public var prefixHitsTotal = 0

    public init() {}
}
