internal import CUCX
internal import DaemonRuntime
internal import Protocol

/// The group of workers on several hosts, over UCX: TCP, or RDMA where the devices have it.
///
/// A message is one UCX message of header and first bytes, and a second one with the rest if there
/// is any; UCX keeps the order of equal tags. So a small message is one packet, and memory for a
/// large one is only taken once its header was accepted.
///
/// After an error everything is closed by force before the error is thrown, because only then does
/// UCX not write into the caller's buffers any more.
final class UCXCollectives: ExchangingCollectives {
    let rank: Int
    let worldSize: Int
    let messageBytesMax: Int
    private(set) var statistics: CollectiveStatistics

    private let worker: UCXWorker
    private let spin: Interval
    private var lanes: [Lane]
    private var failure: CollectiveError?
    private var notice: WaitNotice

    private static let firstPartBytesMax = CollectiveLimits.allGatherBytesMax
    private static let firstMessageBytesMax = MessageHeader.byteCount + firstPartBytesMax
    /// A sleep is cut into pieces of this length, should UCX ever lose an event.
    private static let sleepNanosecondsMax: Int64 = 50_000_000

    /// The messages between this worker and one peer, within the current operation.
    private struct Lane {
        let peer: Int
        /// First messages: the outgoing one, then the incoming one.
        let scratch: UnsafeMutableRawPointer
        var destination: UnsafeMutableRawBufferPointer?
        var isSent = false
        var isReceived = false

        var index: UInt32 { UInt32(peer) }
        var incoming: UnsafeMutableRawPointer { scratch + UCXCollectives.firstMessageBytesMax }
        var isDone: Bool { isSent && isReceived }
    }

    init(
        rank: Int, addresses: [WorkerAddress], worker: UCXWorker, options: CollectivesOptions,
        tag: OperationTag, waits board: WaitBoard?
    ) throws(CollectiveError) {
        self.rank = rank
        worldSize = addresses.count
        notice = WaitNotice(board)
        messageBytesMax = options.messageBytesMax
        statistics = CollectiveStatistics(worldSize: addresses.count)
        self.worker = worker
        let neighbours = addresses.filter { $0.host == addresses[rank].host }
        spin = options.spin ?? CollectivesOptions.spinDefault(workersOnHost: neighbours.count)
        lanes = []
        try worker.connect(rank: rank, addresses: addresses, tag: tag)
        for peer in addresses.indices where peer != rank {
            let scratch = UnsafeMutableRawPointer.allocate(
                byteCount: 2 * Self.firstMessageBytesMax, alignment: 64)
            lanes.append(Lane(peer: peer, scratch: scratch))
        }
    }

    deinit { close() }

    func close() {
        worker.close()
        failure = failure ?? .setup(reason: "the group was closed")
        for lane in lanes { lane.scratch.deallocate() }
        lanes = []
    }

    func allToAllOfKnownSizes(
        outgoing: PeerBuffers, incoming: PeerBuffers, tag: OperationTag, deadline: Instant
    ) throws(CollectiveError) {
        try exchangeKnown(outgoing: outgoing, incoming: incoming, tag: tag, deadline: deadline)
    }

    func exchange(
        _ payload: ExchangePayload, tag: OperationTag, deadline: Instant
    ) throws(CollectiveError) {
        if let failure { throw failure }
        guard let handle = worker.handle else { throw .setup(reason: "the group was closed") }
        do {
            let operation = Operation(
                handle: handle, payload: payload,
                check: HeaderCheck(tag: tag, messageBytesMax: messageBytesMax))
            try run(operation, until: deadline)
        } catch {
            failure = error
            worker.close()
            throw error
        }
    }

    /// One exchange while it runs.
    private struct Operation {
        let handle: OpaquePointer
        let payload: ExchangePayload
        let check: HeaderCheck
        let started = MonotonicClock.now()
    }

    private func run(_ operation: Operation, until deadline: Instant) throws(CollectiveError) {
        defer { notice.onEnded() }
        for index in lanes.indices { start(&lanes[index], operation) }
        try work(operation, until: deadline) { () throws(CollectiveError) -> Bool in
            try self.advanceAll(operation)
        }
        // Messages are complete for UCX once buffered; the peers must not wait for our next step.
        cucx_flush(operation.handle)
        try work(operation, until: deadline) { () throws(CollectiveError) -> Bool in
            cucx_flush_state(operation.handle) != CUCX_RUNNING
        }
        for lane in lanes { cucx_reset(operation.handle, lane.index) }
        statistics.operations += 1
    }

