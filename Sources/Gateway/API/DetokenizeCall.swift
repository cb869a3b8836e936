/// `POST /detokenize`.
public struct DetokenizeCall: Hashable, Sendable {
    /// Ids of the vocabulary.
    public let tokens: [Int32]

    public static func parse(
        body: [UInt8], defaults: ModelDefaults
    ) throws(APIError) -> DetokenizeCall {
        let fields = try RequestFields(body: body)
        _ = try CommonFields.model(fields, defaults: defaults)
        let tokens = try SamplingFields.tokenIDs(
            fields, "tokens", vocabularySize: defaults.vocabularySize)
        guard let tokens else {
            throw .invalidType(name: "tokens", expected: "an array of token ids")
        }
        return DetokenizeCall(tokens: tokens)
    }

    public static func response(prompt: String) -> [UInt8] {
        var writer = JSONWriter()
        writer.raw(#"{"prompt":"#)
        writer.string(prompt)
        writer.raw("}")
        return writer.bytes
    }
}
