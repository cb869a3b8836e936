import Protocol
import Testing

@testable import Bench

@Suite struct BenchRequestTests {
    /// What a request makes of these pieces of a body, one a millisecond.
    private static func record(
        _ pieces: [String], fields: [String: String] = ["transfer-encoding": "chunked"],
        failure: HTTPClientError? = nil
    ) -> RequestRecord? {
        var ended: RequestRecord?
        let request = BenchRequest(message: [], promptLength: 7) { ended = $0 }
        request.onHead(
            HTTPResponseHead(status: 200, reason: "OK", fields: fields, isVersion10: false))
        for (index, piece) in pieces.enumerated() {
            let now = Instant(nanoseconds: Int64(index) * 1_000_000)
            request.onBody(Array(piece.utf8), at: now)
        }
        request.onEnd(failure)
        return ended
    }

    static let first = #"data: {"choices":[{"text":"a"}],"usage":{"completion_tokens":1}}"# + "\n\n"
    static let chat = #"data: {"choices":[{"delta":{"content":"b"}}]}"# + "\n\n"
    static let usage = #"data: {"choices":[],"usage":{"completion_tokens":9}}"# + "\n\n"
    static let done = "data: [DONE]\n\n"

    @Test func eventsWithChoicesMakeTheLatencies() throws {
        let record = try #require(
            Self.record([": ping\n\n", Self.first, Self.chat + Self.chat, Self.usage, Self.done]))
        #expect(record.hasSucceeded)
        #expect(record.text == "abb")
        #expect(record.completionTokens == 9)
        #expect(record.firstToken == Instant(nanoseconds: 1_000_000))
        #expect(record.lastToken == Instant(nanoseconds: 2_000_000))
        #expect(record.interTokenSeconds == [0.001, 0])
        #expect(record.promptLength == 7)
    }

    @Test func whereOnlyTheCloseEndsTheBodyDoneMustHaveCome() {
        #expect(Self.record([Self.first, Self.done], fields: [:])?.error == nil)
        let cut = Self.record([Self.first], fields: [:])
        #expect(cut?.error == "the connection was closed before data: [DONE]")
        #expect(Self.record([Self.first])?.hasSucceeded == true)
    }

    @Test(arguments: [
        ([first, "data: {\"choices\"\n\n"], "an event is no JSON"),
        ([first, "data: {\"error\":\"full\"}\n\n"], "the stream reports an error"),
        ([usage, done], "no event with choices"),
        (["{\"choices\":[{\"text\":\"a\"}]}"], "no event with choices"),
    ])
    func whatIsNoStreamOfTokensHasFailed(pieces: [String], reason: String) {
        #expect(Self.record(pieces)?.error?.contains(reason) == true)
    }

    @Test func aBrokenConnectionKeepsWhatHasCome() {
        let record = Self.record([Self.first], failure: .broken(reason: "reset"))
        #expect(record?.error == "the connection broke: reset")
        #expect(record?.text == "a")
        #expect(record?.hasFailed == true)
    }
}
