/// What every answer and chunk of one request repeats.
public struct ResponseIdentity: Hashable, Sendable {
    public let kind: GenerationCall.Kind
    /// "cmpl-…" or "chatcmpl-…".
    public let id: String
    /// Seconds since 1970.
    public let created: Int64
    /// The first served name, whatever alias the client used.
    public let model: String

    public init(kind: GenerationCall.Kind, requestID: String, created: Int64, model: String) {
        self.kind = kind
        self.id = (kind == .chat ? "chatcmpl-" : "cmpl-") + requestID
        self.created = created
        self.model = model
    }
}
