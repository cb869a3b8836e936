public import Protocol

/// A group of one: every operation is a copy. The double for tests, and the whole story of DP=1.
public final class SingleRankCollectives: Collectives {
    public let rank = 0
    public let worldSize = 1

    public init() {}

    public func allGather(
        _ send: UnsafeRawBufferPointer,
        into receive: UnsafeMutableRawBufferPointer,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError) {
        receive.copyMemory(from: send)
    }

    public func allToAll(
        outgoing: PeerBuffers,
        incoming: PeerBuffers,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError) {
        incoming.setCount(outgoing.count(of: 0), of: 0)
        incoming[0].copyMemory(from: UnsafeRawBufferPointer(outgoing[0]))
    }
}
