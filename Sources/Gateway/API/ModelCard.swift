/// A served name as `/v1/models` shows it.
public struct ModelCard: Hashable, Sendable {
    public let id: String
    /// The folder or name that the model was loaded from.
    public let root: String
    /// Seconds since 1970.
    public let created: Int64
    public let contextLength: Int

    public init(id: String, root: String, created: Int64, contextLength: Int) {
        self.id = id
        self.root = root
        self.created = created
        self.contextLength = contextLength
    }

    func write(to writer: inout JSONWriter) {
        writer.raw(#"{"id":"#)
        writer.string(id)
        writer.raw(#","object":"model","created":"#)
        writer.integer(created)
        // Clients look for this owner to know that `max_model_len` follows.
        writer.raw(#","owned_by":"phalanx","root":"#)
        writer.string(root)
        writer.raw(#","parent":null,"max_model_len":"#)
        writer.integer(contextLength)
        writer.raw(#","permission":[{"id":"#)
        writer.string("modelperm-\(id)")
        writer.raw(#","object":"model_permission","created":"#)
        writer.integer(created)
        writer.raw(#","allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"#)
        writer.raw(#""allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"#)
        writer.raw(#""organization":"*","group":null,"is_blocking":false}]}"#)
    }
}
