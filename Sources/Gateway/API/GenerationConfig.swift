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
