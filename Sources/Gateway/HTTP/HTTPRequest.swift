/// A complete request, its body included.
public struct HTTPRequest: Hashable, Sendable {
    public let method: String
    /// As it came, percent-encoded, without the query; "*" for `OPTIONS *`.
    public let path: String
    /// What follows the first "?", as it came; nil where there is none.
    public let query: String?
    /// Bytes of a value that are not UTF-8 are replaced by U+FFFD.
    public let headers: HTTPHeaderFields
    public internal(set) var body: [UInt8]
    /// Whether the client can send another request on the connection after this one.
    public let isKeepAlive: Bool
    /// HTTP/1.0: no chunked answers.
    public let isVersion10: Bool
    /// The numeric address of the client, nil for a Unix domain socket.
    public internal(set) var peer: String?
}
