/// Which worker owns which routed experts of every MoE layer: contiguous ranges, as even as
/// possible, the remainder going to the lowest ranks. Pure; equal on all workers of a view.
public struct ExpertPlacement: Hashable, Sendable {
    public let expertCount: Int
    public let rank: Int
    public let worldSize: Int

    public init(expertCount: Int, rank: Int, worldSize: Int) {
        precondition(expertCount > 0, "\(expertCount) experts")
        precondition(worldSize > 0, "\(worldSize) workers")
        precondition((0..<worldSize).contains(rank), "rank \(rank) of \(worldSize)")
        self.expertCount = expertCount
        self.rank = rank
        self.worldSize = worldSize
    }

    public func experts(of rank: Int) -> Range<Int> {
        precondition((0..<worldSize).contains(rank), "rank \(rank) of \(worldSize)")
        return ParallelLayout.part(expertCount, index: rank, of: worldSize)
    }

    public var localExperts: Range<Int> { experts(of: rank) }

    public func owner(of expert: Int) -> Int {
        precondition((0..<expertCount).contains(expert), "expert \(expert) of \(expertCount)")
        let (base, extra) = expertCount.quotientAndRemainder(dividingBy: worldSize)
        let inLarger = extra * (base + 1)
        guard expert >= inLarger else { return expert / (base + 1) }
        return extra + (expert - inLarger) / base
    }
}
