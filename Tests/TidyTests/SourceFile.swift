import Foundation

/// One file of the tree, with its Swift or C text also without comments and literals.
struct SourceFile: Sendable {
    /// From the tree's root.
    let path: String
    let lines: [String]
    /// The same lines, with every character of a comment or string literal replaced by a blank.
    let code: [String]

    init(path: String, text: String) {
        self.path = path
        lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        code = Self.blanked(text).split(separator: "\n", omittingEmptySubsequences: false)
            .map(String.init)
    }

    var isSwift: Bool { path.hasSuffix(".swift") }
    var isSource: Bool { path.hasPrefix("Sources/") }
    var isTest: Bool { path.hasPrefix("Tests/") }
    var isGenerated: Bool { path.contains(".pb-c.") }

    func has(folder: String) -> Bool { path.split(separator: "/").contains(Substring(folder)) }

    /// Modules that it imports, with their lines.
    var imports: [(line: Int, module: String)] {
        code.enumerated().compactMap { index, line in
            let words = line.split(separator: " ")
            guard let place = words.firstIndex(of: "import"), place + 1 < words.count,
                words[..<place].allSatisfy({
                    ["internal", "public", "@testable", "private", "package"].contains($0)
                })
            else { return nil }
            return (index + 1, String(words[words.count - 1]))
        }
    }

    /// Line comments, nested block comments, and strings with any number of `#` and of one or three
    /// quotes. Interpolations count as literal, which is enough here.
    static func blanked(_ text: String) -> String {
        var rest = Array(text.utf8)[...]
        var output: [UInt8] = []
        func blank(_ count: Int) {
            for byte in rest.prefix(count) { output.append(byte == 0x0A ? byte : 0x20) }
            rest = rest.dropFirst(count)
        }
        func starts(_ prefix: String) -> Bool { rest.starts(with: prefix.utf8) }
        while let byte = rest.first {
            if starts("//") {
                blank(rest.firstIndex(of: 0x0A).map { $0 - rest.startIndex } ?? rest.count)
            } else if starts("/*") {
                var depth = 0
                repeat {
                    if starts("/*") { depth += 1 } else if starts("*/") { depth -= 1 }
                    blank(starts("/*") || starts("*/") ? 2 : 1)
                } while depth > 0 && !rest.isEmpty
            } else if let literal = literalCount(rest) {
                blank(literal)
            } else {
                output.append(byte)
                rest = rest.dropFirst()
            }
        }
        return String(decoding: output, as: UTF8.self)
    }

    /// Bytes of the string literal that begins here.
    private static func literalCount(_ rest: ArraySlice<UInt8>) -> Int? {
        let hashes = rest.prefix { $0 == 0x23 }.count
        guard rest.dropFirst(hashes).first == 0x22 else { return nil }
        let isBlock = rest.dropFirst(hashes).starts(with: Array("\"\"\"".utf8))
        let quotes = isBlock ? 3 : 1
        let end =
            Array(repeating: UInt8(0x22), count: quotes) + Array(repeating: 0x23, count: hashes)
        let escape = [UInt8(0x5C)] + Array(repeating: 0x23, count: hashes)
        var index = rest.startIndex + hashes + quotes
        while index < rest.endIndex {
            if rest[index...].starts(with: end) { return index + end.count - rest.startIndex }
            if !isBlock && rest[index] == 0x0A { return index - rest.startIndex }
            index += rest[index...].starts(with: escape) ? escape.count + 1 : 1
        }
        return rest.count
    }

    /// Functions and initialisers with a body: where they begin and how many lines they take.
    var functions: [(line: Int, name: String, lineCount: Int)] {
        var found: [(line: Int, name: String, lineCount: Int)] = []
        for (index, line) in code.enumerated() {
            let words = line.split { !($0.isLetter || $0.isNumber || $0 == "_" || $0 == "`") }
            let isInit = line.range(of: #"(^|\s)init[?<(]"#, options: .regularExpression) != nil
            guard words.contains("func") || words.contains("deinit") || isInit,
                let last = lastLine(from: index)
            else { continue }
            let name = lines[index].trimmingCharacters(in: .whitespaces)
            found.append((index + 1, name, last - index + 1))
        }
        return found
    }

    /// Of the body that begins at or after line `start`; nil for a declaration without one.
    private func lastLine(from start: Int) -> Int? {
        var parentheses = 0
        var braces = 0
        for index in start..<code.count {
            for character in code[index] {
                switch character {
                case "(", "[": parentheses += 1
                case ")", "]": parentheses -= 1
                case "{" where parentheses == 0 || braces > 0: braces += 1
                case "}" where braces > 0:
                    braces -= 1
                    if braces == 0 { return index }
                case "}" where parentheses == 0: return nil
                default: break
                }
            }
            let next = index + 1 < code.count ? code[index + 1] : ""
            if braces == 0, parentheses == 0, index > start || !code[index].hasSuffix(","),
                next.range(of: #"^\s*(func|init|var|let|}|$)"#, options: .regularExpression) != nil
            {
                return nil
            }
        }
        return nil
    }
}

/// The tree that these tests are part of.
enum Tree {
    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    static let files: [SourceFile] = ["Sources", "Tests", "Package.swift"].flatMap { name in
        let start = root.appendingPathComponent(name)
        guard let walk = FileManager.default.enumerator(atPath: start.path) else {
            return [name].compactMap(read)
        }
        let inside = walk.compactMap { $0 as? String }.map { "\(name)/\($0)" }
        return (inside.isEmpty ? [name] : inside).sorted().compactMap(read)
    }

    static func read(_ path: String) -> SourceFile? {
        let kinds = ["swift", "c", "h", "cpp", "proto"]
        guard kinds.contains((path as NSString).pathExtension), !path.contains("/Fixtures/"),
            let data = FileManager.default.contents(atPath: root.appendingPathComponent(path).path)
        else { return nil }
        return SourceFile(path: path, text: String(decoding: data, as: UTF8.self))
    }
}
