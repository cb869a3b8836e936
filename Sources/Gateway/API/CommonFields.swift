internal import Protocol

/// The fields that completions and chats share, besides sampling, and those that are refused.
enum CommonFields {
    static let streamOptionsName = "stream_options"

    /// - Throws: `modelNotFound` for a name that isn't served; none and "" are the first one.
    static func model(_ fields: RequestFields, defaults: ModelDefaults) throws(APIError) -> String?
    {
        guard let name = try fields.string("model") else { return nil }
        guard name.isEmpty || defaults.servedModelNames.contains(name) else {
            throw .modelNotFound(name: name)
        }
        return name
    }

    static func parse(
        _ fields: RequestFields, headers: GenerationCall.Headers, into call: inout GenerationCall
    ) throws(APIError) {
        call.stop = try SamplingFields.stopStrings(fields)
        call.seed = try SamplingFields.seed(fields)
        call.includeStopStringInOutput = try fields.bool(
            "include_stop_str_in_output", default: false)
        call.skipSpecialTokens = try fields.bool("skip_special_tokens", default: true)
        // Only slow tokenizers of other models know it.
        _ = try fields.bool("spaces_between_special_tokens", default: true)
        call.returnTokenIDs = try fields.bool("return_token_ids") ?? false
        try parseStream(fields, into: &call)
        try parseTruncation(fields, into: &call)
        try parseIdentity(fields, headers: headers, into: &call)
    }

    private static func parseStream(
        _ fields: RequestFields, into call: inout GenerationCall
    ) throws(APIError) {
        call.stream = try fields.bool("stream") ?? false
        guard let options = try fields.object(streamOptionsName) else { return }
        if fields.isSubstantial(streamOptionsName) && !call.stream {
            throw .invalidField(
                name: streamOptionsName, reason: "can only be defined when stream is true")
        }
        call.includeUsage = try options.bool("include_usage") ?? false
        // vLLM: in every chunk only where there is a last one with usage.
        let isContinuous = try options.bool("continuous_usage_stats") ?? false
        call.continuousUsage = isContinuous && call.includeUsage
    }

    private static func parseTruncation(
        _ fields: RequestFields, into call: inout GenerationCall
    ) throws(APIError) {
        if let count = try fields.integer("truncate_prompt_tokens") {
            guard count == -1 || (1...call.contextLength).contains(count) else {
                throw .invalidField(
                    name: "truncate_prompt_tokens",
                    reason: "must be -1 or in [1, \(call.contextLength)], got \(count)")
            }
            call.truncatePromptTokens = count
        }
        switch try fields.string("truncation_side") {
        case nil, "left": call.truncationSide = .left
        case "right": call.truncationSide = .right
        case .some(let other):
            throw .invalidField(
                name: "truncation_side", reason: "must be \"left\" or \"right\", got \"\(other)\"")
        }
    }

    private static func parseIdentity(
        _ fields: RequestFields, headers: GenerationCall.Headers, into call: inout GenerationCall
    ) throws(APIError) {
        if fields.isPresent("request_id") && fields.value("request_id") == nil {
            throw .invalidType(name: "request_id", expected: "a string")
        }
        let requestID = try fields.string("request_id")
        call.requestID = headers.requestID ?? requestID
        let priority = try fields.integer("priority", default: 0)
        call.priority = headers.priority.flatMap { Int64($0) } ?? Int64(priority)
        call.cacheSalt = try fields.string("cache_salt")
        if let salt = call.cacheSalt {
            let bytesMax = CodecLimits.cacheSaltBytesMax
            guard (1...bytesMax).contains(salt.utf8.count) else {
                throw .invalidField(
                    name: "cache_salt",
                    reason: "must have 1 to \(bytesMax) bytes, got \(salt.utf8.count)")
            }
        }
        call.dataParallelRank = headers.dataParallelRank.flatMap { Int($0) }
        // Names that vLLM accepts and leaves alone.
        for name in ["user", "session_id"] { _ = try fields.string(name) }
    }

    /// `prompt_logprobs`, and the two bounds that need the stream flag and the vocabulary.
    static func promptLogprobs(
        _ fields: RequestFields, stream: Bool, defaults: ModelDefaults
    ) throws(APIError) -> Int32? {
        guard let value = try fields.integer("prompt_logprobs") else { return nil }
        if stream && (value > 0 || value == -1) {
            throw .invalidField(
                name: "prompt_logprobs", reason: "are not available when stream is true")
        }
        return try SamplingFields.logprobs(value, name: "prompt_logprobs", defaults: defaults)
    }

    /// - Throws: `invalidField` for a count of output tokens that can't be.
    static func checkMaxTokens(
        _ value: Int, name: String, minimum: Int, minTokens: Int32, contextLength: Int
    ) throws(APIError) {
        guard value >= minimum else {
            throw .invalidField(name: name, reason: "must be at least 1, got \(value)")
        }
        guard value <= contextLength else {
            throw .invalidField(
                name: name,
                reason: "cannot be greater than max_model_len=\(contextLength), got \(value)")
        }
        guard Int(minTokens) <= value else {
            throw .invalidField(
                name: "min_tokens",
                reason: "must be less than or equal to max_tokens=\(value), got \(minTokens)")
        }
    }
}
