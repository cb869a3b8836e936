/// `POST /tokenize`: a prompt, or the messages of a chat.
public struct TokenizeCall: Hashable, Sendable {
    public enum Input: Hashable, Sendable {
        case prompt(String)
        case messages([ChatMessage])
    }

    public let input: Input
    public let addSpecialTokens: Bool
    public let addGenerationPrompt: Bool
    public let continueFinalMessage: Bool
    public let returnTokenStrings: Bool

    public static func parse(
        body: [UInt8], defaults: ModelDefaults
    ) throws(APIError) -> TokenizeCall {
        let fields = try RequestFields(body: body)
        _ = try CommonFields.model(fields, defaults: defaults)
        let strings = try fields.bool("return_token_strs") ?? false
        if fields.value("prompt") != nil || fields.value("messages") == nil {
            guard let prompt = try fields.string("prompt") else {
                throw .invalidField(name: "prompt", reason: "or messages must be given")
            }
            return TokenizeCall(
                input: .prompt(prompt),
                addSpecialTokens: try fields.bool("add_special_tokens", default: true),
                addGenerationPrompt: false, continueFinalMessage: false,
                returnTokenStrings: strings)
        }
        try UnsupportedFields.refuse(in: fields)
        try UnsupportedFields.refuseTools(in: fields)
        let messages = try ChatMessageParser.messages(fields)
        let prompt = try ChatRequestParser.generationPrompt(fields)
        return TokenizeCall(
            input: .messages(messages),
            addSpecialTokens: try fields.bool("add_special_tokens", default: false),
            addGenerationPrompt: prompt.isAdded, continueFinalMessage: prompt.continuesFinalMessage,
            returnTokenStrings: strings)
    }

    /// - Parameter tokenStrings: nil unless `returnTokenStrings`.
    public static func response(
        tokens: [Int32], tokenStrings: [String]?, contextLength: Int
    ) -> [UInt8] {
        var writer = JSONWriter()
        writer.raw(#"{"count":"#)
        writer.integer(tokens.count)
        writer.raw(#","max_model_len":"#)
        writer.integer(contextLength)
        writer.raw(#","tokens":"#)
        writer.integers(tokens)
        writer.raw(#","token_strs":"#)
        if let tokenStrings {
            writer.array(tokenStrings) { $0.string($1) }
        } else {
            writer.raw("null")
        }
        writer.raw("}")
        return writer.bytes
    }
}
