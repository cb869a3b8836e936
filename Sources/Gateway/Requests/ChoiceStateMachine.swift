public import Protocol

/// The life of one sequence as the gateway sees it:
/// `parked <-> submitted(rank) -> generating(rank) -> ended`.
///
/// Pure. It ends exactly once, whatever happens: a finish, a stop string, a rejection, a client
/// that leaves, a rank that is lost. What arrives after the end is ignored. A sequence whose rank
/// is lost is parked and goes to another rank with the tokens that it has; sampling is a function
/// of seed and position, so the client sees the stream that it would have seen.
public struct ChoiceStateMachine: Sendable {
    public enum State: Hashable, Sendable {
        /// Belongs to no rank: none was free or its rank was lost.
        case parked
        case submitted(rank: Int)
        case generating(rank: Int)
        case ended
    }

    /// How often a sequence may find its rank full before it fails. Ranks that leave their view do
    /// not count: there may be more of them than this, and they take nothing until they are in
    /// another one.
    public static let rejectionsMax = 8

    public private(set) var state: State = .parked
    /// Output tokens received so far.
    public private(set) var tokenCount = 0
    private var rejections = 0

    public init() {}

    public var rank: Int? {
        switch state {
        case .submitted(let rank), .generating(let rank): rank
        case .parked, .ended: nil
        }
    }

    public var isEnded: Bool { state == .ended }

    public mutating func onSubmitted(to rank: Int) {
        precondition(state == .parked, "submitted in state \(state)")
        state = .submitted(rank: rank)
    }

    public enum OutputAction: Hashable, Sendable {
        case ignore
        /// Hand the tokens on; `isFirst` for the first ones, `isLast` when the leader ended it.
        case deliver(isFirst: Bool, isLast: Bool)
    }

    public mutating func onOutput(
        from rank: Int, tokenCount newTokens: Int, isLast: Bool
    ) -> OutputAction {
        guard self.rank == rank else { return .ignore }
        let isFirst = tokenCount == 0 && newTokens > 0
        tokenCount += newTokens
        if isLast {
            state = .ended
        } else if newTokens > 0 {
            state = .generating(rank: rank)
        }
        return .deliver(isFirst: isFirst, isLast: isLast)
    }

    public enum EndAction: Hashable, Sendable {
        /// Nobody else needs to know.
        case none
        /// The leader of this rank must give up the sequence.
        case cancel(rank: Int)
    }

    /// The gateway ends it: a stop string was found, the client left, or the call failed elsewhere.
    public mutating func end() -> EndAction {
        let rank = rank
        state = .ended
        return rank.map { .cancel(rank: $0) } ?? .none
    }

    public enum RejectionAction: Hashable, Sendable {
        case ignore
        /// Try again, here or elsewhere.
        case resubmit
        case fail
    }

    public mutating func onRejected(by rank: Int, reason: RejectionReason) -> RejectionAction {
        guard self.rank == rank else { return .ignore }
        switch reason {
        case .otherView, .draining:
            state = .parked
            return .resubmit
        case .overloaded:
            rejections += 1
            guard rejections < Self.rejectionsMax else { break }
            state = .parked
            return .resubmit
        case .tooLong, .invalid:
            break
        }
        state = .ended
        return .fail
    }

    /// Its rank is gone; true when the sequence waits for another one now.
    public mutating func onRankLost(_ rank: Int) -> Bool {
        guard self.rank == rank else { return false }
        state = .parked
        return true
    }
}
