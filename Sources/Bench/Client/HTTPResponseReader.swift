/// Why a server's answer cannot be read.
enum HTTPResponseError: Error, Hashable, Sendable, CustomStringConvertible {
    case malformed(what: String)
    case tooLong(what: String, limit: Int)
    case endedEarly(where: String)

    var description: String {
        switch self {
        case .malformed(let what): "the answer is not HTTP: \(what)"
        case .tooLong(let what, let limit): "\(what) has more than \(limit) bytes"
        case .endedEarly(let place): "the connection was closed \(place)"
        }
    }
}

/// Status line and those header fields that matter to a client.
struct HTTPResponseHead: Hashable, Sendable {
    let status: Int
    let reason: String
    /// Names in lower case.
    let fields: [String: String]
    let isVersion10: Bool
}

/// Reads one HTTP/1.1 response (RFC 9112) from bytes that come in pieces of any size.
///
/// It never trusts the server: every length has a bound, and an end of the connection in the middle
/// is an error, never a shorter answer.
struct HTTPResponseReader: Sendable {
    static let headBytesMax = 64 << 10
    static let chunkLineBytesMax = 4 << 10

    private enum State: Hashable, Sendable {
        case head
        case counted(Int)
        case chunkLine
        case chunk(Int)
        /// The line break behind a chunk's data.
        case chunkEnd
        case trailers
        case untilClose
        case complete
    }

    private(set) var head: HTTPResponseHead?
    private var state = State.head
    /// The line, or the head, that is not complete yet.
    private var pending: [UInt8] = []

    init() {}

    var isComplete: Bool { state == .complete }

    /// Whether another request may follow on the connection; only once ``isComplete``.
    private(set) var keepsAlive = false

    /// Takes all of `bytes`; appends what belongs to the body.
    mutating func receive(
        _ bytes: ArraySlice<UInt8>, body: inout [UInt8]
    ) throws(HTTPResponseError) {
        var rest = bytes
        while !rest.isEmpty {
            switch state {
            case .head:
                try takeHead(&rest)
            case .counted(let left):
                let left = Self.take(left, of: &rest, into: &body)
                state = left == 0 ? .complete : .counted(left)
            case .chunkLine:
                guard let line = try takeLine(&rest) else { return }
                let count = try Self.chunkSize(line)
                state = count == 0 ? .trailers : .chunk(count)
            case .chunk(let left):
                let left = Self.take(left, of: &rest, into: &body)
                state = left == 0 ? .chunkEnd : .chunk(left)
            case .chunkEnd:
                guard let line = try takeLine(&rest) else { return }
                guard line.isEmpty else {
                    throw .malformed(what: "a chunk is longer than its size")
                }
                state = .chunkLine
            case .trailers:
                guard let line = try takeLine(&rest) else { return }
                if line.isEmpty { state = .complete }
            case .untilClose:
                body += rest
                return
            case .complete:
                // More than was asked for: the connection is of no further use.
                keepsAlive = false
                return
            }
        }
    }

    /// The connection has ended.
    mutating func end() throws(HTTPResponseError) {
        keepsAlive = false
        switch state {
        case .untilClose: state = .complete
        case .complete: break
        case .head: throw .endedEarly(where: "before the head of an answer was complete")
        case .counted, .chunkLine, .chunk, .chunkEnd, .trailers:
            throw .endedEarly(where: "in the middle of an answer")
        }
    }

    // MARK: Pieces

    /// Moves up to `count` bytes; returns how many are still to come.
    private static func take(
        _ count: Int, of rest: inout ArraySlice<UInt8>, into body: inout [UInt8]
    ) -> Int {
        let part = rest.prefix(count)
        body += part
        rest = rest.dropFirst(part.count)
        return count - part.count
    }

    /// The next line without its break (CR LF, or LF alone), or nil when it is not complete.
    private mutating func takeLine(
        _ rest: inout ArraySlice<UInt8>
    ) throws(HTTPResponseError) -> [UInt8]? {
        let end = rest.firstIndex(of: UInt8(ascii: "\n"))
        pending += rest[rest.startIndex..<(end ?? rest.endIndex)]
        guard pending.count <= Self.chunkLineBytesMax else {
            throw .tooLong(what: "a line of the chunked body", limit: Self.chunkLineBytesMax)
        }
        guard let end else {
            rest = []
            return nil
        }
        rest = rest[(end + 1)...]
        if pending.last == UInt8(ascii: "\r") { pending.removeLast() }
        defer { pending.removeAll(keepingCapacity: true) }
        return pending
    }

