import DaemonRuntime
import Testing

@testable import Gateway

@Suite struct JSONWriterTests {
    private func written(_ body: (inout JSONWriter) -> Void) -> String {
        var writer = JSONWriter()
        body(&writer)
        return APIFixtures.text(writer.bytes)
    }

    @Test func controlCharactersQuotesAndBackslashesAreEscaped() {
        let text = "a\"b\\c/\u{8}\u{9}\u{A}\u{C}\u{D}\u{0}\u{1F}\u{7F}é😀\u{2028}"
        #expect(
            written { $0.string(text) }
                == #""a\"b\\c/\b\t\n\f\r\u0000\u001f"# + "\u{7F}é😀\u{2028}\"")
        #expect(written { $0.string("") } == #""""#)
        #expect(written { $0.string(nil) } == "null")
    }

    @Test func everyScalarReadsBack() throws {
        for start in stride(from: UInt32(0), to: 0x11_0000, by: 0x101) {
            var text = ""
            for value in start..<(start + 0x20) {
                if let scalar = Unicode.Scalar(value) { text.unicodeScalars.append(scalar) }
            }
            var writer = JSONWriter()
            writer.string(text)
            #expect(try JSONDocument(writer.bytes).root.string == text, "from \(start)")
        }
    }

    @Test func integersHaveTheirDigits() {
        #expect(written { $0.integer(0) } == "0")
        #expect(written { $0.integer(-7) } == "-7")
        #expect(written { $0.integer(Int64.min) } == "-9223372036854775808")
        #expect(written { $0.integer(Int64.max) } == "9223372036854775807")
        #expect(written { $0.integer(UInt64.max) } == "18446744073709551615")
        #expect(written { $0.integer(Int32.min) } == "-2147483648")
    }

    @Test func floatsAreTheShortestThatReadBack() throws {
        #expect(written { $0.number(-9999) } == "-9999.0")
        #expect(written { $0.number(0.1) } == "0.1")
        let seed = UInt64.random(in: 0...UInt64.max)
        print("SEED=\(seed)")
        var random = APIRandom(seed: seed)
        for _ in 0..<20_000 {
            let value = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
            guard value.isFinite else { continue }
            var writer = JSONWriter()
            writer.number(value)
            let read = try JSONDocument(writer.bytes).root.double
            #expect(read.map(Float.init) == value, "\(value) of seed \(seed)")
        }
    }

    @Test func arraysAndFlags() {
        #expect(written { $0.integers([1, -2, 3]) } == "[1,-2,3]")
        #expect(written { $0.integers([]) } == "[]")
        #expect(written { $0.integers(nil) } == "null")
    }

    @Test func appendingKeepsWhatWasThere() {
        var output = Array("before ".utf8)
        JSONWriter.append(to: &output) { $0.integer(1) }
        JSONWriter.append(to: &output) { $0.raw(" after") }
        #expect(APIFixtures.text(output) == "before 1 after")
    }
}
