internal import DaemonRuntime
internal import Protocol

extension GenerationCall {
    /// Reads the body of `POST /v1/chat/completions`.
    public static func parseChat(
        body: [UInt8], headers: Headers, defaults: ModelDefaults
    ) throws(APIError) -> GenerationCall {
        try ChatRequestParser.parse(
            fields: try RequestFields(body: body), headers: headers, defaults: defaults)
    }
}

/// `POST /v1/chat/completions`: OpenAI's chats with vLLM's extensions.
enum ChatRequestParser {
    private static let efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"]

    static func parse(
        fields: RequestFields, headers: GenerationCall.Headers, defaults: ModelDefaults
    ) throws(APIError) -> GenerationCall {
        let model = try CommonFields.model(fields, defaults: defaults)
        try UnsupportedFields.refuse(in: fields)
        try UnsupportedFields.refuseTools(in: fields)
        var call = GenerationCall(
            kind: .chat, model: model, input: .messages(try ChatMessageParser.messages(fields)),
            defaults: defaults)
        try CommonFields.parse(fields, headers: headers, into: &call)
        call.count = try SamplingFields.count(try fields.integer("n") ?? 1)
        call.sampling = try SamplingFields.parse(fields, count: call.count, defaults: defaults)
        // The template writes them.
        call.addSpecialTokens = try fields.bool("add_special_tokens", default: false)
        call.echo = try fields.bool("echo", default: false)
        try parseReasoning(fields)
        let prompt = try generationPrompt(fields)
        call.addGenerationPrompt = prompt.isAdded
        call.continueFinalMessage = prompt.continuesFinalMessage
        try parseMaxTokens(fields, into: &call)
        try parseLogprobs(fields, defaults: defaults, into: &call)
        return call
    }

    /// Reasoning is part of the text, as with a vLLM that has no reasoning parser; the template
    /// of these models doesn't read the effort.
    private static func parseReasoning(_ fields: RequestFields) throws(APIError) {
        _ = try fields.bool("include_reasoning", default: true)
        if let effort = try fields.string("reasoning_effort"), !efforts.contains(effort) {
            throw .invalidField(
                name: "reasoning_effort",
                reason: "must be one of \(efforts.joined(separator: ", ")), got \"\(effort)\"")
        }
    }

    /// Two flags of the template that can't both be set; the first one is, unless it's said.
    static func generationPrompt(
        _ fields: RequestFields
    ) throws(APIError) -> (isAdded: Bool, continuesFinalMessage: Bool) {
        let isAdded = try fields.bool("add_generation_prompt", default: true)
        let continues = try fields.bool("continue_final_message", default: false)
        if continues && isAdded {
            throw .invalidField(
                name: "continue_final_message",
                reason: "needs add_generation_prompt to be false: they are not compatible")
        }
        return (isAdded, continues)
    }

    private static func parseMaxTokens(
        _ fields: RequestFields, into call: inout GenerationCall
    ) throws(APIError) {
        // The older name is checked even where the newer one wins.
        let older = try fields.integer("max_tokens")
        let newer = try fields.integer("max_completion_tokens")
        guard let maxTokens = newer ?? older else { return }
        try CommonFields.checkMaxTokens(
            maxTokens, name: newer == nil ? "max_tokens" : "max_completion_tokens", minimum: 1,
            minTokens: call.sampling.minTokens, contextLength: call.contextLength)
        call.maxTokens = maxTokens
    }

    private static func parseLogprobs(
        _ fields: RequestFields, defaults: ModelDefaults, into call: inout GenerationCall
    ) throws(APIError) {
        let isOn = try fields.bool("logprobs") ?? false
        let value = try fields.integer("top_logprobs") ?? 0
        let count = try SamplingFields.logprobs(value, name: "top_logprobs", defaults: defaults)
        if !isOn && value != 0 {
            throw .invalidField(name: "top_logprobs", reason: "needs logprobs to be true")
        }
        let asTokenIDs = try fields.bool("return_tokens_as_token_ids") ?? false
        let promptCount = try CommonFields.promptLogprobs(
            fields, stream: call.stream, defaults: defaults)
        call.sampling.promptLogprobs = promptCount
        call.returnPromptLogprobs = promptCount != nil
        guard isOn, let count else { return }
        call.sampling.logprobs = count
        call.logprobs = LogprobsFormat(topCount: Int(count), tokensAsTokenIDs: asTokenIDs)
    }
}
