/// A request line and the fields that decide how the rest of a request is read.
struct HTTPRequestHead: Hashable, Sendable {
    enum Framing: Hashable {
        case length(Int)
        case chunked
    }

    private(set) var method = ""
    private(set) var path = ""
    private(set) var query: String?
    private(set) var isVersion10 = false
    private(set) var headers = HTTPHeaderFields()
    private(set) var expectsContinue = false
    private var fieldCount = 0
    private var hasHost = false
    private var contentLength: Int?
    private var isChunked = false
    private var asksToClose = false

    init() {}

    /// HTTP/1.0 connections are closed after one answer.
    var isKeepAlive: Bool { !isVersion10 && !asksToClose }

    // MARK: Request line

    /// `method SP request-target SP HTTP-version`.
    init(requestLine: ArraySlice<UInt8>, limits: HTTPMessageLimits) throws(HTTPParseError) {
        let parts = requestLine.split(
            separator: HTTPBytes.space, omittingEmptySubsequences: false)
        guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(HTTPBytes.isTokenByte)
        else { throw .requestLineMalformed }
        isVersion10 = try Self.isVersion10(parts[2])
        guard parts[0].count <= HTTPMessageLimits.methodBytesMax,
            !parts[0].elementsEqual("CONNECT".utf8)
        else { throw .methodNotSupported }
        guard parts[1].count <= limits.targetBytesMax else {
            throw .targetTooLong(limit: limits.targetBytesMax)
        }
        method = String(decoding: parts[0], as: UTF8.self)
        let target = try HTTPRequestTarget(parts[1], method: method)
        path = target.path
        query = target.query
    }

    /// Judged before the target: the preface of HTTP/2 is refused for its version.
    private static func isVersion10(_ bytes: ArraySlice<UInt8>) throws(HTTPParseError) -> Bool {
        let text = Array(bytes)
        guard text.count == "HTTP/1.1".utf8.count, text.starts(with: "HTTP/".utf8),
            HTTPBytes.isDigit(text[5]), text[6] == UInt8(ascii: "."), HTTPBytes.isDigit(text[7])
        else { throw .requestLineMalformed }
        if text.elementsEqual("HTTP/1.1".utf8) { return false }
        guard text.elementsEqual("HTTP/1.0".utf8) else { throw .versionNotSupported }
        return true
    }

    // MARK: Fields

    mutating func addField(
        _ line: ArraySlice<UInt8>, limits: HTTPMessageLimits
    ) throws(HTTPParseError) {
        let (name, value) = try split(line, limits: limits)
        let nameText = String(decoding: name, as: UTF8.self)
        switch nameText {
        case "host":
            guard !hasHost else { throw .hostRepeated }
            guard HTTPRequestTarget.isHost(value) else { throw .hostMalformed }
            hasHost = true
        case "content-length":
            guard contentLength == nil else { throw .contentLengthRepeated }
            contentLength = try Self.length(value)
        case "transfer-encoding":
            try onTransferEncoding(value)
        case "connection":
            for option in HTTPBytes.listElements(value) where option.elementsEqual("close".utf8) {
                asksToClose = true
            }
        case "expect":
            if isVersion10 { break }  // RFC 9110 section 10.1.1
            guard HTTPBytes.lowercased(value).elementsEqual("100-continue".utf8) else {
                throw .expectationNotSupported
            }
            expectsContinue = true
        default:
            break
        }
        headers.appendChecked(name: nameText, value: String(decoding: value, as: UTF8.self))
    }

    mutating func addTrailer(
        _ line: ArraySlice<UInt8>, limits: HTTPMessageLimits
    ) throws(HTTPParseError) {
        _ = try split(line, limits: limits)
    }

    /// `field-name ":" OWS field-value OWS`; the name comes back in lower case.
    private mutating func split(
        _ line: ArraySlice<UInt8>, limits: HTTPMessageLimits
    ) throws(HTTPParseError) -> (name: [UInt8], value: ArraySlice<UInt8>) {
        fieldCount += 1
        guard fieldCount <= limits.headerFieldsMax else {
            throw .tooManyHeaders(limit: limits.headerFieldsMax)
        }
        if line.first == HTTPBytes.space || line.first == HTTPBytes.tab { throw .headerFolded }
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
            line[line.startIndex..<colon].allSatisfy(HTTPBytes.isTokenByte)
        else { throw .headerNameMalformed }
        return (
            HTTPBytes.lowercased(line[line.startIndex..<colon]),
            HTTPBytes.trimmed(line[(colon + 1)...])
        )
    }

    /// Digits only; a number that does not fit becomes the largest one, which no limit allows.
    private static func length(_ value: ArraySlice<UInt8>) throws(HTTPParseError) -> Int {
        guard !value.isEmpty, value.allSatisfy(HTTPBytes.isDigit) else {
            throw .contentLengthMalformed
        }
        var length = 0
        for byte in value {
            let (product, productOverflows) = length.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflows) = product.addingReportingOverflow(Int(byte) - 0x30)
            if productOverflows || sumOverflows { return .max }
            length = sum
        }
        return length
    }

    private mutating func onTransferEncoding(
        _ value: ArraySlice<UInt8>
    ) throws(HTTPParseError) {
        guard !isChunked else { throw .transferEncodingRepeated }
        let codings = HTTPBytes.listElements(value)
        // RFC 9112 section 6.3: without chunked as the last coding the length cannot be known.
        guard codings.last?.elementsEqual("chunked".utf8) == true else {
            throw .transferEncodingNotChunked
        }
        guard codings.count == 1 else {
            let repeats = codings.dropLast().contains { $0.elementsEqual("chunked".utf8) }
            throw repeats ? .transferEncodingRepeated : .transferCodingNotSupported
        }
        isChunked = true
    }

    // MARK: Framing

    /// How the body is delimited (RFC 9112 section 6.3).
    func framing(limits: HTTPMessageLimits) throws(HTTPParseError) -> Framing {
        guard hasHost || isVersion10 else { throw .hostMissing }
        if isChunked {
            // RFC 9112 section 6.1: whoever sent this does not know how it is framed.
            guard !isVersion10 else { throw .transferEncodingInVersion10 }
            guard contentLength == nil else { throw .contentLengthWithTransferEncoding }
            return .chunked
        }
        let length = contentLength ?? 0
        guard length <= limits.bodyBytesMax else {
            throw .bodyTooLong(limit: limits.bodyBytesMax)
        }
        return .length(length)
    }
}
