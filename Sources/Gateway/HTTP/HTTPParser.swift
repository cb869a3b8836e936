/// An incremental HTTP/1.1 request parser: bytes in, requests out (RFC 9112).
///
/// It refuses whatever two readers of the same bytes could take for different requests, because
/// that is how requests are smuggled past a proxy: bare LF, folded lines, white space before a
/// colon, more than one length of a body. There is no lenient mode. How the bytes are cut into
/// pieces never changes what comes out. It holds at most one request and never reads past its end;
/// what follows stays with the caller.
struct HTTPParser: Sendable {
    enum Outcome: Hashable, Sendable {
        /// All input was consumed, and the request is not complete.
        case needsMore
        /// The client waits for `100 Continue` before it sends the body. Reported once a request,
        /// after its head; parsing goes on with the rest of the input.
        case continueExpected
        /// Complete. The next byte belongs to the next request.
        case request(HTTPRequest)
        /// Nothing more is consumed from here on.
        case refused(HTTPParseError)
    }

    enum Phase: Hashable, Sendable {
        case requestLine
        case headers
        case body(bytesLeft: Int)
        case chunkSize
        case chunkData(bytesLeft: Int)
        case chunkEnd
        case trailers
        case refused(HTTPParseError)
    }

    let limits: HTTPMessageLimits
    private(set) var phase = Phase.requestLine
    /// The current line without its end, as far as it came.
    private var line: [UInt8] = []
    private var endsWithCarriageReturn = false
    private var skippedEmptyLine = false
    private var head = HTTPRequestHead()
    private var headerBytes = 0
    private var chunkExtensionBytes = 0
    private var body: [UInt8] = []

    init(limits: HTTPMessageLimits) {
        self.limits = limits
    }

    /// True between requests: not a byte of the next one has come.
    var isIdle: Bool {
        phase == .requestLine && line.isEmpty && !endsWithCarriageReturn && !skippedEmptyLine
    }

    /// True once the head is complete and the body is not.
    var isReadingBody: Bool {
        switch phase {
        case .requestLine, .headers, .refused: false
        case .body, .chunkSize, .chunkData, .chunkEnd, .trailers: true
        }
    }

    /// Consumes bytes up to the next outcome. With `needsMore` it has consumed all of them.
    mutating func parse(_ input: Span<UInt8>) -> (consumed: Int, outcome: Outcome) {
        var index = 0
        do throws(HTTPParseError) {
            while true {
                if let outcome = try step(input, &index) { return (index, outcome) }
            }
        } catch {
            phase = .refused(error)
            return (index, .refused(error))
        }
    }

    /// Consumes one line, or one piece of a body; nil when there may be more to do.
    private mutating func step(
        _ input: Span<UInt8>, _ index: inout Int
    ) throws(HTTPParseError) -> Outcome? {
        switch phase {
        case .refused(let error):
            throw error
        case .body(let bytesLeft):
            guard index < input.count else { return .needsMore }
            let left = bytesLeft - takeBody(input, &index, atMost: bytesLeft)
            if left == 0 { return .request(finish()) }
            phase = .body(bytesLeft: left)
            return nil
        case .chunkData(let bytesLeft):
            guard index < input.count else { return .needsMore }
            let left = bytesLeft - takeBody(input, &index, atMost: bytesLeft)
            phase = left == 0 ? .chunkEnd : .chunkData(bytesLeft: left)
            return nil
        case .requestLine, .headers, .chunkSize, .chunkEnd, .trailers:
            guard try takeLine(input, &index) else { return .needsMore }
            let outcome = try onLine()
            line.removeAll(keepingCapacity: true)
            return outcome
        }
    }

    // MARK: Lines

    /// True when `line` is complete. Every byte is judged as it comes, so that garbage is refused
    /// before its line ends, and at the same byte however the input is cut.
    private mutating func takeLine(
        _ input: Span<UInt8>, _ index: inout Int
    ) throws(HTTPParseError) -> Bool {
        while index < input.count {
            let byte = input[index]
            index += 1
            if byte == HTTPBytes.lineFeed {
                guard endsWithCarriageReturn else { throw .bareLineFeed }
                endsWithCarriageReturn = false
                return true
            }
            if endsWithCarriageReturn { throw .bareCarriageReturn }
            if byte == HTTPBytes.carriageReturn {
                endsWithCarriageReturn = true
                continue
            }
            if HTTPBytes.isControl(byte) { throw .controlByte(byte) }
            line.append(byte)
            try checkLineLength()
        }
        return false
    }

