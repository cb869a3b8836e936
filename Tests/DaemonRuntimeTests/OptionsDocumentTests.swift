import Foundation
import Testing

@testable import DaemonRuntime

/// The tables of docs/options.md are those of ``OptionTable``, row by row. Where a test fails, it
/// says which rows belong there.
@Suite struct OptionsDocumentTests {
    /// The lines of the file that are table rows and begin with an option.
    static func documented() throws -> [String] {
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let path = root.appendingPathComponent("docs").appendingPathComponent("options.md")
        return try String(contentsOf: path, encoding: .utf8)
            .split(separator: "\n").filter { $0.hasPrefix("| `--") }.map(String.init)
    }

    static func values(of kind: OptionSpecification.Kind) -> String {
        switch kind {
        case .integer(let range): "\(range.lowerBound) to \(range.upperBound)"
        case .number(let range): "\(range.lowerBound) to \(range.upperBound)"
        case .text: "text"
        case .choice(let choices): choices.joined(separator: ", ")
        case .flag: "flag"
        case .list: "list"
        }
    }

    static func daemons(of scope: OptionSpecification.Scope) -> String {
        switch scope {
        case .deployment:
            "deployment"
        case .node(let daemons):
            daemons == DaemonKind.allCases
                ? "all"
                : daemons.map { $0 == .worker ? "worker" : "\($0)" }.joined(separator: ", ")
        case .launcher:
            "phalanxctl"
        }
    }

    static func row(_ option: OptionSpecification) -> String {
        let value = option.defaultValue ?? "–"
        let name = "`--\(option.name)`" + (option.isReloadable ? " ↻" : "")
        let cells: [String]
        switch option.scope {
        case .deployment:
            cells = [name, value, values(of: option.kind), option.help]
        case .node, .launcher:
            cells = [
                name, daemons(of: option.scope), value, values(of: option.kind),
                option.help,
            ]
        }
        return "| " + cells.joined(separator: " | ") + " |"
    }

    static func refusals(_ option: OptionSpecification) -> [String] {
        option.refused.sorted { $0.key < $1.key }.map {
            "| `--\(option.name) \($0.key)` | \($0.value) |"
        }
    }

    @Test func theTablesHaveExactlyTheOptionsWithTheirDefaults() throws {
        let options = OptionTable.all.map(Self.row)
        let expected = options + OptionTable.all.flatMap(Self.refusals)
        let found = try Self.documented()
        let missing = expected.filter { !found.contains($0) }
        let extra = found.filter { !expected.contains($0) }
        #expect(missing.isEmpty, "missing:\n\(missing.joined(separator: "\n"))")
        #expect(extra.isEmpty, "not of the code:\n\(extra.joined(separator: "\n"))")
        #expect(found == expected, "another order:\n\(expected.joined(separator: "\n"))")
    }
}
