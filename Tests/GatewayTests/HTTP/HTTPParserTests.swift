import Testing

@testable import Gateway

/// Feeds `text` in pieces of `pieceBytes` and returns what came out, a refusal last.
func parseOutcomes(
    _ bytes: [UInt8], pieceBytes: Int, limits: HTTPMessageLimits = HTTPMessageLimits()
) -> [HTTPParser.Outcome] {
    var parser = HTTPParser(limits: limits)
    var outcomes: [HTTPParser.Outcome] = []
    var start = 0
    while start < bytes.count {
        let piece = Array(bytes[start..<min(start + pieceBytes, bytes.count)])
        var used = 0
        var steps = 0
        while true {
            let (consumed, outcome) = parser.parse(piece.span.extracting(used..<piece.count))
            used += consumed
            steps += 1
            precondition(steps <= 2 * piece.count + 2, "the parser does not advance")
            if outcome == .needsMore {
                precondition(used == piece.count, "\(piece.count - used) bytes were left")
                break
            }
            outcomes.append(outcome)
            if case .refused = outcome { return outcomes }
        }
        start += piece.count
    }
    return outcomes
}

func parseWhole(
    _ text: String, limits: HTTPMessageLimits = HTTPMessageLimits()
) -> [HTTPParser.Outcome] {
    let bytes = Array(text.utf8)
    return parseOutcomes(bytes, pieceBytes: max(bytes.count, 1), limits: limits)
}

/// Requests of every kind, accepted and refused; the fuzz tests start from them.
let parserCorpus: [String] =
    [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /v1/models?limit=3&x=%41 HTTP/1.1\r\nHost: [::1]:8000\r\nX: a\r\nX:\tb \r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
            + "GET /second HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "3\r\nabc\r\n0A;name=\"v\"\r\n0123456789\r\n0\r\nChecksum: 1\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
        "GET http://example.com?q HTTP/1.0\r\n\r\n",
        "\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, Close\r\n\r\n",
    ] + refusals.map(\.request)

struct Refusal: Sendable {
    let request: String
    let error: HTTPParseError
    let status: Int
}

private func refusal(_ request: String, _ error: HTTPParseError, _ status: Int) -> Refusal {
    Refusal(request: request, error: error, status: status)
}

private func withFields(_ fields: String, body: String = "") -> String {
    "POST / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n\r\n\(body)"
}

private let chunkedField = "Transfer-Encoding: chunked"

let refusals: [Refusal] = requestLineRefusals + fieldRefusals + framingRefusals + chunkRefusals

private let requestLineRefusals: [Refusal] = [
    refusal("GET / HTTP/1.1\n", .bareLineFeed, 400),
    refusal("GET / HTTP/1.1\rHost: a", .bareCarriageReturn, 400),
    refusal("GET  / HTTP/1.1\r\n", .requestLineMalformed, 400),
    refusal("GET / HTTP/1.1 \r\n", .requestLineMalformed, 400),
    refusal(" GET / HTTP/1.1\r\n", .requestLineMalformed, 400),
    refusal("GET\t/ HTTP/1.1\r\n", .requestLineMalformed, 400),
    refusal("GET /\r\n", .requestLineMalformed, 400),
    refusal("G(T / HTTP/1.1\r\n", .requestLineMalformed, 400),
    refusal("GET / http/1.1\r\n", .requestLineMalformed, 400),
    refusal("GET / HTTP/1.1.1\r\n", .requestLineMalformed, 400),
    refusal("GET / HTTP/11\r\n", .requestLineMalformed, 400),
    refusal("\r\n\r\nGET / HTTP/1.1\r\n", .requestLineMalformed, 400),
    refusal("\u{16}\u{3}\u{1}", .controlByte(0x16), 400),
    refusal("GET /\u{0} HTTP/1.1\r\n", .controlByte(0), 400),
    refusal("GET / HTTP/0.9\r\n", .versionNotSupported, 505),
    refusal("GET / HTTP/1.2\r\n", .versionNotSupported, 505),
    refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .versionNotSupported, 505),
    refusal("GET * HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET a HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET /a#b HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET /%4 HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET /%zz HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET /\u{e9} HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET /a\\b HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET http:///x HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET http://u@h/x HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("GET ftp://h/x HTTP/1.1\r\n", .targetMalformed, 400),
    refusal("CONNECT a:80 HTTP/1.1\r\n", .methodNotSupported, 501),
    refusal(
        "\(String(repeating: "M", count: 33)) / HTTP/1.1\r\n", .methodNotSupported, 501),
]