    private mutating func checkLineLength() throws(HTTPParseError) {
        switch phase {
        case .requestLine:
            let overhead =
                HTTPMessageLimits.methodBytesMax + " ".utf8.count + " HTTP/1.1".utf8.count
            if line.count == 1, !HTTPBytes.isTokenByte(line[0]) { throw .requestLineMalformed }
            if line.count > limits.targetBytesMax + overhead {
                throw .targetTooLong(limit: limits.targetBytesMax)
            }
        case .headers, .trailers:
            headerBytes += 1
            if line.count > limits.headerLineBytesMax {
                throw .headerLineTooLong(limit: limits.headerLineBytesMax)
            }
            if headerBytes > limits.headerBytesMax {
                throw .headersTooLong(limit: limits.headerBytesMax)
            }
        case .chunkSize:
            if line.count > HTTPMessageLimits.chunkLineBytesMax {
                throw .chunkLineTooLong(limit: HTTPMessageLimits.chunkLineBytesMax)
            }
        case .chunkEnd:
            throw .chunkEndMissing
        case .body, .chunkData, .refused:
            preconditionFailure("there are no lines in phase \(phase)")
        }
    }

    private mutating func onLine() throws(HTTPParseError) -> Outcome? {
        switch phase {
        case .requestLine:
            if line.isEmpty {
                // RFC 9112 section 2.2: some old clients end a body with one line end too many.
                if skippedEmptyLine { throw .requestLineMalformed }
                skippedEmptyLine = true
                return nil
            }
            head = try HTTPRequestHead(requestLine: line[...], limits: limits)
            phase = .headers
        case .headers:
            if line.isEmpty { return try onEndOfHead() }
            try head.addField(line[...], limits: limits)
        case .chunkSize:
            try onChunkSize()
        case .chunkEnd:
            phase = .chunkSize
        case .trailers:
            if line.isEmpty { return .request(finish()) }
            // Checked and dropped: no field of a trailer may change how the request is read.
            try head.addTrailer(line[...], limits: limits)
        case .body, .chunkData, .refused:
            preconditionFailure("there are no lines in phase \(phase)")
        }
        return nil
    }

    private mutating func onEndOfHead() throws(HTTPParseError) -> Outcome? {
        switch try head.framing(limits: limits) {
        case .length(0):
            return .request(finish())
        case .length(let count):
            body.reserveCapacity(min(count, HTTPMessageLimits.bodyReservedBytesMax))
            phase = .body(bytesLeft: count)
        case .chunked:
            phase = .chunkSize
        }
        return head.expectsContinue ? .continueExpected : nil
    }

    // MARK: Bodies

    private mutating func takeBody(
        _ input: Span<UInt8>, _ index: inout Int, atMost count: Int
    ) -> Int {
        let taken = min(count, input.count - index)
        input.extracting(index..<(index + taken)).withUnsafeBufferPointer {
            body.append(contentsOf: $0)
        }
        index += taken
        return taken
    }

    /// `1*HEXDIG [ ";" extension ]` (RFC 9112 section 7.1).
    private mutating func onChunkSize() throws(HTTPParseError) {
        var size = 0
        var digits = 0
        for byte in line {
            guard let value = HTTPBytes.hexadecimalValue(byte) else { break }
            digits += 1
            guard digits <= HTTPMessageLimits.chunkSizeDigitsMax else { throw .chunkSizeMalformed }
            size = size * 16 + value
        }
        guard digits > 0, line.count == digits || line[digits] == UInt8(ascii: ";") else {
            throw .chunkSizeMalformed
        }
        chunkExtensionBytes += line.count - digits
        guard chunkExtensionBytes <= HTTPMessageLimits.chunkExtensionBytesMax else {
            throw .chunkExtensionsTooLong(limit: HTTPMessageLimits.chunkExtensionBytesMax)
        }
        guard size <= limits.bodyBytesMax - body.count else {
            throw .bodyTooLong(limit: limits.bodyBytesMax)
        }
        phase = size == 0 ? .trailers : .chunkData(bytesLeft: size)
    }

    private mutating func finish() -> HTTPRequest {
        let request = HTTPRequest(
            method: head.method, path: head.path, query: head.query, headers: head.headers,
            body: body, isKeepAlive: head.isKeepAlive, isVersion10: head.isVersion10, peer: nil)
        body = []
        head = HTTPRequestHead()
        headerBytes = 0
        chunkExtensionBytes = 0
        skippedEmptyLine = false
        line.removeAll(keepingCapacity: true)
        phase = .requestLine
        return request
    }
}
