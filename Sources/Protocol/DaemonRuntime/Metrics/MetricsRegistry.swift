/// The metrics of one daemon in Prometheus' text format (version 0.0.4). Belongs to one thread.
///
/// A metric is registered once with all its label sets; updating one is an array access.
public final class MetricsRegistry {
    public enum Kind: String, Sendable {
        case counter, gauge, histogram
    }

    /// Names a series for updates.
    public struct SeriesID: Hashable, Sendable {
        fileprivate let index: Int
    }

    private struct Series {
        let family: Int
        let labels: String
        var value: Double = 0
        var buckets: [UInt64] = []
        var sum: Double = 0
        var count: UInt64 = 0
    }

    private struct Family {
        let name: String
        let help: String
        let kind: Kind
        let bounds: [Double]
        var series: [Int] = []
    }

    private var families: [Family] = []
    private var familyIndex: [String: Int] = [:]
    private var series: [Series] = []

    public init() {}

    /// Registers a series; families keep the order of their first registration.
    ///
    /// - Parameters:
    ///   - labels: in the order in which they are printed.
    ///   - bounds: rising upper bounds of a histogram's buckets, without +Inf.
    public func register(
        _ name: String,
        _ kind: Kind,
        help: String,
        labels: KeyValuePairs<String, String> = [:],
        bounds: [Double] = []
    ) -> SeriesID {
        let family: Int
        if let known = familyIndex[name] {
            precondition(families[known].kind == kind, "\(name) is a \(families[known].kind)")
            family = known
        } else {
            family = families.count
            familyIndex[name] = family
            families.append(Family(name: name, help: help, kind: kind, bounds: bounds))
        }
        var new = Series(
            family: family,
            labels: labels.map { "\($0)=\"\(Self.escaped($1))\"" }.joined(separator: ","))
        new.buckets = Array(repeating: 0, count: families[family].bounds.count)
        series.append(new)
        families[family].series.append(series.count - 1)
        return SeriesID(index: series.count - 1)
    }

    public func set(_ id: SeriesID, _ value: Double) { series[id.index].value = value }

    public func add(_ id: SeriesID, _ amount: Double = 1) { series[id.index].value += amount }

    public func observe(_ id: SeriesID, _ value: Double) {
        let bounds = families[series[id.index].family].bounds
        if let bucket = bounds.firstIndex(where: { value <= $0 }) {
            series[id.index].buckets[bucket] += 1
        }
        series[id.index].sum += value
        series[id.index].count += 1
    }

    public func value(_ id: SeriesID) -> Double { series[id.index].value }

    /// The page that `/metrics` answers.
    public func exposition() -> String {
        var page = ""
        for family in families {
            page += "# HELP \(family.name) \(family.help)\n# TYPE \(family.name) \(family.kind)\n"
            for index in family.series {
                let entry = series[index]
                if family.kind == .histogram {
                    append(entry, of: family, to: &page)
                } else {
                    page += "\(family.name)\(Self.braces(entry.labels)) \(entry.value)\n"
                }
            }
        }
        return page
    }

    private func append(_ entry: Series, of family: Family, to page: inout String) {
        let separator = entry.labels.isEmpty ? "" : ","
        var cumulative: UInt64 = 0
        for (bound, count) in zip(family.bounds, entry.buckets) {
            cumulative += count
            page +=
                "\(family.name)_bucket{\(entry.labels)\(separator)le=\"\(bound)\"} \(cumulative)\n"
        }
        page += "\(family.name)_bucket{\(entry.labels)\(separator)le=\"+Inf\"} \(entry.count)\n"
        page += "\(family.name)_sum\(Self.braces(entry.labels)) \(entry.sum)\n"
        page += "\(family.name)_count\(Self.braces(entry.labels)) \(entry.count)\n"
    }

    private static func braces(_ labels: String) -> String { labels.isEmpty ? "" : "{\(labels)}" }

    private static func escaped(_ value: String) -> String {
        var result = ""
        for character in value {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
        return result
    }
}
