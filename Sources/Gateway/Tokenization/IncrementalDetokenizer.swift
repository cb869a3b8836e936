/// The text of a token stream, as far as it is certain, token by token.
///
/// All that `append` and `finish` return, put together, is what ``Tokenizer/decode`` gives for the
/// same ids. A character whose bytes are spread over tokens comes with the last of them. Byte-level
/// BPE needs no context: generated tokens are decoded without the prompt.
public struct IncrementalDetokenizer {
    private let tokenizer: Tokenizer
    private let skipSpecialTokens: Bool
    private var repair = UTF8Repair()
    private var buffer: [UInt8] = []

    public init(tokenizer: Tokenizer, skipSpecialTokens: Bool) {
        self.tokenizer = tokenizer
        self.skipSpecialTokens = skipSpecialTokens
    }

    /// Whether the beginning of a character waits for its rest.
    public var isHoldingBack: Bool { repair.isHoldingBack }

    /// The text that `id` adds; empty while a character is incomplete and for unknown ids.
    public mutating func append(_ id: Int32) -> String {
        if skipSpecialTokens, tokenizer.isSpecial(id) { return "" }
        guard let bytes = tokenizer.model.tokenBytes[id] else { return "" }
        buffer.removeAll(keepingCapacity: true)
        repair.append(bytes, to: &buffer)
        return String(decoding: buffer, as: UTF8.self)
    }

    /// The stream is over: an incomplete character becomes U+FFFD.
    public mutating func finish() -> String {
        buffer.removeAll(keepingCapacity: true)
        repair.finish(to: &buffer)
        return String(decoding: buffer, as: UTF8.self)
    }
}
