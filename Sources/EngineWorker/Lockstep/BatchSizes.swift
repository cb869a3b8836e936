import Protocol

/// The sizes that ticks of decoding have in graph mode. An accelerator replays a graph that was
/// captured for one number of rows, and in lock-step all ranks must replay the same one: so each
/// fills its rows up to the smallest size that holds the busiest rank's.
///
/// Which size a tick has is a pure function of its vector, as everything that ranks do alike.
struct BatchSizes: Hashable, Sendable {
    /// The first version of a view in which rows are filled up; the workers of a DP rank divide
    /// them, so all must do it.
    static let protocolVersion: UInt32 = 2

    static let none = BatchSizes([])

    /// Rising.
    let sizes: [Int]

    init(_ sizes: [Int]) {
        precondition(zip([0] + sizes, sizes).allSatisfy { $0 < $1 }, "\(sizes) do not rise")
        self.sizes = sizes
    }

    /// 0 where there are none.
    var largest: Int { sizes.last ?? 0 }

    /// nil where the tick has rows of prompts, no rows at all, or more than the largest size: then
    /// each rank computes what it has.
    func size(for entries: [TickEntry]) -> Int? {
        var busiest = 0
        for entry in entries {
            if entry.prefillTokens > 0 { return nil }
            busiest = max(busiest, Int(entry.tokens))
        }
        return busiest == 0 ? nil : sizes.first { $0 >= busiest }
    }
}
