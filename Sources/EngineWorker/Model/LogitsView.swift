/// Logits of the rows that a plan asked for, in the plan's order. The memory belongs to the model
/// and is valid until the next step; sampling may write to it.
public struct LogitsView {
    /// `[rowCount, vocabularySize]`
    public let values: UnsafeMutableBufferPointer<Float>
    public let rowCount: Int
    public let vocabularySize: Int

    /// The logits of the n-th of the plan's `logitRows`.
    public subscript(row: Int) -> UnsafeMutableBufferPointer<Float> {
        precondition((0..<rowCount).contains(row), "row \(row) of \(rowCount)")
        let start = row * vocabularySize
        return UnsafeMutableBufferPointer(rebasing: values[start..<(start + vocabularySize)])
    }
}

/// What a step computed on its way, for tests; see ``DeepSeekModel/observer``.
public enum ModelStage: Hashable, Sendable {
    /// The residual stream before layer n; `layerCount` names the last one.
    case hidden(Int)
    /// Output of the attention of a layer, before the residual addition.
    case attention(Int)
    /// Output of the feed-forward part of a layer, before the residual addition.
    case feedForward(Int)
    /// Router logits of a layer.
    case routerLogits(Int)
    /// Weights of the chosen experts of a layer.
    case routerWeights(Int)
    /// Ids of the chosen experts, as floats.
    case routerExperts(Int)
}
