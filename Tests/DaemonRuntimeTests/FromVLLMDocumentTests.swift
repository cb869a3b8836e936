import Foundation
import Testing

@testable import DaemonRuntime

/// docs/from-vllm.md says of every option of vLLM what the code does with it.
@Suite struct FromVLLMDocumentTests {
    static func lines() throws -> [String] {
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let path = root.appendingPathComponent("docs").appendingPathComponent("from-vllm.md")
        return try String(contentsOf: path, encoding: .utf8)
            .split(separator: "\n").map(String.init)
    }

    static func row(_ option: VLLMOption) -> String {
        let text =
            switch option.verdict {
            case .withoutEffect(let note): "without effect: \(note)"
            case .refused(let reason): "refused: \(reason)"
            case .only(let values, let reason):
                values.map { "`\($0)`" }.joined(separator: ", ")
                    + " without effect, others refused: \(reason)"
            }
        return "| `--\(option.name)` | \(text) |"
    }

    @Test func theTablesAreTheCodes() throws {
        let lines = try Self.lines()
        let sections = lines.drop { !$0.hasPrefix("## Options of vLLM") }
        let found = sections.filter { $0.hasPrefix("| `--") }
        let expected = VLLMOption.all.map(Self.row)
        #expect(found.filter { !expected.contains($0) } == [], "not of the code")
        #expect(expected.filter { !found.contains($0) } == [], "missing")
        #expect(found == expected)
    }

    @Test func theShortFormsAreTheCodes() throws {
        let rows = try Self.lines().filter { $0.hasPrefix("| `-") && !$0.hasPrefix("| `--") }
        let expected = VLLMOption.shortForms.sorted { $0.key < $1.key }.map {
            "| `\($0.key)` | `--\($0.value)` |"
        }
        #expect(rows == expected, "\(expected.joined(separator: "\n"))")
    }

    @Test func aShortFormMeansAKnownOptionAndNoNameIsTwice() {
        let own = Set(OptionTable.all.map(\.name))
        let other = VLLMOption.all.map(\.name)
        #expect(own.isDisjoint(with: other))
        #expect(Set(other).count == other.count)
        for (short, long) in VLLMOption.shortForms {
            #expect(own.contains(long) || other.contains(long), "\(short)")
        }
    }
}
