import Protocol

/// The collectives of one view, and the exchange that begins each of its ticks.
final class ViewGroup {
    let view: UInt32
    let protocolVersion: UInt32
    let collectives: any Collectives
    /// In rank order; empty in a group that nobody coordinates.
    private let members: [Member]
    private let send: UnsafeMutableRawBufferPointer
    private let receive: UnsafeMutableRawBufferPointer
    /// Of the last exchange.
    private(set) var entries: [TickEntry?]
    private let outgoing: PeerBuffers
    private let incoming: PeerBuffers
    /// Of each peer, as the collectives count it, before the exchange.
    private var waitedBefore: [UInt64]
    /// From the beginning of the last exchange until the slowest peer's entry was here.
    private(set) var waited = Interval.zero

    init(
        view: UInt32, protocolVersion: UInt32 = ProtocolVersion.oldest,
        collectives: any Collectives, members: [Member] = []
    ) {
        self.view = view
        self.protocolVersion = protocolVersion
        self.collectives = collectives
        self.members = members
        entries = Array(repeating: nil, count: collectives.worldSize)
        outgoing = PeerBuffers(peerCount: collectives.worldSize)
        incoming = PeerBuffers(peerCount: collectives.worldSize)
        waitedBefore = Array(repeating: 0, count: collectives.worldSize)
        send = .allocate(byteCount: TickEntry.byteCount, alignment: 64)
        receive = .allocate(byteCount: TickEntry.byteCount * collectives.worldSize, alignment: 64)
    }

    deinit {
        send.deallocate()
        receive.deallocate()
    }

    /// What the coordinator calls these workers.
    func places(of ranks: [Int]) -> [UInt32] {
        ranks.map { members.indices.contains($0) ? members[$0].worker : UInt32($0) }
    }

    /// Which processes these workers are.
    func incarnations(of ranks: Range<Int>) -> [Incarnation] {
        ranks.compactMap { members.indices.contains($0) ? members[$0].incarnation : nil }
    }

    /// Everybody's entry, in rank order; nil for what is no entry.
    func exchange(
        _ entry: TickEntry, tick: UInt64, deadline: Instant
    ) throws(CollectiveError) -> [TickEntry?] {
        entry.encode(into: send)
        noteWaiting()
        try collectives.allGather(
            UnsafeRawBufferPointer(send),
            into: receive,
            tag: .tickExchange(view: view, tick: tick),
            deadline: deadline)
        noteWaiting()
        for rank in entries.indices {
            let start = rank * TickEntry.byteCount
            entries[rank] = TickEntry.decode(
                UnsafeRawBufferPointer(rebasing: receive[start..<(start + TickEntry.byteCount)]))
        }
        return entries
    }

    /// The leader's plan becomes that of its TP peers. Sizes come from the tick's exchange.
    ///
    /// - Parameters:
    ///   - leader: of this worker's DP rank; `peers` are all its workers.
    func share(
        _ plan: inout StepPlan, leader: Int, peers: Range<Int>, within bounds: StepPlan.Bounds,
        tick: UInt64, deadline: Instant
    ) throws(CollectiveError) {
        let tag = OperationTag.plan(view: view, tick: tick)
        let isLeader = collectives.rank == leader
        let byteCount = entries[leader].map { Int($0.planBytes) } ?? 0
        guard byteCount <= bounds.byteCountMax else {
            throw .peerLost(
                peer: leader, tag: tag, reason: "it announces a plan of \(byteCount) bytes")
        }
        for peer in peers where isLeader && peer != leader {
            outgoing.setCount(byteCount, of: peer)
            if byteCount > 0 { plan.encode(into: outgoing[peer]) }
        }
        if !isLeader { incoming.setCount(byteCount, of: leader) }
        try collectives.allToAllOfKnownSizes(
            outgoing: outgoing, incoming: incoming, tag: tag, deadline: deadline)
        guard !isLeader else { return }
        guard byteCount > 0 else { return plan.removeAll() }
        guard plan.decode(UnsafeRawBufferPointer(incoming[leader]), within: bounds),
            plan.rowCount == entries[leader].map({ Int($0.tokens) })
        else {
            throw .peerLost(peer: leader, tag: tag, reason: "its step plan is malformed")
        }
    }

    /// Called before and after an exchange: the largest of the peers' differences is the wait. A
    /// group of one has nobody to wait for.
    private func noteWaiting() {
        guard collectives.worldSize > 1 else { return }
        let statistics = collectives.statistics
        var longest: UInt64 = 0
        for peer in waitedBefore.indices {
            let now = statistics.waitedNanoseconds[peer]
            longest = max(longest, now &- waitedBefore[peer])
            waitedBefore[peer] = now
        }
        waited = Interval(nanoseconds: Int64(clamping: longest))
    }
}
