/// A JSON value to be written; members keep their order.
indirect enum JSONTree {
    case null
    case integer(Int)
    case string(String)
    case array([JSONTree])
    case object([(String, JSONTree)])

    /// On one line (RFC 8259).
    var text: String {
        switch self {
        case .null: "null"
        case .integer(let number): "\(number)"
        case .string(let text): Self.quoted(text)
        case .array(let parts): "[" + parts.map(\.text).joined(separator: ", ") + "]"
        case .object(let members):
            "{" + members.map { "\(Self.quoted($0.0)): \($0.1.text)" }.joined(separator: ", ") + "}"
        }
    }

    private static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": quoted += "\\\(scalar)"
            case "\u{0}"..<" ":
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
