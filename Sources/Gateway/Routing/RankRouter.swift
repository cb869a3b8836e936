public import Protocol

/// Chooses the DP rank of a sequence.
///
/// Pure. Ranks are in lock-step, so a tick takes as long as its busiest rank: the choice minimises
/// the largest cost that results (``RoutingCost``), among those the cost of the rank itself, and
/// among those that are alike the first in the order of a rotation, which begins at another place
/// in each gateway. What is known of a rank is its own report, with everybody's work, and what this
/// gateway has sent since (``RankAccount``).
///
/// What a rank has cached of a prompt is no work for it, so it is preferred, but not when it is
/// busier than the others already: then the prompt is computed again elsewhere.
public struct RankRouter: Sendable {
    struct Rank: Sendable {
        let dpRank: Int
        var capacity: Int
        /// Tokens that its cache holds; 0 where that is not known.
        var cacheCapacity: Int
        /// A closed rank takes no new sequences; those that it has still count.
        var isOpen = true
        /// It has refused a sequence and not reported since.
        var hasRefused = false
        /// This gateway's own sequences.
        var sequences = 0
        var account = RankAccount()

        var room: Int { max(capacity - max(sequences, account.sequences), 0) }
    }

    /// What a choice reads of a rank: a choice goes over all of them.
    struct Summary: Sendable {
        let dpRank: Int
        var takesSequences = false
        var isCacheFull = false
        var pendingTokens = 0
        var sequences = 0
        var cacheTokens = 0
        var cacheLimit = 0
        var cost = 0

        init(_ rank: Rank) {
            let report = rank.account.report
            dpRank = rank.dpRank
            takesSequences = rank.isOpen && !rank.hasRefused && rank.room > 0
            isCacheFull = report.kvCacheUsage >= RoutingCost.cacheFull && report.waiting > 0
            pendingTokens = rank.account.pendingTokens
            sequences = rank.account.sequences
            cacheLimit = RoutingCost.cacheLimit(capacity: rank.cacheCapacity)
            cacheTokens = rank.account.cacheTokens(capacity: rank.cacheCapacity)
            cost = RoutingCost.of(
                pendingTokens: pendingTokens, sequences: sequences, cacheTokens: cacheTokens,
                cacheLimit: cacheLimit)
        }
    }

    /// A sequence that is to be placed.
    public struct Candidate: Sendable {
        public var tokens: Int
        /// Tokens that it may still generate.
        public var outputTokensMax: Int
        /// Names of the full blocks of its tokens, for the ranks' caches; empty if they are off.
        public var blocks: [UInt64]
        /// The one rank that may have it.
        public var forced: Int?

        public init(
            tokens: Int, outputTokensMax: Int = 0, blocks: [UInt64] = [], forced: Int? = nil
        ) {
            self.tokens = tokens
            self.outputTokensMax = outputTokensMax
            self.blocks = blocks
            self.forced = forced
        }

        var expectedTokens: Int { tokens + min(outputTokensMax, RoutingCost.outputReserve) }
    }

    /// Names a sequence at its rank; whoever was told of the submission gives it back.
    public struct Ticket: Hashable, Sendable {
        public let dpRank: Int
        let submission: UInt64
        /// Of one link: a rank that was lost and came back knows no ticket of before.
        let link: UInt64
        let uncachedTokens: Int
        /// Tokens that the rank should have cached, as far as this gateway knows.
        public let cachedTokens: Int
        /// Its first token has come.
        var isPrefilled = false
    }

    /// In the order of their numbers.
    private var ranks: [Rank] = []
    /// Of each rank; kept by every change.
    private(set) var summaries: [Summary] = []
    private var links: [UInt64] = []
    private var linkCount: UInt64 = 0
    private(set) var turn: Int
    private var affinity: PrefixAffinity
    private(set) var others = OthersShare()
    /// Sequences that a rank refused, which went or go elsewhere.
    public private(set) var refusals: UInt64 = 0
    /// Tokens of prompts that went to a rank which should have them cached.
    public private(set) var affinityTokens: UInt64 = 0
    /// Ranks and blocks looked at in choices, which is what they cost.
    private(set) var visits: UInt64 = 0

