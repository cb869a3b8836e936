internal import Protocol

/// The whole answer to a call that doesn't stream; vLLM prints every field it knows, so what
/// isn't there is null.
public enum GenerationResponse {
    /// - Parameters:
    ///   - choices: In the order of their index; with `echo`, the prompt is part of their text.
    ///   - logprobs: How logprobs are printed; nil prints null.
    ///   - role: Of a chat's messages: "assistant", or the last message's without a generation
    ///     prompt.
    /// - Returns: The body, of type application/json.
    public static func encode(
        _ identity: ResponseIdentity, choices: [ChoiceText], usage: TokenUsage,
        logprobs: LogprobsFormat?, role: String = "assistant"
    ) -> [UInt8] {
        precondition(!choices.isEmpty, "an answer of \(identity.id) without choices")
        var writer = JSONWriter(capacity: 1024)
        writer.raw(#"{"id":"#)
        writer.string(identity.id)
        switch identity.kind {
        case .completion: writer.raw(#","object":"text_completion","created":"#)
        case .chat: writer.raw(#","object":"chat.completion","created":"#)
        }
        writer.integer(identity.created)
        writer.raw(#","model":"#)
        writer.string(identity.model)
        writer.raw(#","choices":"#)
        writer.array(choices) { writer, choice in
            switch identity.kind {
            case .completion: write(completion: choice, logprobs: logprobs, to: &writer)
            case .chat: write(chat: choice, role: role, logprobs: logprobs, to: &writer)
            }
        }
        writer.raw(#","service_tier":null,"system_fingerprint":null,"usage":"#)
        writer.usage(usage)
        if identity.kind == .chat {
            // A chat has one prompt, so what is known of it stands outside the choices.
            writer.raw(#","prompt_logprobs":"#)
            writer.promptLogprobs(choices[0].promptLogprobs)
            writer.raw(#","prompt_token_ids":"#)
            writer.integers(choices[0].promptTokenIDs)
            writer.raw(#","prompt_text":null"#)
        }
        writer.raw(#","kv_transfer_params":null}"#)
        return writer.bytes
    }

    private static func write(
        completion choice: ChoiceText, logprobs: LogprobsFormat?, to writer: inout JSONWriter
    ) {
        writer.raw(#"{"index":"#)
        writer.integer(choice.index)
        writer.raw(#","text":"#)
        writer.string(choice.text)
        writer.raw(#","logprobs":"#)
        writer.completionLogprobs(
            choice.logprobs, format: logprobs, offset: choice.textOffset)
        writer.raw(#","finish_reason":"#)
        writer.value(choice.finishReason)
        writer.raw(#","stop_reason":"#)
        writer.value(choice.stopReason)
        writer.raw(#","token_ids":"#)
        writer.integers(choice.tokenIDs)
        writer.raw(#","prompt_logprobs":"#)
        writer.promptLogprobs(choice.promptLogprobs)
        writer.raw(#","prompt_token_ids":"#)
        writer.integers(choice.promptTokenIDs)
        writer.raw("}")
    }

    private static func write(
        chat choice: ChoiceText, role: String, logprobs: LogprobsFormat?,
        to writer: inout JSONWriter
    ) {
        writer.raw(#"{"index":"#)
        writer.integer(choice.index)
        writer.raw(#","message":{"role":"#)
        writer.string(role)
        writer.raw(#","content":"#)
        writer.string(choice.text)
        writer.raw(
            #","refusal":null,"annotations":null,"audio":null,"function_call":null,"#)
        writer.raw(#""reasoning":null},"logprobs":"#)
        writer.chatLogprobs(choice.logprobs, format: logprobs)
        writer.raw(#","finish_reason":"#)
        writer.value(choice.finishReason)
        writer.raw(#","stop_reason":"#)
        writer.value(choice.stopReason)
        writer.raw(#","token_ids":"#)
        writer.integers(choice.tokenIDs)
        writer.raw("}")
    }
}
