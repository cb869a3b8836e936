public import Protocol

/// What the sampler must know of a sequence to choose its next token.
public struct SamplingRequest: Sendable {
    public let parameters: SamplingParameters
    /// Index of the token to choose in prompt and output together; keys the random source.
    public let position: Int
    /// Output tokens chosen before it.
    public let outputCount: Int
    /// Which tokens occurred before; nil where no penalty is on.
    public let occurrences: TokenOccurrences?

    public init(
        parameters: SamplingParameters,
        position: Int,
        outputCount: Int,
        occurrences: TokenOccurrences?
    ) {
        self.parameters = parameters
        self.position = position
        self.outputCount = outputCount
        self.occurrences = occurrences
    }
}

/// A chosen token.
public struct SampledToken: Hashable, Sendable {
    public let tokenID: Int32
    /// Under the unmodified logits; nil where the request did not ask.
    public let logprobs: TokenLogprobs?

    public init(tokenID: Int32, logprobs: TokenLogprobs?) {
        self.tokenID = tokenID
        self.logprobs = logprobs
    }
}

/// Why no token could be chosen. It ends one request; the others of the step are not touched.
public enum SamplingError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The model gave NaN or +infinity.
    case logitNotFinite(tokenID: Int32)
    /// Every token has the logit -infinity in the model's output.
    case noFiniteLogit
    /// The masks of the request leave no token.
    case everyTokenMasked

    public var description: String {
        switch self {
        case .logitNotFinite(let tokenID):
            "the model's logit for token \(tokenID) is NaN or +infinity; the weights or a kernel "
                + "are damaged"
        case .noFiniteLogit:
            "the model's logits are all -infinity; the weights or a kernel are damaged"
        case .everyTokenMasked:
            "allowed_token_ids, min_tokens and logit_bias together leave no token to sample; "
                + "allow more tokens"
        }
    }
}

/// Which tokens occurred in a sequence, and how often in its output: what the penalties read.
///
/// Kept up to date token by token. The distinct tokens are an array in order of first occurrence,
/// so that applying penalties walks no dictionary.
///
/// Source: the penalties of the OpenAI API (frequency, presence; output only) and of CTRL (Keskar
/// et al., 2019; repetition; prompt and output).
public struct TokenOccurrences: Hashable, Sendable {
    /// Distinct tokens of prompt and output.
    public private(set) var tokenIDs: [Int32] = []
    /// Occurrences in the output of the token at the same place of `tokenIDs`; 0 is prompt only.
    public private(set) var outputCounts: [Int32] = []
    private var places: [Int32: Int] = [:]

    public init(prompt: some Sequence<Int32>) {
        for tokenID in prompt where places[tokenID] == nil { add(tokenID, outputCount: 0) }
    }

    public mutating func appendOutput(_ tokenID: Int32) {
        if let place = places[tokenID] {
            outputCounts[place] += 1
        } else {
            add(tokenID, outputCount: 1)
        }
    }

    private mutating func add(_ tokenID: Int32, outputCount: Int32) {
        places[tokenID] = tokenIDs.count
        tokenIDs.append(tokenID)
        outputCounts.append(outputCount)
    }
}

extension SamplingParameters {
    /// Whether any penalty changes a logit, so that occurrences must be counted.
    var usesPenalties: Bool {
        presencePenalty != 0 || frequencyPenalty != 0 || repetitionPenalty != 1
    }
}
