/// Tokens of a request, over all its prompts and choices.
public struct TokenUsage: Hashable, Sendable {
    public var promptTokens: Int
    public var completionTokens: Int
    /// Prompt tokens that the prefix cache held; nil unless `--enable-prompt-tokens-details`.
    public var cachedTokens: Int?

    public init(promptTokens: Int, completionTokens: Int, cachedTokens: Int? = nil) {
        self.promptTokens = promptTokens
        self.completionTokens = completionTokens
        self.cachedTokens = cachedTokens
    }
}