    /// - Parameters:
    ///   - rotation: where this gateway's turns begin; another number for each gateway.
    ///   - blockSize: tokens a block of the ranks' caches.
    public init(rotation: UInt64 = 0, blockSize: Int = 16) {
        turn = Int(truncatingIfNeeded: rotation & 0xFFFF)
        affinity = PrefixAffinity(blockSize: blockSize)
    }

    /// Ranks of the active view that can take sequences.
    public var dpRanks: [Int] { ranks.filter(\.isOpen).map(\.dpRank) }

    public var hasOpenRank: Bool { ranks.contains(where: \.isOpen) }

    /// Whether it takes sequences of this view, as far as there is room.
    public func isOpen(_ dpRank: Int) -> Bool {
        place(of: dpRank).map { ranks[$0].isOpen } ?? false
    }

    /// Whether some rank would be chosen now.
    public var takesSequences: Bool { summaries.contains(where: \.takesSequences) }

    public func takesSequences(_ dpRank: Int) -> Bool {
        place(of: dpRank).map { summaries[$0].takesSequences } ?? false
    }

    /// Sequences that all ranks together may still take from this gateway.
    public var freeCapacity: Int { ranks.reduce(0) { $0 + ($1.isOpen ? $1.room : 0) } }

    /// Sequences that all ranks together take when they are empty.
    public var capacity: Int { ranks.reduce(0) { $0 + $1.capacity } }

    /// This gateway's own.
    public var sequenceCount: Int { ranks.reduce(0) { $0 + $1.sequences } }

    /// Prompt tokens that a rank has not computed, as far as this gateway knows.
    public func pendingTokens(of dpRank: Int) -> Int {
        place(of: dpRank).map { ranks[$0].account.pendingTokens } ?? 0
    }

    // MARK: Ranks

    public mutating func onRankOpened(_ dpRank: Int, capacity: Int, cacheCapacity: Int = 0) {
        if let place = place(of: dpRank) {
            ranks[place].capacity = capacity
            ranks[place].isOpen = true
            summaries[place] = Summary(ranks[place])
            return
        }
        linkCount += 1
        let place = ranks.firstIndex { $0.dpRank > dpRank } ?? ranks.count
        let rank = Rank(dpRank: dpRank, capacity: capacity, cacheCapacity: cacheCapacity)
        ranks.insert(rank, at: place)
        summaries.insert(Summary(rank), at: place)
        links.insert(linkCount, at: place)
        affinity.onRank(dpRank, cacheCapacity: cacheCapacity)
    }

    /// It takes no new sequences; what it has goes on.
    public mutating func onRankClosed(_ dpRank: Int) { change(dpRank) { $0.isOpen = false } }

    /// It is gone, with what it had.
    public mutating func onRankLost(_ dpRank: Int) {
        guard let place = place(of: dpRank) else { return }
        ranks.remove(at: place)
        summaries.remove(at: place)
        links.remove(at: place)
        affinity.onRankLost(dpRank)
    }

    /// A rank's report over its link.
    ///
    /// - Parameter known: of the submissions over this link, those that the report knows of.
    public mutating func onReport(_ load: RankLoad, known: UInt64) {
        if let place = place(of: Int(load.dpRank)), ranks[place].account.hasReport {
            let account = ranks[place].account
            others.onReport(
                own: Int(clamping: known) - Int(clamping: account.knownSubmissions),
                all: Int(clamping: load.submissions) - Int(clamping: account.report.submissions))
        }
        change(Int(load.dpRank)) {
            $0.account.onReport(load, known: known)
            $0.hasRefused = false
        }
    }

    /// A rank's report by way of the coordinator.
    public mutating func onRelayedReport(_ load: RankLoad) {
        change(Int(load.dpRank)) {
            if $0.account.onRelayedReport(load) { $0.hasRefused = false }
        }
    }

