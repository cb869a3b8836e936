/// A value for `--json`, and its text. Members keep their order.
indirect enum JSONText: Hashable, Sendable {
    case object([Member])
    case array([JSONText])
    case string(String)
    case integer(Int64)
    case number(Double)
    case bool(Bool)
    case null

    struct Member: Hashable, Sendable {
        let key: String
        let value: JSONText
    }

    static func members(_ members: KeyValuePairs<String, JSONText>) -> JSONText {
        .object(members.map { Member(key: $0.key, value: $0.value) })
    }

    static func record(_ members: [(String, JSONText)]) -> JSONText {
        .object(members.map { Member(key: $0.0, value: $0.1) })
    }

    static func optional(_ text: String?) -> JSONText { text.map { .string($0) } ?? .null }

    /// One line.
    var text: String {
        switch self {
        case .object(let members):
            let parts = members.map { "\(Self.quoted($0.key)):\($0.value.text)" }
            return "{\(parts.joined(separator: ","))}"
        case .array(let values):
            return "[\(values.map(\.text).joined(separator: ","))]"
        case .string(let text): return Self.quoted(text)
        case .integer(let value): return "\(value)"
        // JSON has no infinity.
        case .number(let value): return value.isFinite ? "\(value)" : "null"
        case .bool(let value): return value ? "true" : "false"
        case .null: return "null"
        }
    }

    private static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case "\r": quoted += "\\r"
            case "\0"..<" ":
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
