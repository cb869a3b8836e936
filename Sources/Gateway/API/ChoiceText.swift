public import Protocol

/// One choice, or what one chunk adds to it.
public struct ChoiceText: Hashable, Sendable {
    public var index: Int
    public var text: String
    /// Of the tokens of `text`; nil where none were asked for. With `echo`, the prompt's first.
    public var logprobs: [LogprobEntry]?
    /// Unicode scalars of the choice before `text`, which `text_offset` counts on from.
    public var textOffset = 0
    public var finishReason: FinishReason?
    public var stopReason = StopReason.none
    /// nil unless asked for with `return_token_ids`.
    public var tokenIDs: [Int32]?
    /// The same, and in streams in the first chunk alone.
    public var promptTokenIDs: [Int32]?
    /// One for each token of the prompt; nil unless asked for.
    public var promptLogprobs: [LogprobEntry]?

    public init(index: Int, text: String) {
        self.index = index
        self.text = text
    }
}

/// What ended a sequence, where that isn't the end-of-sequence token or a length.
public enum StopReason: Hashable, Sendable {
    case none
    case text(String)
    case token(Int32)
}