    // MARK: Sequences

    /// The rank for a sequence, or nil when none takes it now.
    public mutating func choose(_ candidate: Candidate) -> Int? {
        guard !ranks.isEmpty else { return nil }
        turn = (turn + 1) % ranks.count
        let searched = affinity.find(candidate.blocks, tokens: candidate.tokens)
        visits += UInt64(searched)
        if let forced = candidate.forced { return takesSequences(forced) ? forced : nil }
        visits += UInt64(2 * ranks.count)
        return best(for: Work(candidate), searches: searched > 0)
    }

    /// - Returns: what names it from now on; nil where the rank is not known.
    public mutating func onSubmitted(_ candidate: Candidate, to dpRank: Int) -> Ticket? {
        guard let place = place(of: dpRank) else { return nil }
        _ = affinity.find(candidate.blocks, tokens: candidate.tokens)
        let cached = affinity.foundTokens(of: dpRank)
        affinity.onSent(candidate.blocks, to: dpRank)
        affinityTokens += UInt64(cached)
        let uncached = candidate.tokens - cached
        others.onChosen(tokens: uncached)
        let submission = ranks[place].account.onSubmitted(
            uncachedTokens: uncached, expectedTokens: candidate.expectedTokens)
        ranks[place].sequences += 1
        summaries[place] = Summary(ranks[place])
        return Ticket(
            dpRank: dpRank, submission: submission, link: links[place], uncachedTokens: uncached,
            cachedTokens: cached)
    }

    /// The first token has come.
    public mutating func onPrefilled(_ ticket: inout Ticket) {
        ticket.isPrefilled = true
        let submission = ticket.submission
        change(ticket) { $0.account.onOutput(of: submission) }
    }

    /// Its rank has ended it, and reports without it from now on.
    ///
    /// - Parameter blocks: names of all full blocks that the rank has computed of it.
    public mutating func onEnded(_ ticket: Ticket, blocks: [UInt64] = []) {
        if let place = place(of: ticket.dpRank), links[place] == ticket.link {
            affinity.onSent(blocks, to: ticket.dpRank)
        }
        change(ticket) {
            $0.account.onOutput(of: ticket.submission)
            $0.sequences -= 1
        }
    }

    /// This gateway has ended it; its rank will hear of that.
    public mutating func onCancelled(_ ticket: Ticket) {
        let pending = ticket.isPrefilled ? 0 : ticket.uncachedTokens
        change(ticket) {
            $0.account.onCancelled(ticket.submission, pendingTokens: pending)
            $0.sequences -= 1
        }
    }

    /// Its rank does not take it.
    ///
    /// - Parameter isFull: the rank is left alone until it reports.
    public mutating func onRefused(_ ticket: Ticket, isFull: Bool) {
        refusals += 1
        change(ticket) {
            $0.account.onRefused(ticket.submission)
            $0.sequences -= 1
            if isFull { $0.hasRefused = true }
        }
    }

    // MARK: Places

    /// Ranks stand in order.
    private func place(of dpRank: Int) -> Int? {
        var (low, high) = (0, ranks.count)
        while low < high {
            let middle = (low + high) / 2
            if ranks[middle].dpRank < dpRank { low = middle + 1 } else { high = middle }
        }
        return low < ranks.count && ranks[low].dpRank == dpRank ? low : nil
    }

    private mutating func change(_ dpRank: Int, _ body: (inout Rank) -> Void) {
        guard let place = place(of: dpRank) else { return }
        body(&ranks[place])
        summaries[place] = Summary(ranks[place])
    }

    private mutating func change(_ ticket: Ticket, _ body: (inout Rank) -> Void) {
        guard let place = place(of: ticket.dpRank), links[place] == ticket.link else { return }
        body(&ranks[place])
        summaries[place] = Summary(ranks[place])
    }

    /// Tokens of the candidate last looked for that a rank has cached.
    func foundTokens(of dpRank: Int) -> Int { affinity.foundTokens(of: dpRank) }
}
