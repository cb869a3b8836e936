internal import Protocol

/// Columns for people: left-aligned text, two spaces between, no space at a line's end. What comes
/// from other processes is made printable, so that a node's name cannot drive the terminal.
struct TextTable {
    private let titles: [String]
    private var rows: [[String]] = []

    init(_ titles: [String]) { self.titles = titles }

    mutating func add(_ row: [String]) {
        precondition(row.count == titles.count, "\(row.count) cells for \(titles.count) columns")
        rows.append(row.map(Self.printable))
    }

    var text: String {
        let all = [titles] + rows
        let widths = titles.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                if column < row.count - 1 {
                    line += String(repeating: " ", count: widths[column] - cell.count + 2)
                }
            }
            while line.hasSuffix(" ") { line.removeLast() }
            return line + "\n"
        }.joined()
    }

    static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { isControl($0) ? "?" : $0 }))
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || 0x7F..<0xA0 ~= scalar.value
    }
}

/// Numbers for people.
enum Readable {
    /// `decimals` places, rounded.
    static func number(_ value: Double, decimals: Int = 1) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "-" }
        let scale = (0..<decimals).reduce(1.0) { product, _ in product * 10 }
        let scaled = Int64((abs(value) * scale).rounded())
        let sign = value < 0 && scaled > 0 ? "-" : ""
        if decimals == 0 { return "\(sign)\(scaled)" }
        let fraction = String(scaled % Int64(scale))
        let zeros = String(repeating: "0", count: decimals - fraction.count)
        return "\(sign)\(scaled / Int64(scale)).\(zeros)\(fraction)"
    }

    static func percent(_ part: Double) -> String { "\(number(part * 100)) %" }

    /// Two units at most: `1.5 s`, `42 s`, `3 min 5 s`, `2 h 10 min`.
    static func time(_ interval: Interval) -> String {
        let seconds = interval.seconds
        if seconds < 0.0995 {
            return "\(number(seconds * 1000, decimals: seconds < 0.01 ? 1 : 0)) ms"
        }
        if seconds < 9.95 { return "\(number(seconds)) s" }
        let whole = Int(seconds)
        if whole < 60 { return "\(whole) s" }
        if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
        if whole < 48 * 3600 { return "\(whole / 3600) h \(whole / 60 % 60) min" }
        return "\(whole / 86_400) d \(whole / 3600 % 24) h"
    }

    /// Powers of 1024.
    static func bytes(_ count: Int) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(count)
        var unit = 0
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return "\(number(value, decimals: unit == 0 ? 0 : 1)) \(units[unit])"
    }

    static func plural(_ count: Int, _ noun: String) -> String {
        "\(count) \(noun)\(count == 1 ? "" : "s")"
    }
}
