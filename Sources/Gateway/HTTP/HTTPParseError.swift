/// Why a request was refused. The connection cannot be used after one of these: where the next
/// request would begin is not known.
public enum HTTPParseError: Error, Hashable, Sendable, CustomStringConvertible {
    case bareLineFeed
    case bareCarriageReturn
    case controlByte(UInt8)
    case requestLineMalformed
    case methodNotSupported
    case targetMalformed
    case targetTooLong(limit: Int)
    case versionNotSupported
    case headerNameMalformed
    case headerFolded
    case headerLineTooLong(limit: Int)
    case headersTooLong(limit: Int)
    case tooManyHeaders(limit: Int)
    case hostMissing
    case hostRepeated
    case hostMalformed
    case contentLengthMalformed
    case contentLengthRepeated
    case contentLengthWithTransferEncoding
    case transferEncodingInVersion10
    case transferEncodingRepeated
    case transferEncodingNotChunked
    case transferCodingNotSupported
    case expectationNotSupported
    case chunkSizeMalformed
    case chunkLineTooLong(limit: Int)
    case chunkExtensionsTooLong(limit: Int)
    case chunkEndMissing
    case bodyTooLong(limit: Int)

    public var status: HTTPStatus {
        switch self {
        case .bareLineFeed, .bareCarriageReturn, .controlByte, .requestLineMalformed,
            .targetMalformed, .headerNameMalformed, .headerFolded, .hostMissing, .hostRepeated,
            .hostMalformed, .contentLengthMalformed, .contentLengthRepeated,
            .contentLengthWithTransferEncoding, .transferEncodingInVersion10,
            .transferEncodingRepeated, .transferEncodingNotChunked, .chunkSizeMalformed,
            .chunkLineTooLong, .chunkExtensionsTooLong, .chunkEndMissing:
            .badRequest
        case .methodNotSupported, .transferCodingNotSupported: .notImplemented
        case .targetTooLong: .uriTooLong
        case .versionNotSupported: .versionNotSupported
        case .headerLineTooLong, .headersTooLong, .tooManyHeaders: .headerFieldsTooLarge
        case .expectationNotSupported: .expectationFailed
        case .bodyTooLong: .contentTooLarge
        }
    }

    /// Holds nothing that the client sent, and no quotes or backslashes.
    public var description: String {
        switch self {
        case .bareLineFeed: "A line ends with LF alone; end lines with CR LF."
        case .bareCarriageReturn: "A CR is not followed by LF."
        case .controlByte(let byte): "The request's head holds the control byte \(byte)."
        case .requestLineMalformed:
            "The request line is not a method, a target and a version with one space between each."
        case .methodNotSupported: "The method is CONNECT or too long; this server is no proxy."
        case .targetMalformed: "The request target is not a valid path or absolute URI."
        case .targetTooLong(let limit): "The request target is longer than \(limit) bytes."
        case .versionNotSupported: "Only HTTP/1.1 and HTTP/1.0 are spoken here."
        case .headerNameMalformed: "A header line has no valid name directly before its colon."
        case .headerFolded: "A header line begins with white space (obsolete line folding)."
        case .headerLineTooLong(let limit): "A header line is longer than \(limit) bytes."
        case .headersTooLong(let limit): "The headers are longer than \(limit) bytes together."
        case .tooManyHeaders(let limit): "There are more than \(limit) header fields."
        case .hostMissing: "The Host header is missing; HTTP/1.1 requires it."
        case .hostRepeated: "There is more than one Host header."
        case .hostMalformed: "The Host header is not a host name with an optional port."
        case .contentLengthMalformed: "The Content-Length is not a decimal number."
        case .contentLengthRepeated: "There is more than one Content-Length."
        case .contentLengthWithTransferEncoding:
            "There is both a Content-Length and a Transfer-Encoding; send one of them."
        case .transferEncodingInVersion10: "HTTP/1.0 has no Transfer-Encoding; use HTTP/1.1."
        case .transferEncodingRepeated: "There is more than one Transfer-Encoding."
        case .transferEncodingNotChunked: "The Transfer-Encoding does not end with chunked."
        case .transferCodingNotSupported: "The only Transfer-Encoding understood is chunked."
        case .expectationNotSupported: "The only Expect understood is 100-continue."
        case .chunkSizeMalformed: "A chunk does not begin with its size in hexadecimal."
        case .chunkLineTooLong(let limit): "A chunk's size line is longer than \(limit) bytes."
        case .chunkExtensionsTooLong(let limit):
            "The chunk extensions are longer than \(limit) bytes together."
        case .chunkEndMissing: "A chunk's data is not followed by CR LF."
        case .bodyTooLong(let limit): "The body is longer than \(limit) bytes."
        }
    }
}
