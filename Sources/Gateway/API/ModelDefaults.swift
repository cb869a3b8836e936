internal import DaemonRuntime

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

/// The sampling part of a checkpoint's `generation_config.json`.
public struct GenerationConfig: Hashable, Sendable {
    public var temperature: Float?
    public var topP: Float?
    public var topK: Int32?
    public var minP: Float?
    public var repetitionPenalty: Float?
    /// Most output tokens where a call doesn't say.
    public var maxNewTokens: Int?

    public init() {}

    /// Reads the text of `generation_config.json`; members that it doesn't know are left alone.
    ///
    /// - Throws: ``APIError`` whose message names the member that is wrong.
    public init(json: [UInt8]) throws(APIError) {
        let fields = try RequestFields(body: json)
        temperature = try SamplingFields.temperature(fields)
        topP = try SamplingFields.topP(fields)
        topK = try SamplingFields.topK(fields)
        minP = try SamplingFields.minP(fields)
        repetitionPenalty = try SamplingFields.repetitionPenalty(fields)
        maxNewTokens = try fields.integer("max_new_tokens")
        if let count = maxNewTokens, count < 1 {
            throw .invalidField(name: "max_new_tokens", reason: "must be at least 1, got \(count)")
        }
    }
}
