internal import Protocol

/// The group of a worker that is in no view yet: it knows its place, and every operation fails.
final class UnconnectedCollectives: Collectives {
    let rank: Int
    let worldSize: Int

    init(rank: Int, worldSize: Int) {
        self.rank = rank
        self.worldSize = worldSize
    }

    func allGather(
        _ send: UnsafeRawBufferPointer,
        into receive: UnsafeMutableRawBufferPointer,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError) {
        throw .setup(reason: "no view is connected for \(tag)")
    }

    func allToAll(
        outgoing: PeerBuffers,
        incoming: PeerBuffers,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError) {
        throw .setup(reason: "no view is connected for \(tag)")
    }
}
