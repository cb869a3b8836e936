/// `torchair_graph_config` of `--additional-config`: graph mode, in which ticks of decoding alone
/// have one of few fixed sizes, as accelerators need that replay captured graphs.
///
/// Keys that say how a graph is captured have no effect here; those that say for which sizes have.
/// As in vLLM-Ascend they are refused without `enabled`, since they would be lost in silence.
public struct GraphConfiguration: Hashable, Sendable {
    public private(set) var isEnabled = false
    /// `graph_batch_sizes`; empty: none are given.
    private var given: [Int] = []
    /// `graph_batch_sizes_init`
    private var beginsAtFour = false

    static let key = "torchair_graph_config"
    private static let enabledKey = "enabled"
    private static let sizesKey = "graph_batch_sizes"
    private static let initialKey = "graph_batch_sizes_init"
    /// Of a graph that the CPU does not capture.
    private static let keysWithoutEffect = [
        "mode", "enable_kv_nz", "enable_multistream_mla", "enable_multistream_moe",
        "enable_super_kernel", "enable_view_optimize", "enable_frozen_parameter",
        "use_cached_graph", "use_cached_kv_cache_bytes",
    ]
    /// Where sizes begin with `graph_batch_sizes_init`.
    private static let initialSize = 4
    /// Sizes that may be given.
    static let sizesMax = 256

    init() {}

    init(_ value: JSONValue) throws(OptionError) {
        guard let members = value.members else {
            throw OptionError(description: "\(Self.key) is not an object")
        }
        for (key, value) in members {
            switch key {
            case Self.enabledKey: isEnabled = try Self.flag(key, value)
            case Self.initialKey: beginsAtFour = try Self.flag(key, value)
            case Self.sizesKey: given = try Self.sizes(value)
            case _ where Self.keysWithoutEffect.contains(key): break
            default:
                let known = [Self.enabledKey, Self.sizesKey, Self.initialKey]
                let hint =
                    OptionTable.nearest(to: key, among: known + Self.keysWithoutEffect)
                    .map { "; did you mean \"\($0)\"?" } ?? ""
                throw OptionError(description: "unknown key \"\(Self.key).\(key)\"\(hint)")
            }
        }
        if !isEnabled, beginsAtFour || !given.isEmpty {
            throw OptionError(
                description: "\(Self.key).\(given.isEmpty ? Self.initialKey : Self.sizesKey) is "
                    + "without effect unless \(Self.enabledKey) is true")
        }
        if beginsAtFour, !given.isEmpty {
            throw OptionError(
                description: "\(Self.key): \(Self.initialKey) makes sizes and \(Self.sizesKey) "
                    + "gives them; leave one of them out")
        }
    }

    /// For the log: what becomes of the option.
    var note: String {
        isEnabled
            ? "\(Self.key) fills ticks of decoding up to fixed sizes; the CPU has no graph to "
                + "capture, so that its other keys have no effect"
            : "\(Self.key) has no effect unless \(Self.enabledKey) is true"
    }

    /// The sizes of ticks, rising; none where graph mode is off. The workers of a DP rank divide a
    /// tick's rows, so each size is rounded up to a multiple of how many they are; those that are
    /// then more rows than a step takes are left out.
    ///
    /// - Parameters:
    ///   - sequencesMax: `--max-num-seqs`, the rows that decoding may have.
    ///   - rowsMax: `--max-num-batched-tokens`
    public func batchSizes(
        sequencesMax: Int, rowsMax: Int, tensorParallelSize: Int
    ) throws(OptionError) -> [Int] {
        guard isEnabled else { return [] }
        if let largest = given.last, largest > sequencesMax {
            throw OptionError(
                description: "\(Self.key).\(Self.sizesKey) has \(largest), more than "
                    + "--max-num-seqs \(sequencesMax): no tick of decoding has so many rows")
        }
        var sizes: [Int] = []
        for size in given.isEmpty ? powers(through: sequencesMax) : given {
            let parts = (size + tensorParallelSize - 1) / tensorParallelSize
            let rounded = parts * tensorParallelSize
            if rounded <= rowsMax, rounded > sizes.last ?? 0 { sizes.append(rounded) }
        }
        guard !sizes.isEmpty else {
            throw OptionError(
                description: "\(Self.key): no size is a multiple of --tensor-parallel-size "
                    + "\(tensorParallelSize) and at most --max-num-batched-tokens \(rowsMax); "
                    + "raise the latter")
        }
        return sizes
    }

    /// Powers of two, and at the end whatever a full rank has.
    private func powers(through last: Int) -> [Int] {
        var sizes: [Int] = []
        var size = beginsAtFour ? Self.initialSize : 1
        while size < last {
            sizes.append(size)
            size *= 2
        }
        return sizes + [last]
    }

    private static func flag(_ key: String, _ value: JSONValue) throws(OptionError) -> Bool {
        guard let flag = value.bool else {
            throw OptionError(description: "\(Self.key).\(key) is not true or false")
        }
        return flag
    }

    private static func sizes(_ value: JSONValue) throws(OptionError) -> [Int] {
        guard let entries = value.array, entries.count <= sizesMax else {
            throw OptionError(
                description: "\(key).\(sizesKey) is not a list of at most \(sizesMax) numbers")
        }
        var sizes: [Int] = []
        for entry in entries {
            guard let size = entry.integer, size > 0 else {
                throw OptionError(
                    description: "\(key).\(sizesKey) holds something else than whole numbers of "
                        + "at least 1")
            }
            guard size > sizes.last ?? 0 else {
                throw OptionError(
                    description: "\(key).\(sizesKey): \(size) comes after \(sizes.last ?? 0); "
                        + "give each size once, in rising order")
            }
            sizes.append(size)
        }
        return sizes
    }
}
