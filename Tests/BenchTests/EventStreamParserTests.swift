import Testing

@testable import Bench

@Suite struct EventStreamParserTests {
    static let stream =
        ": ping\n\ndata: {\"a\":1}\n\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\n"
        + "id: 7\n\ndata: über\n\ndatax: no\n\ndata\n\ndata: [DONE]\n\n"
    static let events = ["{\"a\":1}", "two\nlines", "über", "", "[DONE]"]

    static func events(_ pieces: [[UInt8]]) -> [String] {
        var parser = EventStreamParser()
        var events: [String] = []
        let take = { (data: [UInt8]) in events.append(String(decoding: data, as: UTF8.self)) }
        for piece in pieces where !parser.receive(piece, take) { return ["refused"] }
        parser.finish(take)
        return events
    }

    @Test func eventsAreTheSameWithEverySplit() {
        let bytes = Array(Self.stream.utf8)
        for split in 0...bytes.count {
            let pieces = [Array(bytes[..<split]), Array(bytes[split...])]
            #expect(Self.events(pieces) == Self.events, "split at \(split)")
        }
        #expect(Self.events(bytes.map { [$0] }) == Self.events)
    }

    @Test func loneCarriageReturnsEndLines() {
        #expect(Self.events([Array("data: a\rdata: b\r\rdata: c\r\r".utf8)]) == ["a\nb", "c"])
    }

    @Test func aLastEventNeedsNoEmptyLine() {
        #expect(Self.events([Array("data: a\n\ndata: [DONE]".utf8)]) == ["a", "[DONE]"])
    }

    @Test func anEventWithoutEndIsRefused() {
        var parser = EventStreamParser()
        let piece = [UInt8](repeating: 0x61, count: 1 << 20)
        var accepted = 0
        while accepted < 100, parser.receive(piece, { _ in }) { accepted += 1 }
        #expect(accepted == EventStreamParser.eventBytesMax >> 20)
    }
}
