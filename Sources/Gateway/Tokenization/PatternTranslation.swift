/// Translates a pre-tokenizer's regular expression from Oniguruma, which tokenizers uses, to PCRE2.
///
/// Only what means the same in both is let through; `\s` and `\S` are spelled out, because PCRE2
/// counts U+180E as a space, and Unicode's White_Space does not.
enum PatternTranslation {
    private static let space = #"\t-\r\x{85}\p{Z}"#

    enum Outcome: Equatable {
        case translated(String)
        /// What the pattern contains and this translation does not know.
        case unknown(String)
    }

    static func translate(_ pattern: String) -> Outcome {
        var output = ""
        var scalars = Array(pattern.unicodeScalars)[...]
        var isInClass = false
        while let scalar = scalars.popFirst() {
            switch (scalar, isInClass) {
            case (#"\"#, _):
                guard let escape = scalars.popFirst() else { return .unknown(#"\ at the end"#) }
                guard let text = translateEscape(escape, isInClass: isInClass) else {
                    return .unknown(#"\"# + String(escape))
                }
                output += text
            case ("[", true): return .unknown("[ inside of a character class")
            case ("[", false):
                isInClass = true
                output.unicodeScalars.append(scalar)
                if scalars.first == "^", let caret = scalars.popFirst() {
                    output.unicodeScalars.append(caret)
                }
                if scalars.first == "]" { return .unknown("] at the start of a character class") }
            case ("]", _):
                isInClass = false
                output.unicodeScalars.append(scalar)
            case ("&", true) where scalars.first == "&":
                return .unknown("&& inside of a character class")
            case ("^", false), ("$", false), (".", false): return .unknown(String(scalar))
            case ("(", false) where scalars.first == "?":
                guard
                    ["?:", "?!", "?="].contains(String(String.UnicodeScalarView(scalars.prefix(2))))
                else { return .unknown("(? with other than : ! =") }
                output.unicodeScalars.append(scalar)
            default:
                output.unicodeScalars.append(scalar)
            }
        }
        return .translated(output)
    }

    private static func translateEscape(_ escape: Unicode.Scalar, isInClass: Bool) -> String? {
        switch escape {
        case "s": isInClass ? space : "[\(space)]"
        case "S": isInClass ? nil : "[^\(space)]"
        case "p", "P", "d", "D", "r", "n", "t": #"\"# + String(escape)
        // An escaped character that is no letter and no digit stands for itself.
        case "!"..."/", ":"..."@", "["..."`", "{"..."~", " ": #"\"# + String(escape)
        default: nil
        }
    }
}
