internal import Protocol

/// The server-sent events of one streamed call: `data: <chunk>\n\n` each, `data: [DONE]\n\n` last.
///
/// A chunk is sent for nearly every token, so what the chunks of a request have in common is made
/// once, and a chunk is that, the escaped text and a constant end: nothing is allocated but what
/// the output needs to grow. Keys are those that vLLM sends: what it never assigns in a chunk is
/// left out, what it assigns null is null.
public struct ChunkTemplate: Sendable {
    private let kind: GenerationCall.Kind
    private let logprobs: LogprobsFormat?
    /// From `data: {"id":` to `"choices":[`.
    private let prefix: [UInt8]

    /// - Parameter logprobs: How logprobs are printed; nil prints null.
    public init(identity: ResponseIdentity, logprobs: LogprobsFormat?) {
        self.kind = identity.kind
        self.logprobs = logprobs
        var writer = JSONWriter()
        writer.raw(#"data: {"id":"#)
        writer.string(identity.id)
        switch identity.kind {
        case .completion: writer.raw(#","object":"text_completion","created":"#)
        case .chat: writer.raw(#","object":"chat.completion.chunk","created":"#)
        }
        writer.integer(identity.created)
        writer.raw(#","model":"#)
        writer.string(identity.model)
        writer.raw(#","choices":["#)
        self.prefix = writer.bytes
    }

    /// What a chat begins each choice with: its role and no text.
    ///
    /// - Parameters:
    ///   - promptTokenIDs: nil unless asked for with `return_token_ids`.
    ///   - usage: With `continuous_usage_stats`.
    public func appendRole(
        _ role: String = "assistant", index: Int, promptTokenIDs: [Int32]?, usage: TokenUsage?,
        to output: inout [UInt8]
    ) {
        precondition(kind == .chat, "completions have no roles")
        JSONWriter.append(to: &output) { writer in
            writer.raw(prefix)
            writer.raw(#"{"index":"#)
            writer.integer(index)
            writer.raw(#","delta":{"role":"#)
            writer.string(role)
            writer.raw(#","content":""},"logprobs":null,"finish_reason":null}]"#)
            append(usage, to: &writer)
            writer.raw(#","prompt_token_ids":"#)
            writer.integers(promptTokenIDs)
            writer.raw(#","prompt_text":null}"#)
            writer.raw("\n\n")
        }
    }

    /// More of one choice; its last chunk has a `finishReason`.
    ///
    /// - Parameter usage: With `continuous_usage_stats`: the prompt's tokens and the choice's.
    public func appendDelta(
        _ choice: ChoiceText, usage: TokenUsage? = nil, to output: inout [UInt8]
    ) {
        JSONWriter.append(to: &output) { writer in
            writer.raw(prefix)
            writer.raw(#"{"index":"#)
            writer.integer(choice.index)
            switch kind {
            case .completion: appendCompletion(choice, to: &writer)
            case .chat: appendChat(choice, to: &writer)
            }
            append(usage, to: &writer)
            writer.raw("}\n\n")
        }
    }

    private func appendCompletion(_ choice: ChoiceText, to writer: inout JSONWriter) {
        writer.raw(#","text":"#)
        writer.string(choice.text)
        writer.raw(#","logprobs":"#)
        writer.completionLogprobs(
            choice.logprobs, format: logprobs, offset: choice.textOffset)
        writer.raw(#","finish_reason":"#)
        writer.value(choice.finishReason)
        writer.raw(#","stop_reason":"#)
        writer.value(choice.stopReason)
        writer.raw(#","prompt_token_ids":"#)
        writer.integers(choice.promptTokenIDs)
        writer.raw(#","token_ids":"#)
        writer.integers(choice.tokenIDs)
        writer.raw("}]")
    }

    private func appendChat(_ choice: ChoiceText, to writer: inout JSONWriter) {
        writer.raw(#","delta":{"content":"#)
        writer.string(choice.text)
        writer.raw(#"},"logprobs":"#)
        writer.chatLogprobs(choice.logprobs, format: logprobs)
        writer.raw(#","finish_reason":"#)
        writer.value(choice.finishReason)
        if choice.finishReason != nil {
            writer.raw(#","stop_reason":"#)
            writer.value(choice.stopReason)
        }
        writer.raw(#","token_ids":"#)
        writer.integers(choice.tokenIDs)
        writer.raw("}]")
    }

    private func append(_ usage: TokenUsage?, to writer: inout JSONWriter) {
        guard let usage else { return }
        writer.raw(#","usage":"#)
        writer.chunkUsage(usage)
    }

    /// With `include_usage`: the chunk without choices before the end.
    public func appendUsage(_ usage: TokenUsage, to output: inout [UInt8]) {
        JSONWriter.append(to: &output) { writer in
            writer.raw(prefix)
            writer.raw("]")
            append(usage, to: &writer)
            writer.raw("}\n\n")
        }
    }

    /// What goes wrong after the header is sent; ``appendDone(to:)`` still follows.
    public static func appendError(_ error: APIError, to output: inout [UInt8]) {
        JSONWriter.append(to: &output) { writer in
            writer.raw("data: ")
            error.write(to: &writer)
            writer.raw("\n\n")
        }
    }

    /// The last event.
    public static func appendDone(to output: inout [UInt8]) {
        JSONWriter.append(to: &output) { $0.raw("data: [DONE]\n\n") }
    }
}
