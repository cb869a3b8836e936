internal import Protocol

/// One HTTP call that is being answered: its choices and, when it streams, its chunks.
///
/// Pure but for being a class: bytes come out, nothing is sent. It ends exactly once.
final class ActiveCall {
    let exchange: HTTPExchangeID
    let call: GenerationCall
    let identity: ResponseIdentity
    let choices: [Choice]
    let arrived: Instant
    private let template: ChunkTemplate
    private let role: String
    /// `--enable-prompt-tokens-details`
    private let tellsCachedTokens: Bool
    /// The DP rank that the client chose.
    var forcedRank: Int?
    /// The header of the stream is out: errors can only come as events.
    var streamBegan = false
    private(set) var isEnded = false

    init(
        exchange: HTTPExchangeID,
        call: GenerationCall,
        identity: ResponseIdentity,
        choices: [Choice],
        arrived: Instant,
        tellsCachedTokens: Bool
    ) {
        self.tellsCachedTokens = tellsCachedTokens
        self.exchange = exchange
        self.call = call
        self.identity = identity
        self.choices = choices
        self.arrived = arrived
        template = ChunkTemplate(identity: identity, logprobs: call.logprobs)
        role = call.answerRole
    }

    /// Tokens of all prompts (a prompt counts once, whatever `n` is) and of all choices.
    var usage: TokenUsage {
        var (prompt, cached) = (0, 0)
        for (place, choice) in choices.enumerated() where place % call.count == 0 {
            prompt += choice.promptTokens.count
            cached += choice.cachedPromptTokens
        }
        return TokenUsage(
            promptTokens: prompt,
            completionTokens: choices.reduce(0) { $0 + $1.outputTokens.count },
            cachedTokens: tellsCachedTokens ? cached : nil)
    }

    /// The events that a piece of one choice makes.
    func chunk(_ delta: ChoiceText, of choice: Choice, isFirst: Bool, into bytes: inout [UInt8]) {
        let usage =
            call.continuousUsage
            ? TokenUsage(
                promptTokens: choice.promptTokens.count,
                completionTokens: choice.outputTokens.count,
                cachedTokens: tellsCachedTokens ? choice.cachedPromptTokens : nil) : nil
        var delta = delta
        if isFirst && call.kind == .chat {
            template.appendRole(
                role, index: delta.index, promptTokenIDs: delta.promptTokenIDs, usage: usage,
                to: &bytes)
            delta.promptTokenIDs = nil
        }
        template.appendDelta(delta, usage: usage, to: &bytes)
    }

    /// The end of the stream.
    func closing(into bytes: inout [UInt8]) {
        if call.includeUsage { template.appendUsage(usage, to: &bytes) }
        ChunkTemplate.appendDone(to: &bytes)
    }

    /// The answer as a whole.
    func answer() -> [UInt8] {
        GenerationResponse.encode(
            identity, choices: choices.map(\.whole), usage: usage, logprobs: call.logprobs,
            role: role)
    }

    func end() {
        precondition(!isEnded, "\(identity.id) ends twice")
        isEnded = true
    }
}
