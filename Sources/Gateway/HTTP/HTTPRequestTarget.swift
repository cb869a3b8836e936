/// A request target taken apart (RFC 9112 section 3.2): origin-form, absolute-form, and `*` for
/// OPTIONS. Authority-form belongs to CONNECT, which is refused before.
struct HTTPRequestTarget {
    let path: String
    let query: String?

    init(_ bytes: ArraySlice<UInt8>, method: String) throws(HTTPParseError) {
        if bytes.elementsEqual("*".utf8) {
            guard method == "OPTIONS" else { throw .targetMalformed }
            path = "*"
            query = nil
            return
        }
        var rest = bytes
        if rest.first != UInt8(ascii: "/") { rest = try Self.afterAuthority(bytes) }
        let mark = rest.firstIndex(of: UInt8(ascii: "?"))
        let pathBytes = rest[rest.startIndex..<(mark ?? rest.endIndex)]
        guard HTTPBytes.isEncoded(pathBytes, isAllowed: HTTPBytes.isPathByte) else {
            throw .targetMalformed
        }
        path = pathBytes.isEmpty ? "/" : String(decoding: pathBytes, as: UTF8.self)
        guard let mark else {
            query = nil
            return
        }
        let queryBytes = rest[(mark + 1)...]
        guard
            HTTPBytes.isEncoded(
                queryBytes,
                isAllowed: { HTTPBytes.isPathByte($0) || $0 == UInt8(ascii: "?") })
        else { throw .targetMalformed }
        query = String(decoding: queryBytes, as: UTF8.self)
    }

    /// What follows `http://host:port` of an absolute-form target.
    private static func afterAuthority(
        _ bytes: ArraySlice<UInt8>
    ) throws(HTTPParseError) -> ArraySlice<UInt8> {
        let start = HTTPBytes.lowercased(bytes.prefix("https://".utf8.count))
        let schemeCount =
            if start.starts(with: "http://".utf8) {
                "http://".utf8.count
            } else if start.elementsEqual("https://".utf8) {
                "https://".utf8.count
            } else {
                throw HTTPParseError.targetMalformed
            }
        let rest = bytes.dropFirst(schemeCount)
        let end =
            rest.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") } ?? rest.endIndex
        let authority = rest[rest.startIndex..<end]
        guard !authority.isEmpty, isHost(authority) else { throw .targetMalformed }
        return rest[end...]
    }

    /// `uri-host [ ":" port ]`; the empty host is valid too (RFC 9110 section 7.2). User
    /// information is not: RFC 9110 section 4.2.4.
    static func isHost(_ bytes: ArraySlice<UInt8>) -> Bool {
        var name = bytes
        if bytes.first == UInt8(ascii: "[") {
            guard let end = bytes.firstIndex(of: UInt8(ascii: "]")) else { return false }
            let isAddress = bytes[(bytes.startIndex + 1)..<end].allSatisfy {
                HTTPBytes.isNameByte($0) || $0 == UInt8(ascii: ":")
            }
            guard isAddress, end > bytes.startIndex + 1 else { return false }
            let port = bytes[(end + 1)...]
            return port.isEmpty || isPort(port)
        }
        if let colon = bytes.firstIndex(of: UInt8(ascii: ":")) {
            guard isPort(bytes[colon...]) else { return false }
            name = bytes[bytes.startIndex..<colon]
        }
        return HTTPBytes.isEncoded(name, isAllowed: HTTPBytes.isNameByte)
    }

    private static func isPort(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.first == UInt8(ascii: ":") && bytes.dropFirst().allSatisfy(HTTPBytes.isDigit)
    }
}