private let fieldRefusals: [Refusal] = [
    refusal("GET / HTTP/1.1\r\n\r\n", .hostMissing, 400),
    refusal(withFields("Host: b"), .hostRepeated, 400),
    refusal("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", .hostMalformed, 400),
    refusal("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", .hostMalformed, 400),
    refusal("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", .hostMalformed, 400),
    refusal("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", .hostMalformed, 400),
    refusal("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", .hostMalformed, 400),
    refusal("GET / HTTP/1.1\r\nHost : a\r\n\r\n", .headerNameMalformed, 400),
    refusal("GET / HTTP/1.1\r\n: a\r\n\r\n", .headerNameMalformed, 400),
    refusal("GET / HTTP/1.1\r\nHost\r\n\r\n", .headerNameMalformed, 400),
    refusal("GET / HTTP/1.1\r\nH\u{e9}: a\r\n\r\n", .headerNameMalformed, 400),
    refusal("GET / HTTP/1.1\r\n Host: a\r\n\r\n", .headerFolded, 400),
    refusal(withFields("X: a\r\n b"), .headerFolded, 400),
    refusal(withFields("X: a\r\n\tb"), .headerFolded, 400),
    refusal(withFields("X: a\nY: b"), .bareLineFeed, 400),
    refusal(withFields("X: a\rY: b"), .bareCarriageReturn, 400),
    refusal(withFields("X: a\u{0}b"), .controlByte(0), 400),
    refusal(withFields("X: a\u{7F}b"), .controlByte(0x7F), 400),
    refusal(withFields("Expect: a miracle"), .expectationNotSupported, 417),
]

private let framingRefusals: [Refusal] = [
    refusal(withFields("Content-Length: 1\r\nContent-Length: 2"), .contentLengthRepeated, 400),
    refusal(withFields("Content-Length: 1\r\ncontent-length: 1"), .contentLengthRepeated, 400),
    refusal(withFields("Content-Length: 1, 1"), .contentLengthMalformed, 400),
    refusal(withFields("Content-Length: -1"), .contentLengthMalformed, 400),
    refusal(withFields("Content-Length: +1"), .contentLengthMalformed, 400),
    refusal(withFields("Content-Length: 0x10"), .contentLengthMalformed, 400),
    refusal(withFields("Content-Length: 1 2"), .contentLengthMalformed, 400),
    refusal(withFields("Content-Length: 1.0"), .contentLengthMalformed, 400),
    refusal(withFields("Content-Length:"), .contentLengthMalformed, 400),
    refusal(
        withFields("Content-Length: 18446744073709551617"), .bodyTooLong(limit: 16 << 20), 413),
    refusal(
        withFields("Content-Length: 4\r\n\(chunkedField)"),
        .contentLengthWithTransferEncoding, 400),
    refusal(
        withFields("\(chunkedField)\r\nContent-Length: 4"),
        .contentLengthWithTransferEncoding, 400),
    refusal(
        "POST / HTTP/1.0\r\n\(chunkedField)\r\n\r\n", .transferEncodingInVersion10, 400),
    refusal(withFields("Transfer-Encoding: xchunked"), .transferEncodingNotChunked, 400),
    refusal(withFields("Transfer-Encoding: chunkedx"), .transferEncodingNotChunked, 400),
    refusal(withFields("Transfer-Encoding: chunked, gzip"), .transferEncodingNotChunked, 400),
    refusal(withFields("Transfer-Encoding: chunked;q=1"), .transferEncodingNotChunked, 400),
    refusal(withFields("Transfer-Encoding: identity"), .transferEncodingNotChunked, 400),
    refusal(withFields("Transfer-Encoding: \"chunked\""), .transferEncodingNotChunked, 400),
    refusal(withFields("Transfer-Encoding:"), .transferEncodingNotChunked, 400),
    refusal(withFields("Transfer-Encoding: gzip, chunked"), .transferCodingNotSupported, 501),
    refusal(withFields("Transfer-Encoding: chunked, chunked"), .transferEncodingRepeated, 400),
    refusal(withFields("\(chunkedField)\r\n\(chunkedField)"), .transferEncodingRepeated, 400),
    refusal(
        withFields("\(chunkedField)\r\nTransfer-Encoding: x"), .transferEncodingRepeated, 400),
    refusal(withFields("Transfer-Encoding: \u{B}chunked"), .controlByte(0x0B), 400),
    refusal(withFields("Transfer-Encoding : chunked"), .headerNameMalformed, 400),
    refusal(withFields("Transfer-Encoding\r\n: chunked"), .headerNameMalformed, 400),
]

