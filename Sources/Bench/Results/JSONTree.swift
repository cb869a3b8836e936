internal import DaemonRuntime

/// A JSON value that is built here, written as Python's `json.dump` writes it: members in order,
/// ", " and ": " between them.
///
/// Text stays UTF-8. A number that is not finite has no JSON form and becomes null.
indirect enum JSONTree: Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case text(String)
    case array([JSONTree])
    case object([Member])

    struct Member: Hashable, Sendable {
        let key: String
        let value: JSONTree

        init(_ key: String, _ value: JSONTree) {
            self.key = key
            self.value = value
        }
    }

    init(_ value: JSONValue) {
        switch value.kind {
        case .null: self = .null
        case .bool: self = .bool(value.bool ?? false)
        case .integer: self = .integer(value.integer ?? 0)
        case .unsigned, .double: self = .number(value.double ?? 0)
        case .string: self = .text(value.string ?? "")
        case .array: self = .array((value.array ?? []).map { JSONTree($0) })
        case .object:
            self = .object((value.members ?? []).map { Member($0.key, JSONTree($0.value)) })
        }
    }

    static func numbers(_ values: [Double]) -> JSONTree { .array(values.map { .number($0) }) }
    static func integers(_ values: [Int]) -> JSONTree { .array(values.map { .integer($0) }) }

    /// Members with those of `other` in place of those that have the same key, as `dict.update`.
    static func merged(_ members: [Member], with other: [Member]) -> [Member] {
        var merged = members
        for member in other {
            if let index = merged.firstIndex(where: { $0.key == member.key }) {
                merged[index] = member
            } else {
                merged.append(member)
            }
        }
        return merged
    }

    var bytes: [UInt8] {
        var output: [UInt8] = []
        write(to: &output)
        return output
    }

    private func write(to output: inout [UInt8]) {
        switch self {
        case .null: output += "null".utf8
        case .bool(let flag): output += (flag ? "true" : "false").utf8
        case .integer(let number): output += number.description.utf8
        case .number(let number): output += (number.isFinite ? number.description : "null").utf8
        case .text(let text): Self.quote(text, to: &output)
        case .array(let values):
            output.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { output += ", ".utf8 }
                value.write(to: &output)
            }
            output.append(UInt8(ascii: "]"))
        case .object(let members):
            output.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { output += ", ".utf8 }
                Self.quote(member.key, to: &output)
                output += ": ".utf8
                member.value.write(to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
    }

    private static func quote(_ text: String, to output: inout [UInt8]) {
        output.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""): output += #"\""#.utf8
            case UInt8(ascii: "\\"): output += #"\\"#.utf8
            case 0x0A: output += #"\n"#.utf8
            case 0x0D: output += #"\r"#.utf8
            case 0x09: output += #"\t"#.utf8
            case 0..<0x20:
                let digits = String(byte, radix: 16)
                output += (#"\u00"# + (digits.utf8.count == 1 ? "0" : "") + digits).utf8
            default: output.append(byte)
            }
        }
        output.append(UInt8(ascii: "\""))
    }
}
