import Foundation
import Testing

/// The rules of STYLE.md that a program can check, over every file of the tree.
@Suite struct TidyTests {
    @Test(arguments: TidyRule.all)
    func theTreeKeepsTheRule(rule: TidyRule) {
        for file in Tree.files {
            for violation in rule.check(file) {
                Issue.record(
                    "\(file.path):\(violation.line): \(violation.what) (\(rule.name): \(rule.why))")
            }
        }
    }

    @Test func theTreeIsRead() {
        #expect(Tree.files.contains { $0.path == "Package.swift" })
        #expect(Tree.files.contains { $0.path.hasPrefix("Sources/Coordinator/Views/") })
        #expect(Tree.files.contains { $0.path.hasPrefix("Tests/TidyTests/") })
    }

    @Test func everyExceptionIsNeeded() {
        for path in TidyRule.uncheckedAllowed.keys.sorted() {
            let file = Tree.read(path)
            #expect(file?.lines.contains { $0.contains("@unchecked Sendable") } == true, "\(path)")
        }
    }

    static let hasReadme = FileManager.default.fileExists(
        atPath: Tree.root.appendingPathComponent("README.md").path)

    @Test(.enabled(if: hasReadme, "README.md is not written yet"))
    func theReadmeNamesEveryFolder() throws {
        let readme = try String(
            contentsOf: Tree.root.appendingPathComponent("README.md"), encoding: .utf8)
        let folders = Set(
            Tree.files.filter(\.isSource).compactMap { file -> String? in
                let parts = file.path.split(separator: "/")
                return parts.count > 3 && parts[2] != "include" ? "\(parts[1])/\(parts[2])" : nil
            })
        #expect(folders.count > 3)
        for folder in folders.sorted() {
            #expect(readme.contains(folder), "README.md does not say what Sources/\(folder) is for")
        }
    }

    // MARK: The rules themselves

    static let examples: [(rule: String, path: String, text: String)] = [
        ("pure folders", "Sources/X/Views/A.swift", "internal import Glibc"),
        ("no Foundation", "Sources/X/A.swift", "public import Foundation"),
        ("daemons never", "Sources/Gateway/A.swift", "import Coordinator"),
        ("Protocol imports", "Sources/Protocol/A.swift", "internal import CLinux"),
        ("no traps", "Sources/X/A.swift", "let a = try! b()"),
        ("no sleeping", "Tests/X/A.swift", "Thread.sleep(1)"),
        ("no empty catch", "Sources/X/A.swift", "do { try a() } catch {}"),
        ("synchronous", "Sources/Coordinator/A.swift", "func a() async {}"),
        ("unchecked", "Sources/X/A.swift", "class A: @unchecked Sendable {}"),
        ("no fixed ports", "Tests/X/A.swift", "listen(host, port: 8080)"),
        ("every test", "Tests/X/A.swift", "@Test func a() {\n    b()\n}"),
        ("files have", "Sources/X/A.swift", String(repeating: "\n", count: 401)),
        (
            "functions have", "Sources/X/A.swift",
            "func a() {" + String(repeating: "\n", count: 60) + "}"
        ),
        ("lines have", "Sources/X/A.c", String(repeating: "x", count: 101)),
        ("open work", "Sources/X/A.swift", "// TO" + "DO: later"),
        ("no paths", "Sources/X/A.swift", "let a = \"/ho" + "me/me/x\""),
    ]

    @Test(arguments: examples)
    func everyRuleFindsItsExample(name: String, path: String, text: String) {
        let rules = TidyRule.all.filter { $0.name.hasPrefix(name) }
        #expect(rules.count == 1)
        let found = rules.first?.check(SourceFile(path: path, text: text)) ?? []
        #expect(found.count == 1, "\(found)")
    }

    @Test func everyRuleHasAnExample() {
        for rule in TidyRule.all {
            #expect(Self.examples.contains { rule.name.hasPrefix($0.rule) }, "\(rule.name)")
        }
    }

    @Test func commentsAndLiteralsAreNoCode() {
        let text =
            "a /* try! /* b */ c */ \"try! \\\" d\" #\"e\"f\"# // as!\n\"\"\"\ng\"h\n\"\"\" i"
        let code = SourceFile.blanked(text).split { $0 == " " || $0 == "\n" }
        #expect(code == ["a", "i"])
        #expect(SourceFile.blanked(text).utf8.count == text.utf8.count)
    }
}
