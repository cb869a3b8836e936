import Protocol

/// The collectives of one view, and the exchange that begins each of its ticks.
final class ViewGroup {
    let view: UInt32
    let collectives: any Collectives
    private let send: UnsafeMutableRawBufferPointer
    private let receive: UnsafeMutableRawBufferPointer
    private var entries: [TickEntry?]

    init(view: UInt32, collectives: any Collectives) {
        self.view = view
        self.collectives = collectives
        entries = Array(repeating: nil, count: collectives.worldSize)
        send = .allocate(byteCount: TickEntry.byteCount, alignment: 64)
        receive = .allocate(byteCount: TickEntry.byteCount * collectives.worldSize, alignment: 64)
    }

    deinit {
        send.deallocate()
        receive.deallocate()
    }

    /// Everybody's entry, in rank order; nil for what is no entry.
    func exchange(
        _ entry: TickEntry, tick: UInt64, deadline: Instant
    ) throws(CollectiveError) -> [TickEntry?] {
        entry.encode(into: send)
        try collectives.allGather(
            UnsafeRawBufferPointer(send),
            into: receive,
            tag: .tickExchange(view: view, tick: tick),
            deadline: deadline)
        for rank in entries.indices {
            let start = rank * TickEntry.byteCount
            entries[rank] = TickEntry.decode(
                UnsafeRawBufferPointer(rebasing: receive[start..<(start + TickEntry.byteCount)]))
        }
        return entries
    }
}
