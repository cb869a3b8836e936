/// Translates a pre-tokenizer's regular expression from Oniguruma, which tokenizers uses, to PCRE2.
///
/// Only what means the same in both is let through. `\s` and `\S` are spelled out, because PCRE2
/// counts U+180E as a space, and Unicode's White_Space does not; so are `\p{L}` and its like, for
/// the characters that PCRE2 is too old to know.
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
                if escape == "p" || escape == "P" {
                    let name = popName(&scalars)
                    guard let name,
                        let text = translate(
                            category: name, isNegated: escape == "P", isInClass: isInClass)
                    else { return .unknown(#"\"# + String(escape) + "{" + (name ?? "") + "}") }
                    output += text
                    continue
                }
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
        case "d", "D", "r", "n", "t": #"\"# + String(escape)
        // An escaped character that is no letter and no digit stands for itself.
        case "!"..."/", ":"..."@", "["..."`", "{"..."~", " ": #"\"# + String(escape)
        default: nil
        }
    }

    /// Takes the name in braces behind `\p`.
    private static func popName(_ scalars: inout ArraySlice<Unicode.Scalar>) -> String? {
        guard scalars.first == "{", let end = scalars.firstIndex(of: "}") else { return nil }
        let name = String(String.UnicodeScalarView(scalars[(scalars.startIndex + 1)..<end]))
        scalars = scalars[(end + 1)...]
        return name
    }

    private static func translate(
        category: String, isNegated: Bool, isInClass: Bool
    ) -> String? {
        guard let added = UnicodeAdditions.classMembers(category: category) else { return nil }
        let members = #"\p{"# + category + "}" + added
        if isInClass { return isNegated ? nil : members }
        return (isNegated ? "[^" : "[") + members + "]"
    }
}
