import DaemonRuntime
import Testing

@Suite struct JSONDocumentTests {
    static func root(_ text: String) throws -> JSONValue { try JSONDocument(Array(text.utf8)).root }

    static let kinds: [(text: String, kind: JSONValue.Kind)] = [
        ("null", .null), ("true", .bool), ("-9223372036854775808", .integer), ("0", .integer),
        ("9223372036854775807", .integer), ("9223372036854775808", .unsigned),
        ("18446744073709551615", .unsigned), ("1.0", .double), ("1e3", .double),
        ("\"\"", .string), ("[]", .array), ("{}", .object),
    ]

    @Test(arguments: kinds)
    func everyKindIsTold(text: String, kind: JSONValue.Kind) throws {
        let value = try Self.root(" \(text)\n")
        #expect(value.kind == kind)
        #expect((value.bool != nil) == (kind == .bool))
        #expect((value.integer != nil) == (kind == .integer))
        #expect((value.string != nil) == (kind == .string))
        #expect((value.array != nil) == (kind == .array))
        #expect((value.members != nil) == (kind == .object))
        #expect((value.double != nil) == [.integer, .unsigned, .double].contains(kind))
        #expect(value["x"] == nil)
    }

    @Test func valuesAreRead() throws {
        let value = try Self.root(
            #"{"a": [1, -2.5, "x\u00e9\n\u0000", true], "b": {"c": null}, "": 7, "ü": 8}"#)
        let entries = value["a"]?.array
        #expect(entries?[0].integer == 1 && entries?[0].double == 1)
        #expect(entries?[1].double == -2.5 && entries?[1].integer == nil)
        #expect(entries?[2].string == "x\u{E9}\n\0")
        #expect(entries?[3].bool == true)
        #expect(value["b"]?["c"]?.isNull == true)
        #expect(value[""]?.integer == 7 && value["ü"]?.integer == 8)
        #expect(value["b"]?["d"] == nil && value["A"] == nil)
        #expect(value.members?.map(\.key) == ["a", "b", "", "ü"])
    }

    @Test func ofAKeyThatIsThereTwiceTheFirstCounts() throws {
        let value = try Self.root(#"{"a": 1, "a": 2}"#)
        #expect(value["a"]?.integer == 1)
        #expect(value.members?.count == 2)
    }

    @Test func aValueKeepsItsDocumentAlive() throws {
        var values: [JSONValue] = []
        for number in 0..<100 { values.append(try Self.root("[\"text \(number)\"]")) }
        #expect(values[42].array?.first?.string == "text 42")
    }

    @Test func aLargeArrayIsWhole() throws {
        let count = 300_000
        let text = "[" + (0..<count).map(String.init).joined(separator: ",") + "]"
        let entries = try Self.root(text).array
        #expect(entries?.count == count && entries?.last?.integer == count - 1)
    }

    @Test func nestingIsBounded() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(try Self.root(nested(1000)).array?.count == 1)
        #expect(throws: JSONError.self) { try Self.root(nested(100_000)) }
    }

    static let invalid = [
        "", " ", "nul", "tru", "{", "[1,]", "{\"a\":}", "{a:1}", "'x'", "\"\n\"", "\"\\x\"", "01",
        "1.", "+1", "NaN", "Infinity", "1 2", "[1] x", "\"open", "18446744073709551616",
        "1e999", "\u{FEFF}{", "\"\\ud800\"",
    ]

    @Test(arguments: invalid)
    func whatIsNotJSONIsRefusedWithAReason(text: String) {
        let error = #expect(throws: JSONError.self) { try Self.root(text) }
        #expect(error?.reason.isEmpty == false)
    }

    @Test func bytesThatAreNoUTF8AreRefused() {
        #expect(throws: JSONError.self) { try JSONDocument([0x22, 0xFF, 0x22]) }
        #expect(throws: JSONError.self) { try JSONDocument([0x22, 0xC3, 0x22]) }
    }
}
