import Testing

@testable import Gateway

@Suite struct PatternTranslationTests {
    private func matches(_ pattern: String, _ text: String) throws -> [String] {
        var reason = ""
        let splitter = try #require(PatternSplitter(pattern: pattern, reason: &reason), "\(reason)")
        let bytes = Array(text.utf8)
        var matches: [String] = []
        var offset = 0
        while offset <= bytes.count {
            let match = bytes.withUnsafeBufferPointer { splitter.next(in: $0, from: offset) }
            guard case .found(let start, let end) = match, start < end else { break }
            matches.append(String(decoding: bytes[start..<end], as: UTF8.self))
            offset = end
        }
        return matches
    }

    /// Unicode's White_Space, neither more (PCRE2 has U+180E) nor less.
    @Test func spacesAreThoseOfUnicode() throws {
        var spaces: [UInt32] = []
        for value in UInt32(1)..<0x3100 {
            guard let scalar = Unicode.Scalar(value) else { continue }
            let isSpace = try matches(#"\s"#, String(scalar)).count == 1
            #expect(isSpace == scalar.properties.isWhitespace, "\(value)")
            if isSpace { spaces.append(value) }
        }
        #expect(spaces.count == 25)
        #expect(try matches(#"\S+"#, "a\u{180E}b \u{85}c") == ["a\u{180E}b", "c"])
        #expect(try matches(#"[^\sx]+"#, "ab\u{3000}cxd") == ["ab", "c", "d"])
    }

    /// One of each category, and one that Unicode has named since version 14.
    @Test(arguments: [
        ("L", "的\u{2EBF0}"), ("M", "\u{301}\u{10EFD}"), ("N", "½\u{1E4F0}"),
        ("P", "。\u{1B4E}"), ("S", "€\u{1FAE8}"),
    ])
    func categoriesAreThoseOfUnicode16(category: String, text: String) throws {
        #expect(try matches("\\p{\(category)}+", text) == [text])
        #expect(try matches("[\\p{\(category)}x]+", text + "x") == [text + "x"])
        #expect(try matches("[^\\p{\(category)}]+", text).isEmpty)
        #expect(try matches("\\P{\(category)}+", text + "\u{E000}") == ["\u{E000}"])
    }

    @Test(arguments: [
        #"\w"#, #"\b"#, #"\h"#, #"\p{Han}"#, #"\pL"#, #"\p{L"#, #"[\S]"#, #"[\P{L}]"#, "a.b", "$",
        "[[a]]", "[]a]", "[a&&b]", "(?i)a", "(?<a>b)", #"a\"#,
    ])
    func whatPCRE2WouldReadInAnotherWayIsRefused(pattern: String) {
        var reason = ""
        #expect(PatternSplitter(pattern: pattern, reason: &reason) == nil)
        #expect(!reason.isEmpty)
    }

    @Test func lookingAheadEndsWithThePiece() throws {
        #expect(try matches(#"\s+(?!\S)|\s+"#, "a   b  ") == ["  ", " ", "  "])
    }
}
