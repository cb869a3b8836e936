public import Protocol

/// Chooses the DP rank of a sequence.
///
/// Pure. Ranks are in lock-step, so a step takes as long as its busiest rank: the choice minimises
/// the largest load that results. The gateway counts exactly what it sent itself (prompt tokens
/// that have no first token yet, sequences that have not ended); what other gateways sent comes
/// from the rank's own reports. Equal ranks take turns.
public struct RankRouter: Sendable {
    /// A sequence that decodes costs a row in every step, a prompt its tokens once: one running
    /// sequence weighs as many pending prompt tokens as it will roughly compute.
    public static let tokensPerSequence = 32

    private struct Rank {
        let dpRank: Int
        var capacity: Int
        /// A closed rank takes no new sequences; those that it has still count.
        var isOpen = true
        var pendingPromptTokens = 0
        var sequences = 0
        var reported = RankLoad()

        var load: Int {
            let foreign = max(Int(reported.running) + Int(reported.waiting) - sequences, 0)
            return pendingPromptTokens + (sequences + foreign) * RankRouter.tokensPerSequence
        }
    }

    private var ranks: [Rank] = []
    private var turn = 0

    public init() {}

    /// Ranks of the active view that can take sequences.
    public var dpRanks: [Int] { ranks.filter(\.isOpen).map(\.dpRank) }

    /// Sequences that all ranks together may still take from this gateway.
    public var freeCapacity: Int {
        ranks.reduce(0) { $0 + ($1.isOpen ? max($1.capacity - $1.sequences, 0) : 0) }
    }

    /// Sequences that all ranks together take when they are empty.
    public var capacity: Int { ranks.reduce(0) { $0 + $1.capacity } }

    public var sequenceCount: Int { ranks.reduce(0) { $0 + $1.sequences } }

    public mutating func onRankOpened(_ dpRank: Int, capacity: Int) {
        guard !ranks.contains(where: { $0.dpRank == dpRank }) else {
            return change(dpRank) {
                $0.capacity = capacity
                $0.isOpen = true
            }
        }
        ranks.append(Rank(dpRank: dpRank, capacity: capacity))
        ranks.sort { $0.dpRank < $1.dpRank }
    }

    /// It takes no new sequences; what it has goes on.
    public mutating func onRankClosed(_ dpRank: Int) { change(dpRank) { $0.isOpen = false } }

    /// It is gone, with what it had.
    public mutating func onRankLost(_ dpRank: Int) { ranks.removeAll { $0.dpRank == dpRank } }

    public mutating func onLoad(_ load: RankLoad) {
        change(Int(load.dpRank)) { $0.reported = load }
    }

    /// The rank for a sequence, or nil when none has room. A `forced` rank is taken if it has room.
    public mutating func choose(promptTokens: Int, forced: Int? = nil) -> Int? {
        guard !ranks.isEmpty else { return nil }
        turn = (turn + 1) % ranks.count
        var best: (dpRank: Int, load: Int)?
        for offset in ranks.indices {
            let rank = ranks[(turn + offset) % ranks.count]
            if let forced, rank.dpRank != forced { continue }
            guard rank.isOpen, rank.sequences < rank.capacity else { continue }
            if best.map({ rank.load < $0.load }) ?? true { best = (rank.dpRank, rank.load) }
        }
        return best?.dpRank
    }

    public mutating func onSubmitted(to dpRank: Int, promptTokens: Int) {
        change(dpRank) {
            $0.pendingPromptTokens += promptTokens
            $0.sequences += 1
        }
    }

    /// The sequence's first token has come.
    public mutating func onPrefilled(on dpRank: Int, promptTokens: Int) {
        change(dpRank) { $0.pendingPromptTokens = max($0.pendingPromptTokens - promptTokens, 0) }
    }

    /// - Parameter prefilled: whether ``onPrefilled(on:promptTokens:)`` was called for it.
    public mutating func onEnded(on dpRank: Int, promptTokens: Int, prefilled: Bool) {
        if !prefilled { onPrefilled(on: dpRank, promptTokens: promptTokens) }
        change(dpRank) { $0.sequences = max($0.sequences - 1, 0) }
    }

    private mutating func change(_ dpRank: Int, _ body: (inout Rank) -> Void) {
        guard let index = ranks.firstIndex(where: { $0.dpRank == dpRank }) else { return }
        body(&ranks[index])
    }
}
