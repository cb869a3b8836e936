internal import Protocol

/// Where a worker stands in the group: DP ranks of TP workers each,
/// `worker = dpRank * tp + tpRank`. The *leader* of a DP rank is its first worker: it schedules,
/// samples and talks to gateways. Pure.
public struct ParallelLayout: Hashable, Sendable {
    public let dataParallelSize: Int
    public let tensorParallelSize: Int
    public let worker: Int

    public init(dataParallelSize: Int, tensorParallelSize: Int = 1, worker: Int) {
        precondition(dataParallelSize > 0 && tensorParallelSize > 0, "\(dataParallelSize) ranks")
        self.dataParallelSize = dataParallelSize
        self.tensorParallelSize = tensorParallelSize
        self.worker = worker
        precondition((0..<worldSize).contains(worker), "worker \(worker) of \(worldSize)")
    }

    /// Nil where that many workers are no DP ranks of TP workers each.
    init?(_ position: GroupPosition, tensorParallelSize: Int) {
        let (rank, worldSize) = (Int(position.rank), Int(position.worldSize))
        guard rank < worldSize, worldSize % tensorParallelSize == 0 else { return nil }
        self.init(
            dataParallelSize: worldSize / tensorParallelSize,
            tensorParallelSize: tensorParallelSize, worker: rank)
    }

    var position: GroupPosition {
        GroupPosition(rank: UInt32(worker), worldSize: UInt32(worldSize))
    }

    public var worldSize: Int { dataParallelSize * tensorParallelSize }
    public var dpRank: Int { worker / tensorParallelSize }
    public var tpRank: Int { worker % tensorParallelSize }
    public var isLeader: Bool { tpRank == 0 }
    /// The worker that leads this one's DP rank.
    public var leader: Int { worker - tpRank }
    /// The workers of this one's DP rank, itself included.
    public var tensorPeers: Range<Int> { leader..<(leader + tensorParallelSize) }

    /// What `tpRank` holds of `count` things that the DP rank's workers divide.
    public func part(_ count: Int, of tpRank: Int) -> Range<Int> {
        Self.part(count, index: tpRank, of: tensorParallelSize)
    }
    /// What this worker holds of them.
    public func ownPart(_ count: Int) -> Range<Int> { part(count, of: tpRank) }

    /// Contiguous ranges, as even as possible; the remainder goes to the first ones.
    public static func part(_ count: Int, index: Int, of parts: Int) -> Range<Int> {
        precondition((0..<parts).contains(index), "part \(index) of \(parts)")
        let (base, extra) = count.quotientAndRemainder(dividingBy: parts)
        let first = index * base + min(index, extra)
        return first..<(first + base + (index < extra ? 1 : 0))
    }
}

/// How the routed experts are divided among all workers.
public enum ExpertDivision: Hashable, Sendable {
    /// Expert parallel (`--enable-expert-parallel`): each worker has some experts, whole.
    case byExpert
    /// Tensor parallel: each worker has a part of every expert.
    case bySlice
}
