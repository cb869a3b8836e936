/// What a tick spends its time on, in the order in which it does. Raw values are part of the
/// protocol: places in ``RankLoad/stageTimes``.
public enum TickStage: Int, Hashable, Sendable, CaseIterable {
    /// The scheduler's pass.
    case schedule = 0
    /// The exchange of tick entries with the other ranks: mostly waiting for the slowest.
    case exchange = 1
    /// Positions, rotations and rows of the embedding.
    case embedding = 2
    /// Queries and latents: the norm before attention and the projections before the scores.
    case attentionProjection = 3
    /// Scores, values and output projection, and the norm behind them.
    case attention = 4
    case router = 5
    /// Sorting rows by expert, sending them to the owners, and waiting for those of the others.
    case dispatch = 6
    /// This rank's routed experts, for the rows of all ranks.
    case experts = 7
    /// Sending results back, waiting for one's own, and their weighted sum.
    case combine = 8
    case sharedExpert = 9
    /// The MLP of a layer without experts.
    case denseMLP = 10
    /// The logits of the rows that sample.
    case head = 11
    case sampling = 12
    /// The scheduler takes the tokens, and outputs go to the link thread.
    case complete = 13

    /// As labels of metrics and tables have it.
    public var name: String {
        switch self {
        case .schedule: "schedule"
        case .exchange: "exchange"
        case .embedding: "embedding"
        case .attentionProjection: "attention_projection"
        case .attention: "attention"
        case .router: "router"
        case .dispatch: "dispatch"
        case .experts: "experts"
        case .combine: "combine"
        case .sharedExpert: "shared_expert"
        case .denseMLP: "dense_mlp"
        case .head: "head"
        case .sampling: "sampling"
        case .complete: "complete"
        }
    }
}

/// Nanoseconds by stage, of fixed size: a load that carries them allocates nothing.
public struct StageTimes: Hashable, Sendable {
    /// Places, more than there are stages; the rest stay zero.
    public static let capacity = 16

    private var nanoseconds = SIMD16<UInt64>(repeating: 0)

    public init() {}

    /// Missing ones are zero.
    init(_ list: [UInt64]) {
        precondition(list.count <= Self.capacity, "\(list.count) stages")
        for (index, value) in list.enumerated() { nanoseconds[index] = value }
    }

    /// By raw value of the stage, without the zeros at the end.
    var list: [UInt64] {
        let count = nanoseconds.indices.last { nanoseconds[$0] != 0 }.map { $0 + 1 } ?? 0
        return (0..<count).map { nanoseconds[$0] }
    }

    public subscript(stage: TickStage) -> UInt64 {
        get { nanoseconds[stage.rawValue] }
        set { nanoseconds[stage.rawValue] = newValue }
    }

    public var total: UInt64 { nanoseconds.wrappedSum() }

    public func adding(_ other: StageTimes) -> StageTimes {
        var sum = StageTimes()
        sum.nanoseconds = nanoseconds &+ other.nanoseconds
        return sum
    }

    /// What was added since `earlier`.
    public func since(_ earlier: StageTimes) -> StageTimes {
        var difference = StageTimes()
        difference.nanoseconds = nanoseconds &- earlier.nanoseconds
        return difference
    }
}
