internal import Protocol

/// One sequence of a call, on its way from tokens to text: its machine, its detokenizer, its stop
/// strings, and what a whole answer will need of it.
///
/// Not thread-safe; belongs to the gateway's loop.
final class Choice {
    let index: Int
    let promptTokens: [Int32]
    let sampling: SamplingParameters
    let requestID: RequestID
    private let call: GenerationCall
    private let tokenizer: Tokenizer
    /// What `echo` puts in front.
    private let promptText: String

    var machine = ChoiceStateMachine()
    /// What names it at the rank that has it.
    var ticket: RankRouter.Ticket?
    /// Names of its full blocks; nil where they are not wanted.
    var blocks: PromptBlocks?
    /// When its rank was told.
    var submittedAt: Instant?
    /// While no rank has it.
    var parkedSince: Instant?
    var firstTokenAt: Instant?
    /// At its first rank, before the first tick that computed it.
    var queued = Interval.zero
    var lastTokenAt: Instant?
    private(set) var outputTokens: [Int32] = []
    /// Tokens of the prompt that its first rank had cached.
    private(set) var cachedPromptTokens = 0
    /// Everything so far, for an answer that does not stream.
    private(set) var whole: ChoiceText
    private var detokenizer: IncrementalDetokenizer
    private var matcher: StopStringMatcher
    private var began = false
    /// Unicode scalars of `whole.text`, which grows to the length of the answer.
    private var scalarCount = 0
    private var hasPromptLogprobs = false

    init(
        index: Int,
        call: GenerationCall,
        promptTokens: [Int32],
        promptText: String,
        sampling: SamplingParameters,
        requestID: RequestID,
        tokenizer: Tokenizer
    ) {
        self.index = index
        self.call = call
        self.promptTokens = promptTokens
        self.promptText = promptText
        self.sampling = sampling
        self.requestID = requestID
        self.tokenizer = tokenizer
        whole = ChoiceText(index: index, text: "")
        detokenizer = IncrementalDetokenizer(
            tokenizer: tokenizer, skipSpecialTokens: call.skipSpecialTokens)
        matcher = StopStringMatcher(
            stopStrings: call.stop, includesStopString: call.includeStopStringInOutput)
        if call.logprobs != nil { whole.logprobs = [] }
        if call.returnTokenIDs {
            whole.tokenIDs = []
            whole.promptTokenIDs = promptTokens
        }
    }

    /// Takes what a step brought.
    ///
    /// - Returns: what it adds to the choice; its finish reason is set when a stop string ended the
    ///   sequence or the leader did.
    func receive(_ output: RequestOutput) -> ChoiceText {
        var delta = ChoiceText(index: index, text: "")
        delta.textOffset = scalarCount
        if call.logprobs != nil { delta.logprobs = [] }
        if call.returnTokenIDs { delta.tokenIDs = [] }
        begin(with: output, &delta)
        let endedByToken = output.finishReason == .stop && !call.includeStopStringInOutput
        for (place, token) in output.tokenIDs.enumerated() {
            outputTokens.append(token)
            delta.tokenIDs?.append(token)
            if place < output.logprobs.count {
                delta.logprobs?.append(entry(output.logprobs[place]))
            }
            let isLast = place == output.tokenIDs.count - 1
            // The token that stops the sequence is no text.
            let text = isLast && endedByToken ? "" : detokenizer.append(token)
            let mayStop = outputTokens.count > Int(sampling.minTokens)
            let released = matcher.append(text, mayStop: mayStop)
            delta.text += released.text
            if let stopString = released.stopString {
                delta.finishReason = .stop
                delta.stopReason = .text(stopString)
                add(delta)
                return delta
            }
        }
        if let reason = output.finishReason { finish(reason, output.stopTokenID, &delta) }
        add(delta)
        return delta
    }

    private func begin(with output: RequestOutput, _ delta: inout ChoiceText) {
        if !began {
            began = true
            cachedPromptTokens = Int(output.cachedPromptTokens)
            delta.promptTokenIDs = call.returnTokenIDs ? promptTokens : nil
            if call.echo { delta.text = promptText }
        }
        guard !output.promptLogprobs.isEmpty || promptTokens.count == 1 else { return }
        guard call.returnPromptLogprobs || (call.echo && call.logprobs != nil) else { return }
        // A rank that continues the sequence computes them again.
        guard !hasPromptLogprobs else { return }
        hasPromptLogprobs = true
        let first = promptTokens[0]
        let prompt =
            [LogprobEntry.promptStart(tokenID: first, text: tokenizer.tokenText(first))]
            + output.promptLogprobs.map(entry)
        if call.echo { delta.logprobs?.append(contentsOf: prompt) }
        delta.promptLogprobs = prompt
    }

    private func finish(_ reason: FinishReason, _ stopToken: Int32?, _ delta: inout ChoiceText) {
        let rest = matcher.append(detokenizer.finish())
        delta.text += rest.text
        delta.finishReason = reason
        if let stopString = rest.stopString {
            delta.finishReason = .stop
            delta.stopReason = .text(stopString)
            return
        }
        delta.text += matcher.finish()
        if let stopToken { delta.stopReason = .token(stopToken) }
    }

    private func add(_ delta: ChoiceText) {
        whole.text += delta.text
        scalarCount += delta.text.unicodeScalars.count
        whole.logprobs?.append(contentsOf: delta.logprobs ?? [])
        whole.tokenIDs?.append(contentsOf: delta.tokenIDs ?? [])
        whole.promptLogprobs = whole.promptLogprobs ?? delta.promptLogprobs
        whole.finishReason = delta.finishReason
        whole.stopReason = delta.stopReason
        if !call.returnPromptLogprobs { whole.promptLogprobs = nil }
    }

    private func entry(_ logprobs: TokenLogprobs) -> LogprobEntry {
        LogprobEntry(
            token: candidate(logprobs.tokenID, logprobs.logprob),
            rank: logprobs.rank,
            top: logprobs.top.map { candidate($0.tokenID, $0.logprob) })
    }

    private func candidate(_ token: Int32, _ logprob: Float) -> LogprobEntry.Candidate {
        LogprobEntry.Candidate(
            tokenID: token,
            text: tokenizer.tokenText(token),
            bytes: tokenizer.tokenBytes(token),
            logprob: logprob)
    }
}
