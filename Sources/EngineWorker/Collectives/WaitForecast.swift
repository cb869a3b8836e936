internal import Protocol

/// How long operations of each kind have made this worker wait of late, and so whether the next is
/// worth spinning for: a running mean of waits, each counted as at most a few spins, so that one
/// pause of a peer does not put everybody to sleep for long.
struct WaitForecast {
    enum Kind: Int, CaseIterable {
        case tickExchange
        case dispatch
        case combine
        /// Between the workers of one DP rank.
        case tensor

        init(_ tag: OperationTag) {
            self =
                switch LayerOperation(rawValue: tag.operation % LayerOperation.stride) {
                case .dispatch: .dispatch
                case .combine: .combine
                case .gatherHeads, .scatterOutputs, .gatherRows, .gatherSlices: .tensor
                case nil: tag.operation == 0 ? .tickExchange : .tensor
                }
        }
    }

    /// What a wait counts as at most, in spins.
    private static let waitMax: Int64 = 4
    /// The part of a new wait in the mean.
    private static let weight: Int64 = 8

    private var tickExchange: Int64 = 0
    private var dispatch: Int64 = 0
    private var combine: Int64 = 0
    private var tensor: Int64 = 0

    /// How long to spin for the next operation: `longest`, or not at all.
    func spin(_ kind: Kind, longest: Interval) -> Interval {
        self[kind] <= longest.nanoseconds ? longest : .zero
    }

    mutating func onWaited(_ waited: Interval, _ kind: Kind, longest: Interval) {
        let counted = min(waited.nanoseconds, Self.waitMax * longest.nanoseconds)
        self[kind] += (counted - self[kind]) / Self.weight
    }

    private subscript(kind: Kind) -> Int64 {
        get {
            switch kind {
            case .tickExchange: tickExchange
            case .dispatch: dispatch
            case .combine: combine
            case .tensor: tensor
            }
        }
        set {
            switch kind {
            case .tickExchange: tickExchange = newValue
            case .dispatch: dispatch = newValue
            case .combine: combine = newValue
            case .tensor: tensor = newValue
            }
        }
    }
}
