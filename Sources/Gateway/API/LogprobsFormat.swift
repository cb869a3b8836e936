/// How the logprobs of a call are printed.
public struct LogprobsFormat: Hashable, Sendable {
    /// Alternatives asked for; an answer can hold one more, the token itself.
    public let topCount: Int
    /// Tokens are printed as "token_id:N" instead of their text.
    public let tokensAsTokenIDs: Bool

    public init(topCount: Int, tokensAsTokenIDs: Bool) {
        self.topCount = topCount
        self.tokensAsTokenIDs = tokensAsTokenIDs
    }
}