    /// Lets UCX work until `isFinished`, spinning first and sleeping then.
    private func work(
        _ operation: Operation, until deadline: Instant,
        _ isFinished: () throws(CollectiveError) -> Bool
    ) throws(CollectiveError) {
        var idleSince: Instant?
        while try !isFinished() {
            if cucx_progress(operation.handle) > 0 {
                idleSince = nil
                continue
            }
            let now = MonotonicClock.now()
            guard now < deadline else {
                throw .timeout(peers: missingPeers(), tag: operation.check.tag)
            }
            guard let since = idleSince else {
                idleSince = now
                continue
            }
            if now - since < spin { continue }
            notice.onWaiting(operation.check.tag, since: operation.started, at: now) {
                missingPeers()
            }
            let nanoseconds = min((deadline - now).nanoseconds, Self.sleepNanosecondsMax)
            if let text = cucx_wait(operation.handle, nanoseconds) {
                throw .setup(reason: "UCX cannot wait: \(String(cString: text))")
            }
        }
    }

    private func missingPeers() -> [Int] {
        let silent = lanes.filter { !$0.isReceived }
        let missing = silent.isEmpty ? lanes.filter { !$0.isSent } : silent
        return (missing.isEmpty ? lanes : missing).map(\.peer)
    }

    private func start(_ lane: inout Lane, _ operation: Operation) {
        let message = operation.payload.outgoing(to: lane.peer)
        MessageHeader(tag: operation.check.tag, rank: rank, payloadByteCount: message.count)
            .write(to: lane.scratch)
        let firstCount = min(message.count, Self.firstPartBytesMax)
        if let base = message.baseAddress, firstCount > 0 {
            (lane.scratch + MessageHeader.byteCount).copyMemory(from: base, byteCount: firstCount)
        }
        lane.destination = nil
        lane.isSent = !operation.payload.sends(to: lane.peer)
        lane.isReceived = !operation.payload.receives(from: lane.peer)
        if !lane.isReceived {
            cucx_receive(operation.handle, lane.index, lane.incoming, Self.firstMessageBytesMax)
        }
        guard !lane.isSent else { return }
        cucx_send(
            operation.handle, lane.index, 0, lane.scratch, MessageHeader.byteCount + firstCount)
        if message.count > firstCount {
            let rest = UnsafeRawBufferPointer(rebasing: message[firstCount...])
            cucx_send(operation.handle, lane.index, 1, rest.baseAddress, rest.count)
        }
        statistics.bytesSent += message.count
    }

    /// Takes note of what has finished; whether everything has.
    private func advanceAll(_ operation: Operation) throws(CollectiveError) -> Bool {
        var isFinished = true
        for index in lanes.indices where !lanes[index].isDone {
            try advance(&lanes[index], operation)
            if !lanes[index].isDone { isFinished = false }
        }
        return isFinished
    }

    private func advance(_ lane: inout Lane, _ operation: Operation) throws(CollectiveError) {
        if !lane.isReceived { try receive(&lane, operation) }
        if cucx_send_state(operation.handle, lane.index) == CUCX_DONE { lane.isSent = true }
        // Only after what has arrived was taken: a peer may finish its part and then go.
        if !lane.isDone, let text = cucx_peer_error(operation.handle, lane.index) {
            throw operation.check.lost(lane.peer, "UCX: \(String(cString: text))")
        }
    }

    private func receive(_ lane: inout Lane, _ operation: Operation) throws(CollectiveError) {
        var count = 0
        let state = cucx_receive_state(operation.handle, lane.index, &count)
        guard state == CUCX_DONE else { return }
        if let destination = lane.destination {
            guard count == destination.count - Self.firstPartBytesMax else {
                throw operation.check.lost(lane.peer, "it sent \(count) bytes of a longer rest")
            }
            finishReceive(&lane, operation, byteCount: destination.count)
            return
        }
        guard count >= MessageHeader.byteCount else {
            throw operation.check.lost(lane.peer, "it sent \(count) bytes, less than a header")
        }
        let destination = try operation.check.destination(
            announcedBy: UnsafeRawPointer(lane.incoming), from: lane.peer, in: operation.payload)
        let firstCount = min(destination.count, Self.firstPartBytesMax)
        guard count == MessageHeader.byteCount + firstCount else {
            throw operation.check.lost(
                lane.peer, "its first message has \(count) bytes and announces other")
        }
        if let base = destination.baseAddress, firstCount > 0 {
            base.copyMemory(from: lane.incoming + MessageHeader.byteCount, byteCount: firstCount)
        }
        lane.destination = destination
        if destination.count > firstCount {
            let rest = UnsafeMutableRawBufferPointer(rebasing: destination[firstCount...])
            cucx_receive(operation.handle, lane.index, rest.baseAddress, rest.count)
        } else {
            finishReceive(&lane, operation, byteCount: destination.count)
        }
    }

    private func finishReceive(_ lane: inout Lane, _ operation: Operation, byteCount: Int) {
        lane.isReceived = true
        let waited = MonotonicClock.now() - operation.started
        statistics.waitedNanoseconds[lane.peer] += UInt64(max(0, waited.nanoseconds))
        statistics.bytesReceived += byteCount
    }
}
