/// What a model and the server's options say about a call that leaves things open, and the bounds
/// that a call is checked against.
public struct ModelDefaults: Hashable, Sendable {
    /// The names that `model` may have; answers carry the first one.
    public var servedModelNames: [String]
    /// Tokens of prompt and output together.
    public var contextLength: Int
    /// Token ids are below it.
    public var vocabularySize: Int
    /// Most alternatives a client may ask for (`--max-logprobs`); -1 is the whole vocabulary.
    public var maxLogprobs = 20
    /// The model's own sampling values; all nil with `--generation-config vllm`.
    public var sampling = GenerationConfig()

    public init(servedModelNames: [String], contextLength: Int, vocabularySize: Int) {
        precondition(!servedModelNames.isEmpty, "a model has a name")
        precondition(contextLength > 0, "context of \(contextLength) tokens")
        precondition(
            vocabularySize > 0 && vocabularySize <= Int(Int32.max),
            "vocabulary of \(vocabularySize) tokens")
        self.servedModelNames = servedModelNames
        self.contextLength = contextLength
        self.vocabularySize = vocabularySize
    }

    /// The largest number of alternatives, with -1 resolved.
    var logprobsLimit: Int { maxLogprobs == -1 ? vocabularySize : maxLogprobs }
}
