/// Where the server is: `http://host[:port][/prefix]`.
struct BenchURL: Hashable, Sendable, CustomStringConvertible {
    /// Without the brackets of an IPv6 address.
    let host: String
    let port: UInt16
    /// Begins with "/" unless it is empty; has no "/" at its end.
    let prefix: String

    init(host: String, port: UInt16, prefix: String = "") {
        self.host = host
        self.port = port
        self.prefix = prefix
    }

    init(_ text: String) throws(BenchError) {
        let name = "base-url"
        if text.lowercased().hasPrefix("https://") {
            throw .option(
                name: name, reason: "https is not supported: give the http:// address of the server"
            )
        }
        guard text.lowercased().hasPrefix("http://") else {
            throw .option(name: name, reason: "\"\(text)\" does not begin with http://")
        }
        let rest = text.dropFirst("http://".count)
        let authority = rest.prefix { $0 != "/" }
        var path = String(rest.dropFirst(authority.count))
        while path.hasSuffix("/") { path.removeLast() }
        guard path.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }), !path.contains("?"),
            !path.contains("#"), !authority.contains("@")
        else { throw .option(name: name, reason: "\"\(text)\" is not http://host:port/path") }
        let parts = try Self.split(String(authority), in: text)
        self.init(host: parts.host, port: parts.port, prefix: path)
    }

    private static func split(
        _ authority: String, in text: String
    ) throws(BenchError) -> (host: String, port: UInt16) {
        let refusal = BenchError.option(
            name: "base-url", reason: "\"\(text)\" is not http://host:port/path")
        var host = authority
        var port: UInt16 = 80
        let bracket = authority.lastIndex(of: "]")
        if let colon = authority.lastIndex(of: ":"), bracket.map({ $0 < colon }) ?? true {
            guard let number = UInt16(authority[authority.index(after: colon)...]), number > 0
            else { throw refusal }
            port = number
            host = String(authority[..<colon])
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw refusal }
        return (host, port)
    }

    /// "host:port", as the Host header has it.
    var authority: String { (host.contains(":") ? "[\(host)]" : host) + ":\(port)" }

    var description: String { "http://\(authority)\(prefix)" }
}