private let chunkRefusals: [Refusal] = [
    refusal(withFields(chunkedField, body: "x\r\n"), .chunkSizeMalformed, 400),
    refusal(withFields(chunkedField, body: "\r\n"), .chunkSizeMalformed, 400),
    refusal(withFields(chunkedField, body: "-1\r\n"), .chunkSizeMalformed, 400),
    refusal(withFields(chunkedField, body: "0x5\r\n"), .chunkSizeMalformed, 400),
    refusal(withFields(chunkedField, body: " 5\r\n"), .chunkSizeMalformed, 400),
    refusal(withFields(chunkedField, body: "5 \r\n"), .chunkSizeMalformed, 400),
    refusal(withFields(chunkedField, body: "5 ;a\r\n"), .chunkSizeMalformed, 400),
    refusal(withFields(chunkedField, body: "10000000000000005\r\n"), .chunkSizeMalformed, 400),
    refusal(
        withFields(chunkedField, body: "fffffffffffffff\r\n"), .bodyTooLong(limit: 16 << 20), 413),
    refusal(withFields(chunkedField, body: "5\nhello"), .bareLineFeed, 400),
    refusal(withFields(chunkedField, body: "5;a\nb\r\nhello"), .bareLineFeed, 400),
    refusal(withFields(chunkedField, body: "3\r\nabcX\r\n"), .chunkEndMissing, 400),
    refusal(withFields(chunkedField, body: "3\r\nabc\n"), .bareLineFeed, 400),
    refusal(withFields(chunkedField, body: "0\r\nA b: c\r\n"), .headerNameMalformed, 400),
    refusal(withFields(chunkedField, body: "0\r\n a: c\r\n"), .headerFolded, 400),
    refusal(
        withFields(chunkedField, body: "1;\(String(repeating: "x", count: 256))"),
        .chunkLineTooLong(limit: 256), 400),
]

@Suite struct HTTPParserTests {
    private func onlyRequest(_ text: String) -> HTTPRequest? {
        guard case .request(let request) = parseWhole(text).last else { return nil }
        return request
    }

    @Test func aRequestIsTakenApart() throws {
        let request = try #require(onlyRequest(parserCorpus[1]))
        #expect(request.method == "GET")
        #expect(request.path == "/v1/models")
        #expect(request.query == "limit=3&x=%41")
        #expect(request.headers.fields.map(\.name) == ["host", "x", "x"])
        #expect(request.headers["host"] == "[::1]:8000")
        #expect(request.headers.values(of: "x") == ["a", "b"])
        #expect(request.body.isEmpty && request.isKeepAlive && !request.isVersion10)
    }

    @Test func pipelinedRequestsComeOneByOne() {
        let paths = parseWhole(parserCorpus[2]).map { outcome in
            if case .request(let request) = outcome {
                return "\(request.path) \(String(decoding: request.body, as: UTF8.self))"
            }
            return "\(outcome)"
        }
        #expect(paths == ["/v1/completions hello", "/second "])
    }

    @Test func aChunkedBodyIsPutTogetherAndItsTrailerDropped() throws {
        let request = try #require(onlyRequest(parserCorpus[3]))
        #expect(request.body == Array("abc0123456789".utf8))
        #expect(request.headers["checksum"] == nil)
    }

    @Test func expectationIsReportedBeforeTheBody() {
        let outcomes = parseWhole(parserCorpus[4])
        #expect(outcomes.count == 2)
        #expect(outcomes.first == .continueExpected)
    }

    @Test func version10IsClosedAndNeedsNoHost() throws {
        let request = try #require(onlyRequest(parserCorpus[5]))
        #expect(request.isVersion10 && !request.isKeepAlive)
        #expect(request.path == "/" && request.query == "q")
        let old = "GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: x\r\n\r\n"
        #expect(onlyRequest(old)?.isKeepAlive == false)
    }

    @Test func closeAmongConnectionOptionsIsSeen() throws {
        let request = try #require(onlyRequest(parserCorpus[6]))
        #expect(request.path == "*" && !request.isKeepAlive)
    }