    private static func chunkSize(_ line: [UInt8]) throws(HTTPResponseError) -> Int {
        let digits = line.prefix { $0 != UInt8(ascii: ";") && $0 != 0x20 && $0 != 0x09 }
        guard (1...15).contains(digits.count),
            let count = Int(String(decoding: digits, as: UTF8.self), radix: 16), count >= 0,
            digits.first != UInt8(ascii: "+"), digits.first != UInt8(ascii: "-")
        else {
            let text = String(decoding: line.prefix(32), as: UTF8.self)
            throw .malformed(what: "\"\(text)\" is no chunk size")
        }
        return count
    }

    // MARK: Head

    private mutating func takeHead(_ rest: inout ArraySlice<UInt8>) throws(HTTPResponseError) {
        var position = rest.startIndex
        while position < rest.endIndex {
            let byte = rest[position]
            position += 1
            pending.append(byte)
            guard pending.count <= Self.headBytesMax else {
                throw .tooLong(what: "the head of the answer", limit: Self.headBytesMax)
            }
            guard byte == UInt8(ascii: "\n") else { continue }
            guard
                pending.suffix(2) == [0x0A, 0x0A] || pending.suffix(4) == [0x0D, 0x0A, 0x0D, 0x0A]
            else { continue }
            let parsed = try Self.parseHead(pending)
            pending.removeAll(keepingCapacity: true)
            rest = rest[position...]
            // 1xx is not the answer yet (RFC 9110 section 15.2).
            if (100..<200).contains(parsed.status) { return }
            head = parsed
            state = try Self.framing(of: parsed)
            keepsAlive = Self.keepsAlive(parsed) && state != .untilClose
            return
        }
        rest = []
    }

    private static func parseHead(_ bytes: [UInt8]) throws(HTTPResponseError) -> HTTPResponseHead {
        var lines = bytes.split(separator: UInt8(ascii: "\n")).map { line in
            String(decoding: line.last == 0x0D ? line.dropLast() : line, as: UTF8.self)
        }.filter { !$0.isEmpty }
        let first = lines.isEmpty ? "" : lines.removeFirst()
        let words = first.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count >= 2, words[0] == "HTTP/1.1" || words[0] == "HTTP/1.0",
            words[1].utf8.count == 3, let status = Int(words[1]), (100..<600).contains(status)
        else { throw .malformed(what: "it begins with \"\(first.prefix(40))\"") }
        var fields: [String: String] = [:]
        for line in lines {
            guard let colon = line.firstIndex(of: ":") else {
                throw .malformed(what: "\"\(line.prefix(40))\" is no header field")
            }
            let value = line[line.index(after: colon)...]
            let trimmed = value.drop { $0 == " " || $0 == "\t" }
            let end = trimmed.lastIndex { $0 != " " && $0 != "\t" }
            let text = end.map { String(trimmed[...$0]) } ?? ""
            let name = line[..<colon].lowercased()
            fields[name] = fields[name].map { $0 + ", " + text } ?? text
        }
        return HTTPResponseHead(
            status: status, reason: words.count > 2 ? String(words[2]) : "", fields: fields,
            isVersion10: words[0] == "HTTP/1.0")
    }

    private static func framing(of head: HTTPResponseHead) throws(HTTPResponseError) -> State {
        if head.status == 204 || head.status == 304 { return .complete }
        if let coding = head.fields["transfer-encoding"] {
            guard coding.lowercased() == "chunked" else {
                throw .malformed(what: "transfer encoding \"\(coding)\" is not supported")
            }
            return .chunkLine
        }
        guard let length = head.fields["content-length"] else { return .untilClose }
        guard let count = Int(length), count >= 0 else {
            throw .malformed(what: "Content-Length \"\(length)\" is no length")
        }
        return count == 0 ? .complete : .counted(count)
    }

    private static func keepsAlive(_ head: HTTPResponseHead) -> Bool {
        let connection = head.fields["connection"]?.lowercased() ?? ""
        return head.isVersion10 ? connection == "keep-alive" : connection != "close"
    }
}
