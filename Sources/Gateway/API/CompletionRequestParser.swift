internal import DaemonRuntime
internal import Protocol

extension GenerationCall {
    /// Reads the body of `POST /v1/completions`.
    public static func parseCompletion(
        body: [UInt8], headers: Headers, defaults: ModelDefaults
    ) throws(APIError) -> GenerationCall {
        try CompletionRequestParser.parse(
            fields: try RequestFields(body: body), headers: headers, defaults: defaults)
    }
}

/// `POST /v1/completions`: OpenAI's legacy completions with vLLM's extensions.
enum CompletionRequestParser {
    static let promptsMax = 1_024
    /// OpenAI's default, which vLLM keeps for completions alone.
    static let maxTokensDefault = 16

    static func parse(
        fields: RequestFields, headers: GenerationCall.Headers, defaults: ModelDefaults
    ) throws(APIError) -> GenerationCall {
        let model = try CommonFields.model(fields, defaults: defaults)
        try UnsupportedFields.refuse(in: fields)
        var call = GenerationCall(
            kind: .completion, model: model,
            input: .prompts(try prompts(fields, vocabularySize: defaults.vocabularySize)),
            defaults: defaults)
        try CommonFields.parse(fields, headers: headers, into: &call)
        call.count = try SamplingFields.count(try fields.integer("n", default: 1))
        call.sampling = try SamplingFields.parse(fields, count: call.count, defaults: defaults)
        call.addSpecialTokens = try fields.bool("add_special_tokens", default: true)
        call.echo = try fields.bool("echo") ?? false
        // vLLM accepts a suffix and does nothing with it.
        _ = try fields.string("suffix")

        let maxTokens = try fields.integer("max_tokens") ?? maxTokensDefault
        try CommonFields.checkMaxTokens(
            maxTokens, name: "max_tokens", minimum: call.echo ? 0 : 1,
            minTokens: call.sampling.minTokens, contextLength: defaults.contextLength)
        call.maxTokens = maxTokens
        try parseLogprobs(fields, defaults: defaults, into: &call)
        return call
    }

    private static func parseLogprobs(
        _ fields: RequestFields, defaults: ModelDefaults, into call: inout GenerationCall
    ) throws(APIError) {
        let count = try SamplingFields.logprobs(
            try fields.integer("logprobs"), name: "logprobs", defaults: defaults)
        let asTokenIDs = try fields.bool("return_tokens_as_token_ids") ?? false
        let promptCount = try CommonFields.promptLogprobs(
            fields, stream: call.stream, defaults: defaults)
        call.sampling.logprobs = count
        call.returnPromptLogprobs = promptCount != nil
        // An echoed prompt has the logprobs that the output has.
        call.sampling.promptLogprobs = promptCount ?? (call.echo ? count : nil)
        call.logprobs = count.map {
            LogprobsFormat(topCount: Int($0), tokensAsTokenIDs: asTokenIDs)
        }
    }

    /// string | [string] | [int] | [[int]].
    private static func prompts(
        _ fields: RequestFields, vocabularySize: Int
    ) throws(APIError) -> [GenerationCall.PromptInput] {
        guard let value = fields.value("prompt") else {
            throw .invalidField(name: "prompt", reason: "must be provided and non-empty")
        }
        if let text = value.string {
            if text.isEmpty {
                throw .invalidField(name: "prompt", reason: "must be provided and non-empty")
            }
            return [.text(text)]
        }
        guard let entries = value.array else { throw wrongType }
        guard let first = entries.first else {
            throw .invalidField(name: "prompt", reason: "must have at least one entry")
        }
        if first.kind != .string && first.kind != .array {
            return [.tokens(try tokens(entries, vocabularySize: vocabularySize))]
        }
        if entries.count > promptsMax {
            throw .invalidField(
                name: "prompt",
                reason: "has \(entries.count) entries, which exceeds the maximum of \(promptsMax)")
        }
        var prompts: [GenerationCall.PromptInput] = []
        prompts.reserveCapacity(entries.count)
        for entry in entries {
            // All of one kind: vLLM has no type for a mixture.
            guard entry.kind == first.kind else { throw wrongType }
            if let text = entry.string {
                prompts.append(.text(text))
            } else if let ids = entry.array {
                prompts.append(.tokens(try tokens(ids, vocabularySize: vocabularySize)))
            }
        }
        return prompts
    }

    private static func tokens(
        _ entries: [JSONValue], vocabularySize: Int
    ) throws(APIError) -> [Int32] {
        if entries.isEmpty {
            throw .invalidField(name: "prompt", reason: "must not have an empty list of tokens")
        }
        var ids: [Int32] = []
        ids.reserveCapacity(entries.count)
        for entry in entries {
            if entry.kind == .string || entry.kind == .array { throw wrongType }
            let value = try RequestFields.integer(entry, name: "prompt")
            ids.append(
                try SamplingFields.tokenID(value, name: "prompt", vocabularySize: vocabularySize))
        }
        return ids
    }

    private static var wrongType: APIError {
        .invalidType(
            name: "prompt",
            expected: "a string, an array of strings, an array of token ids or an array of arrays "
                + "of token ids")
    }
}
