/// The answers that aren't about a generation: models, version, load.
public enum ServerResponses {
    /// `GET /v1/models`: one card a served name.
    public static func models(_ cards: [ModelCard]) -> [UInt8] {
        var writer = JSONWriter()
        writer.raw(#"{"object":"list","data":"#)
        writer.array(cards) { $1.write(to: &$0) }
        writer.raw("}")
        return writer.bytes
    }

    /// `GET /v1/models/{id}`.
    ///
    /// - Throws: `modelNotFound`.
    public static func model(_ id: String, of cards: [ModelCard]) throws(APIError) -> [UInt8] {
        guard let card = cards.first(where: { $0.id == id }) else {
            throw .modelNotFound(name: id)
        }
        var writer = JSONWriter()
        card.write(to: &writer)
        return writer.bytes
    }

    /// `GET /version`.
    public static func version(_ version: String) -> [UInt8] {
        var writer = JSONWriter()
        writer.raw(#"{"version":"#)
        writer.string(version)
        writer.raw("}")
        return writer.bytes
    }

    /// `GET /load`: requests in the server now.
    public static func load(_ requests: Int) -> [UInt8] {
        var writer = JSONWriter()
        writer.raw(#"{"server_load":"#)
        writer.integer(requests)
        writer.raw("}")
        return writer.bytes
    }
}
