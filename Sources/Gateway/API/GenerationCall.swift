public import Protocol

/// A call for text, of either kind, after every check that needs no tokenizer.
///
/// It cannot hold a value that vLLM would refuse, but for what depends on the length of the
/// prompt, which ``samplingParameters(promptTokens:choice:drawnSeed:)`` checks.
public struct GenerationCall: Sendable, Hashable {
    public enum Kind: Hashable, Sendable {
        case completion
        case chat
    }

    /// One prompt of a completion.
    public enum PromptInput: Hashable, Sendable {
        case text(String)
        /// Not empty; ids of the vocabulary.
        case tokens([Int32])
    }

    public enum Input: Hashable, Sendable {
        /// 1 to 1,024 of them; choice `i * count + j` is the j-th of prompt i.
        case prompts([PromptInput])
        case messages([ChatMessage])
    }

    /// The end of a prompt that truncation cuts off.
    public enum TruncationSide: Hashable, Sendable {
        /// The last tokens stay; vLLM's default.
        case left
        case right
    }

    public let kind: Kind
    /// As the client wrote it; it is one of the served names, empty, or nil.
    public let model: String?
    public let input: Input
    /// Sequences for each prompt, in 1...16,384.
    public var count = 1
    /// Without `maxTokens` and `seed`, which ``samplingParameters(promptTokens:choice:drawnSeed:)``
    /// fills in.
    public var sampling = SamplingParameters()
    /// nil is what the context leaves, or the model's own default.
    public var maxTokens: Int?
    public var seed: Int64?
    /// At most 4, none empty.
    public var stop: [String] = []
    public var includeStopStringInOutput = false
    public var skipSpecialTokens = true

    public var stream = false
    public var includeUsage = false
    public var continuousUsage = false
    /// The prompt (a chat's: the last message, where its role is the answer's) comes first.
    public var echo = false
    /// How logprobs are printed; nil prints none. What the engine returns is in `sampling`.
    public var logprobs: LogprobsFormat?
    /// The client asked for `prompt_logprobs`; `sampling.promptLogprobs` is also set for `echo`.
    public var returnPromptLogprobs = false
    public var returnTokenIDs = false

    public var addSpecialTokens = true
    public var addGenerationPrompt = true
    public var continueFinalMessage = false
    /// -1 is what the context leaves after `maxTokens`.
    public var truncatePromptTokens: Int?
    public var truncationSide = TruncationSide.left

    /// Lower is earlier; 0 is what everyone has.
    public var priority: Int64 = 0
    /// Cached prompts are common to calls with the same one, nil among them.
    public var cacheSalt: String?
    /// The client's id of the request, from the header or the body.
    public var requestID: String?
    /// The rank that the client chose; the router checks that it exists.
    public var dataParallelRank: Int?
    /// Tokens of prompt and output together, of the model.
    public let contextLength: Int
    /// The model's own bound where the call has none.
    public let defaultMaxTokens: Int?

    init(kind: Kind, model: String?, input: Input, defaults: ModelDefaults) {
        self.kind = kind
        self.model = model
        self.input = input
        self.contextLength = defaults.contextLength
        self.defaultMaxTokens = defaults.sampling.maxNewTokens
    }

    /// What the request's header fields say; values as they came.
    public struct Headers: Hashable, Sendable {
        /// `X-Request-Id`; it wins over the body's `request_id`.
        public var requestID: String?
        /// `X-data-parallel-rank`; as in vLLM, what is no whole number is as if it were missing.
        public var dataParallelRank: String?
        /// `priority`; it wins over the body's.
        public var priority: String?

        public init(
            requestID: String? = nil, dataParallelRank: String? = nil, priority: String? = nil
        ) {
            self.requestID = requestID
            self.dataParallelRank = dataParallelRank
            self.priority = priority
        }
    }
}

extension GenerationCall {
    /// The parameters of one sequence, once its prompt is counted.
    ///
    /// - Parameters:
    ///   - promptTokens: Tokens of the prompt, after truncation.
    ///   - choice: Which of the `count` sequences of the prompt; each has its own seed.
    ///   - drawnSeed: A random number, used where the client gave no seed.
    /// - Throws: `contextTooLong` when prompt and output don't fit, `invalidField` for an empty
    ///   prompt and for a `min_tokens` above what is left.
    public func samplingParameters(
        promptTokens: Int, choice: Int, drawnSeed: UInt64
    ) throws(APIError) -> SamplingParameters {
        precondition(choice >= 0 && choice < count, "choice \(choice) of \(count)")
        let inputName = kind == .chat ? "messages" : "prompt"
        if promptTokens < 1 {
            throw .invalidField(name: inputName, reason: "must have at least one token")
        }
        // Without a bound a sequence still needs room for one token.
        let requested = maxTokens ?? 1
        if promptTokens > contextLength - min(requested, contextLength) {
            throw .contextTooLong(
                limit: contextLength, requestedOutput: requested, promptTokens: promptTokens)
        }
        let room = contextLength - promptTokens
        let limit = maxTokens ?? min(room, defaultMaxTokens ?? room)
        if Int(sampling.minTokens) > limit {
            throw .invalidField(
                name: "min_tokens",
                reason: "must be less than or equal to max_tokens=\(limit), "
                    + "got \(sampling.minTokens)")
        }
        var result = sampling
        result.maxTokens = Int32(clamping: limit)
        // Without output the prompt's scores are what an engine computes; a pure echo drops them.
        if limit == 0 { result.promptLogprobs = result.promptLogprobs ?? 0 }
        // vLLM: the j-th sequence of a seeded request has seed + j.
        let base = seed.map { UInt64(bitPattern: $0) } ?? drawnSeed
        result.seed = base &+ UInt64(choice)
        return result
    }

    /// The prompt with `truncate_prompt_tokens` applied.
    public func truncated(_ tokens: [Int32]) -> [Int32] {
        guard let truncatePromptTokens else { return tokens }
        let limit =
            truncatePromptTokens == -1
            ? max(contextLength - (maxTokens ?? 1), 0) : truncatePromptTokens
        switch truncationSide {
        case .left: return Array(tokens.suffix(limit))
        case .right: return Array(tokens.prefix(limit))
        }
    }

    /// Refuses a text that can't fit, before the tokenizer spends time on it.
    ///
    /// - Parameters:
    ///   - text: The prompt, or a chat as the template rendered it.
    ///   - tokenCharactersMax: Unicode scalars of the longest token of the vocabulary.
    /// - Throws: `textTooLong`, unless the call asks for truncation.
    public func checkLength(of text: String, tokenCharactersMax: Int) throws(APIError) {
        precondition(tokenCharactersMax > 0, "tokens of \(tokenCharactersMax) characters")
        if truncatePromptTokens != nil { return }
        let (limit, isOverflow) = contextLength.multipliedReportingOverflow(
            by: tokenCharactersMax)
        // A scalar has at least one byte, so most texts need no count.
        if isOverflow || text.utf8.count <= limit { return }
        let count = text.unicodeScalars.count
        if count > limit { throw .textTooLong(characters: count, limit: limit) }
    }

    /// The role of a chat's answer: the assistant's, or without a generation prompt the one that
    /// goes on speaking.
    public var answerRole: String {
        guard case .messages(let messages) = input, !addGenerationPrompt else {
            return "assistant"
        }
        return messages.last?.role ?? "assistant"
    }

    /// What `echo` puts before a chat's answer; a completion echoes its prompt instead.
    public var echoedContent: String? {
        guard echo, case .messages(let messages) = input, let last = messages.last,
            last.role == answerRole, let content = last.content, !content.isEmpty
        else { return nil }
        return content
    }
}
