internal import Protocol

extension FinishReason {
    /// OpenAI's word for it.
    var name: StaticString {
        switch self {
        case .stop: "stop"
        case .length: "length"
        case .abort: "abort"
        case .error: "error"
        }
    }
}

/// The values above inside answers and chunks, which differ in what they leave out.
extension JSONWriter {
    mutating func value(_ reason: FinishReason?) {
        guard let reason else { return raw("null") }
        raw("\"")
        raw(reason.name)
        raw("\"")
    }

    mutating func value(_ reason: StopReason) {
        switch reason {
        case .none: raw("null")
        case .text(let text): string(text)
        case .token(let id): integer(id)
        }
    }

    /// The three counts, without closing the object.
    private mutating func counts(_ usage: TokenUsage) {
        raw(#"{"prompt_tokens":"#)
        integer(usage.promptTokens)
        raw(#","total_tokens":"#)
        integer(usage.promptTokens + usage.completionTokens)
        raw(#","completion_tokens":"#)
        integer(usage.completionTokens)
    }

    /// In a whole answer, where what isn't known is null.
    mutating func usage(_ usage: TokenUsage) {
        counts(usage)
        raw(#","prompt_tokens_details":"#)
        if let cached = usage.cachedTokens {
            raw(#"{"cached_tokens":"#)
            integer(cached)
            raw("}")
        } else {
            raw("null")
        }
        raw(#","completion_tokens_details":null}"#)
    }

    /// In a chunk, where what isn't known is left out.
    mutating func chunkUsage(_ usage: TokenUsage) {
        counts(usage)
        if let cached = usage.cachedTokens {
            raw(#","prompt_tokens_details":{"cached_tokens":"#)
            integer(cached)
            raw("}")
        }
        raw("}")
    }
}
