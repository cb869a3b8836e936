import Testing

@testable import Bench

@Suite struct HTTPResponseReaderTests {
    static let chunked =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
        + "Content-Type:  text/event-stream \r\n\r\n"
        + "5\r\nhello\r\n1;name=value\r\n \r\n00A\r\nwide world\r\n0\r\nTrailer: x\r\n\r\n"
    static let counted = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nlost"
    static let untilClose = "HTTP/1.0 200 OK\n\nall there is"

    struct Outcome: Equatable {
        var status: Int?
        var body = ""
        var isComplete = false
        var keepsAlive = false
        var error: HTTPResponseError?
    }

    static func read(_ pieces: [ArraySlice<UInt8>], ends: Bool = false) -> Outcome {
        var reader = HTTPResponseReader()
        var body: [UInt8] = []
        var outcome = Outcome()
        do throws(HTTPResponseError) {
            for piece in pieces { try reader.receive(piece, body: &body) }
            if ends { try reader.end() }
        } catch {
            outcome.error = error
        }
        outcome.status = reader.head?.status
        outcome.body = String(decoding: body, as: UTF8.self)
        outcome.isComplete = reader.isComplete
        outcome.keepsAlive = reader.keepsAlive
        return outcome
    }

    @Test(arguments: [
        (
            chunked,
            Outcome(status: 200, body: "hello wide world", isComplete: true, keepsAlive: true)
        ),
        (counted, Outcome(status: 404, body: "lost", isComplete: true, keepsAlive: true)),
    ])
    func answersAreTheSameWithEverySplit(text: String, expected: Outcome) {
        let bytes = Array(text.utf8)
        for split in 0...bytes.count {
            #expect(Self.read([bytes[..<split], bytes[split...]]) == expected, "split \(split)")
        }
        #expect(Self.read(bytes.indices.map { bytes[$0...$0] }) == expected)
    }

    @Test(arguments: [chunked, counted])
    func everyTruncationIsAnError(text: String) {
        let bytes = Array(text.utf8)
        for count in 0..<bytes.count {
            let outcome = Self.read([bytes[..<count]], ends: true)
            #expect(!outcome.isComplete, "\(count) bytes")
            #expect(outcome.error != nil, "\(count) bytes")
        }
    }

    @Test func withoutALengthTheEndOfTheConnectionIsTheEnd() {
        let outcome = Self.read([Array(Self.untilClose.utf8)[...]], ends: true)
        #expect(outcome == Outcome(status: 200, body: "all there is", isComplete: true))
    }

    @Test func aBodilessStatusAndAnEmptyBodyAreComplete() {
        for text in [
            "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            #expect(Self.read([Array(text.utf8)[...]]).isComplete)
        }
    }

    @Test func whetherTheConnectionStaysIsHeard() {
        let close = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
        #expect(!Self.read([Array(close.utf8)[...]]).keepsAlive)
        let tooMuch = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"
        let outcome = Self.read([Array(tooMuch.utf8)[...]])
        #expect(outcome.body == "a" && outcome.isComplete && !outcome.keepsAlive)
    }

    @Test(arguments: [
        "SSH-2.0-x\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nX: " + String(repeating: "y", count: 70000),
    ])
    func whatIsNoAnswerIsRefused(text: String) {
        #expect(Self.read([Array(text.utf8)[...]]).error != nil)
    }

    @Test func noiseNeverTraps() {
        var random = PCG64(seed: 11)
        for _ in 0..<2000 {
            var bytes = Array(Self.chunked.utf8)
            for _ in 0...random.integer(in: 0...3) {
                let index = random.integer(in: 0...bytes.count - 1)
                bytes[index] = UInt8(random.integer(in: 0...255))
            }
            let outcome = Self.read([bytes[...]], ends: true)
            #expect(outcome.isComplete != (outcome.error != nil))
        }
    }
}
