internal import DaemonRuntime

/// The fields that vLLM knows and this server does not: an answer without them would be another
/// answer than the client asked for, so a value that would change it is refused by name.
enum UnsupportedFields {
    private struct Field {
        let name: String
        let reason: String

        init(_ name: String, _ reason: String) {
            self.name = name
            self.reason = reason
        }
    }

    private static let constraint = "output can't be constrained to a grammar or a schema"

    /// Refused unless null, or what Python calls false (false, 0, "", [], {}).
    private static let refusedWhenSet = [
        Field("use_beam_search", "there is no beam search"),
        Field("bad_words", "use logit_bias or allowed_token_ids"),
        Field("watermarking", "outputs are not watermarked"),
        Field("prompt_embeds", "prompts are text or token ids"),
        Field("vllm_xargs", "there are no sampling extensions"),
        Field("kv_transfer_params", "there is no KV transfer between servers"),
        Field("ec_transfer_params", "there is no encoder"),
        Field("documents", "the chat template takes no documents"),
        Field("chat_template", "the template of the model is used"),
        Field("chat_template_kwargs", "the chat template takes no arguments"),
        Field("media_io_kwargs", "the model reads text only"),
        Field("mm_processor_kwargs", "the model reads text only"),
        Field("return_prompt_text", "the rendered prompt is not returned"),
        Field("return_assistant_tokens_mask", "the mask is not returned"),
        Field("routed_experts_prompt_start", "routed experts are not returned"),
    ]

    /// Refused unless null: every other value means something.
    private static let refusedWhenGiven = [
        Field("structured_outputs", constraint),
        Field("guided_json", constraint),
        Field("guided_regex", constraint),
        Field("guided_choice", constraint),
        Field("guided_grammar", constraint),
        Field("guided_decoding_backend", constraint),
        Field("guided_whitespace_pattern", constraint),
        Field("logprob_token_ids", "use logprobs"),
        Field("repetition_detection", "use max_tokens or repetition_penalty"),
    ]

    static func refuse(in fields: RequestFields) throws(APIError) {
        for field in refusedWhenSet where fields.isSubstantial(field.name) {
            throw .unsupported(field: field.name, reason: field.reason)
        }
        for field in refusedWhenGiven where fields.value(field.name) != nil {
            throw .unsupported(field: field.name, reason: field.reason)
        }
        if let count = try fields.integer("best_of"), count > 1 {
            throw .unsupported(field: "best_of", reason: "ask for n sequences and choose one")
        }
        if let count = try fields.integer("thinking_token_budget"), count != -1 {
            throw .unsupported(
                field: "thinking_token_budget", reason: "thinking is not told from the answer")
        }
        if let count = try fields.integer("stream_interval"), count != 1 {
            if count < 1 {
                throw .invalidField(
                    name: "stream_interval", reason: "must be at least 1, got \(count)")
            }
            throw .unsupported(field: "stream_interval", reason: "every step is sent at once")
        }
        // Beam search alone reads it.
        _ = try fields.number("length_penalty", default: 1)
        try refuseResponseFormat(in: fields)
    }

    private static func refuseResponseFormat(in fields: RequestFields) throws(APIError) {
        guard let format = try fields.object("response_format") else { return }
        guard let type = try format.string("type") else {
            throw .invalidType(name: "response_format.type", expected: "a string")
        }
        switch type {
        case "text": return
        case "json_object", "json_schema", "structural_tag":
            throw .unsupported(field: "response_format", reason: constraint)
        default:
            throw .invalidField(
                name: "response_format.type",
                reason: "must be \"text\", \"json_object\", \"json_schema\" or "
                    + "\"structural_tag\", got \"\(type)\"")
        }
    }

    /// Tools: refused when given, as the template would show them to the model and nothing would
    /// read the calls out of its text.
    static func refuseTools(in fields: RequestFields) throws(APIError) {
        if let tools = try fields.array("tools") {
            if tools.isEmpty {
                throw .invalidField(
                    name: "tools",
                    reason: "must not be an empty array; either provide at least one tool or "
                        + "omit the field entirely")
            }
            throw .unsupported(field: "tools", reason: "tool calls are not parsed")
        }
        if let choice = fields.value("tool_choice"), choice.string != "none" {
            throw .invalidField(name: "tool_choice", reason: "needs tools, and there are none")
        }
        _ = try fields.bool("parallel_tool_calls")
    }
}