    @Test(arguments: refusals.indices)
    func malformedRequestsAreRefused(index: Int) {
        let refusal = refusals[index]
        #expect(
            parseWhole(refusal.request).last == .refused(refusal.error), "\(refusal.request)")
        #expect(refusal.error.status.code == refusal.status)
        #expect(!refusal.error.description.contains { $0 == "\"" || $0 == "\\" })
    }

    @Test func aRefusedParserStaysRefused() {
        var parser = HTTPParser(limits: HTTPMessageLimits())
        let bad = Array("GET / HTTP/1.1\n".utf8)
        #expect(parser.parse(bad.span).outcome == .refused(.bareLineFeed))
        let good = Array(parserCorpus[0].utf8)
        let (consumed, outcome) = parser.parse(good.span)
        #expect(consumed == 0 && outcome == .refused(.bareLineFeed))
    }

    @Test func limitsHoldExactly() {
        var limits = HTTPMessageLimits()
        limits.targetBytesMax = 4
        limits.headerLineBytesMax = 10
        limits.headerBytesMax = 16
        limits.headerFieldsMax = 3
        limits.bodyBytesMax = 3
        func status(_ text: String) -> Int {
            switch parseWhole(text, limits: limits).last {
            case .request: 200
            case .refused(let error): error.status.code
            case .needsMore, .continueExpected, nil: 0
            }
        }
        let end = "Host: a\r\n\r\n"
        #expect(status("GET /123 HTTP/1.1\r\n\(end)") == 200)
        #expect(status("GET /1234 HTTP/1.1\r\n\(end)") == 414)
        #expect(status("GET /\(String(repeating: "x", count: 50))") == 414)
        #expect(status("GET / HTTP/1.1\r\nX: 3456789\r\n\r\n") == 400)
        #expect(status("GET / HTTP/1.1\r\nX: 34567890\r\n\r\n") == 431)
        #expect(status("GET / HTTP/1.1\r\nA:5678\r\nB: 4\r\n\(end)") == 431)
        #expect(status("GET / HTTP/1.1\r\nA:\r\nB:\r\n\(end)") == 200)
        #expect(status("GET / HTTP/1.1\r\nA:\r\nB:\r\nC:\r\n\(end)") == 431)
        limits = HTTPMessageLimits()
        limits.bodyBytesMax = 3
        let post = "POST / HTTP/1.1\r\nHost: a\r\n"
        #expect(status("\(post)Content-Length: 3\r\n\r\nabc") == 200)
        #expect(status("\(post)Content-Length: 4\r\n\r\n") == 413)
        #expect(status("\(post)\(chunkedField)\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n") == 200)
        #expect(status("\(post)\(chunkedField)\r\n\r\n2\r\nab\r\n2\r\n") == 413)
    }

    @Test func chunkExtensionsAreBoundedTogether() {
        let chunk = "1;\(String(repeating: "x", count: 200))\r\na\r\n"
        let text = withFields(chunkedField, body: String(repeating: chunk, count: 100))
        #expect(parseWhole(text).last == .refused(.chunkExtensionsTooLong(limit: 16 << 10)))
    }

    @Test func howTheInputIsCutChangesNothing() {
        for text in parserCorpus {
            let bytes = Array(text.utf8)
            let whole = parseOutcomes(bytes, pieceBytes: bytes.count)
            for pieceBytes in [1, 2, 3, 7] {
                #expect(parseOutcomes(bytes, pieceBytes: pieceBytes) == whole, "\(text)")
            }
        }
    }

    @Test func mutatedRequestsNeverCrashOrHang() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("HTTPParserTests seed \(seed)")
        var random = SplitMix(state: seed)
        for _ in 0..<3000 {
            var bytes = Array(parserCorpus[random.below(parserCorpus.count)].utf8)
            for _ in 0...random.below(4) { mutate(&bytes, &random) }
            let whole = parseOutcomes(bytes, pieceBytes: max(bytes.count, 1))
            let pieces = parseOutcomes(bytes, pieceBytes: 1 + random.below(9))
            #expect(whole == pieces, "seed \(seed): \(bytes)")
        }
    }

    private func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix) {
        guard !bytes.isEmpty else { return }
        let index = random.below(bytes.count)
        switch random.below(5) {
        case 0: bytes[index] ^= 1 << UInt8(random.below(8))
        case 1: bytes.remove(at: index)
        case 2: bytes.insert(UInt8(random.below(256)), at: index)
        case 3: bytes.insert(contentsOf: bytes[index...].prefix(random.below(20)), at: index)
        default: bytes.removeLast(bytes.count - index)
        }
    }
}

/// SplitMix64 (Steele et al., OOPSLA 2014).
struct SplitMix {
    var state: UInt64

    mutating func below(_ bound: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((mixed ^ (mixed >> 31)) % UInt64(bound))
    }
}
