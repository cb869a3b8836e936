internal import CSharedRing
internal import DaemonRuntime
internal import Protocol

/// The group of the processes of one host: every pair has a ring in each direction.
///
/// An operation moves all its messages at once, a piece at a time, whichever can move; so
/// all-to-alls of messages larger than the rings do not deadlock. When nothing moves, the worker
/// spins for a bounded time and then sleeps on its own futex, which its peers ring. It spins where
/// operations of the kind have been short of late, and otherwise sleeps at once: a worker that
/// only serves its experts waits for the others' attention in every layer, and would burn its
/// processor for it.
///
/// It must never wait for a process that is gone: while it sleeps it looks, every
/// ``CollectivesOptions/livenessInterval``, whether those it waits for still live.
final class SharedMemoryCollectives: ExchangingCollectives {
    let rank: Int
    let worldSize: Int
    let messageBytesMax: Int
    private(set) var statistics: CollectiveStatistics

    private let inbox: SharedMemoryInbox
    private let spin: Interval
    private let livenessInterval: Interval
    private var lanes: [Lane]
    private var failure: CollectiveError?
    private var lastLivenessCheck = Instant(nanoseconds: 0)

    private var waits = WaitForecast()
    private var notice: WaitNotice

    /// Looks at the rings between two looks at the clock.
    private static let looksPerSpin = 64

    /// The two streams between this worker and one peer, within the current operation.
    private struct Lane {
        let peer: Int
        let link: SharedMemoryPeer
        /// Headers of the outgoing message and of the incoming one.
        let scratch: UnsafeMutableRawPointer
        var message = UnsafeRawBufferPointer(start: nil, count: 0)
        var sends = true
        var receives = true
        var sent = 0
        var received = 0
        var destination: UnsafeMutableRawBufferPointer?

        var incomingHeader: UnsafeMutableRawPointer {
            scratch + MessageHeader.byteCount
        }
        var isSent: Bool { !sends || sent == MessageHeader.byteCount + message.count }
        var isReceived: Bool {
            guard receives else { return true }
            guard let destination else { return false }
            return received == MessageHeader.byteCount + destination.count
        }
        var isDone: Bool { isSent && isReceived }
    }

    init(
        rank: Int, addresses: [SharedMemoryAddress], inbox: SharedMemoryInbox,
        options: CollectivesOptions, tag: OperationTag, waits board: WaitBoard?
    ) throws(CollectiveError) {
        self.rank = rank
        worldSize = addresses.count
        notice = WaitNotice(board)
        messageBytesMax = options.messageBytesMax
        statistics = CollectiveStatistics(worldSize: addresses.count)
        self.inbox = inbox
        livenessInterval = options.livenessInterval
        spin = options.spin ?? CollectivesOptions.spinDefault(workersOnHost: addresses.count)
        lanes = []
        for (peer, address) in addresses.enumerated() where peer != rank {
            let link: SharedMemoryPeer
            do {
                link = try SharedMemoryPeer.open(
                    address, peer: peer, rank: rank, inbox: inbox, tag: tag)
            } catch {
                releaseLanes()
                throw error
            }
            let scratch = UnsafeMutableRawPointer.allocate(
                byteCount: 2 * MessageHeader.byteCount, alignment: 64)
            lanes.append(Lane(peer: peer, link: link, scratch: scratch))
        }
    }

    deinit { close() }

    func close() {
        failure = failure ?? .setup(reason: "the group was closed")
        csr_inbox_mark_closed(inbox.handle)
        releaseLanes()
    }

    private func releaseLanes() {
        for lane in lanes {
            csr_peer_free(lane.link.handle)
            lane.scratch.deallocate()
        }
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
        do {
            try run(Operation(payload: payload, tag: tag, limit: messageBytesMax), until: deadline)
        } catch {
            failure = error
            throw error
        }
    }

    /// One exchange while it runs.
    private struct Operation {
        let payload: ExchangePayload
        let check: HeaderCheck
        let started = MonotonicClock.now()

        init(payload: ExchangePayload, tag: OperationTag, limit: Int) {
            self.payload = payload
            check = HeaderCheck(tag: tag, messageBytesMax: limit)
        }
    }

    private func run(_ operation: Operation, until deadline: Instant) throws(CollectiveError) {
        defer { notice.onEnded() }
        for index in lanes.indices { start(&lanes[index], operation) }
        lastLivenessCheck = operation.started
        let kind = WaitForecast.Kind(operation.check.tag)
        let patience = waits.spin(kind, longest: spin)
        var idleSince: Instant?
        while true {
            let moved = try moveAll(operation)
            if isDone { break }
            if moved { continue }
            let now = MonotonicClock.now()
            guard now < deadline else {
                throw .timeout(peers: missingPeers(), tag: operation.check.tag)
            }
            let since = idleSince ?? now
            idleSince = since
            if now - since < patience {
                lookOut()
            } else {
                notice.onWaiting(operation.check.tag, since: operation.started, at: now) {
                    missingPeers()
                }
                try doze(operation, now: now, until: deadline)
            }
        }
        let waited = idleSince.map { MonotonicClock.now() - $0 } ?? .zero
        waits.onWaited(waited, kind, longest: spin)
        statistics.operations += 1
    }

    private var isDone: Bool {
        for index in lanes.indices where !lanes[index].isDone { return false }
        return true
    }

    /// Looks at the rings for a while, until there is something to read.
    private func lookOut() {
        for _ in 0..<Self.looksPerSpin {
            for index in lanes.indices where !lanes[index].isReceived {
                if csr_is_readable(inbox.handle, UInt32(lanes[index].peer)) != 0 { return }
            }
            csr_relax()
        }
    }

    private func missingPeers() -> [Int] {
        let silent = lanes.filter { !$0.isReceived }
        return (silent.isEmpty ? lanes.filter { !$0.isSent } : silent).map(\.peer)
    }

    private func start(_ lane: inout Lane, _ operation: Operation) {
        let message = operation.payload.outgoing(to: lane.peer)
        lane.sends = operation.payload.sends(to: lane.peer)
        lane.receives = operation.payload.receives(from: lane.peer)
        let header = MessageHeader(
            tag: operation.check.tag, rank: rank, payloadByteCount: message.count)
        header.write(to: lane.scratch)
        lane.message = message
        lane.sent = 0
        lane.received = 0
        lane.destination = nil
        statistics.bytesSent += message.count
    }

    /// Moves every stream as far as one piece goes; whether any moved.
    private func moveAll(_ operation: Operation) throws(CollectiveError) -> Bool {
        var moved = false
        for index in lanes.indices where !lanes[index].isDone {
            if try send(&lanes[index], operation.check) { moved = true }
            if try receive(&lanes[index], operation) { moved = true }
        }
        return moved
    }

    private func send(_ lane: inout Lane, _ check: HeaderCheck) throws(CollectiveError) -> Bool {
        guard !lane.isSent else { return false }
        let headerSent = min(lane.sent, MessageHeader.byteCount)
        let body = UnsafeRawBufferPointer(rebasing: lane.message[(lane.sent - headerSent)...])
        let written = csr_write(
            lane.link.handle, lane.scratch + headerSent, MessageHeader.byteCount - headerSent,
            body.baseAddress, body.count)
        guard written >= 0 else { throw check.lost(lane.peer, "its ring is corrupt") }
        lane.sent += Int(written)
        return written > 0
    }

    private func receive(
        _ lane: inout Lane, _ operation: Operation
    ) throws(CollectiveError) -> Bool {
        guard !lane.isReceived, csr_is_readable(inbox.handle, UInt32(lane.peer)) != 0 else {
            return false
        }
        let before = lane.received
        if lane.destination == nil {
            try receiveHeader(&lane, operation)
        }
        if let destination = lane.destination, !lane.isReceived {
            let offset = lane.received - MessageHeader.byteCount
            let room = UnsafeMutableRawBufferPointer(rebasing: destination[offset...])
            lane.received += try read(lane, into: room.baseAddress, room.count, operation.check)
        }
        if lane.isReceived {
            let waited = MonotonicClock.now() - operation.started
            statistics.waitedNanoseconds[lane.peer] += UInt64(max(0, waited.nanoseconds))
            statistics.bytesReceived += lane.received - MessageHeader.byteCount
        }
        return lane.received > before
    }

    private func receiveHeader(
        _ lane: inout Lane, _ operation: Operation
    ) throws(CollectiveError) {
        let count = MessageHeader.byteCount - lane.received
        lane.received += try read(
            lane, into: lane.incomingHeader + lane.received, count, operation.check)
        guard lane.received == MessageHeader.byteCount else { return }
        let owner = csr_ring_owner(inbox.handle, UInt32(lane.peer))
        guard owner == lane.link.key else {
            throw operation.check.lost(lane.peer, "a stranger writes to its ring")
        }
        lane.destination = try operation.check.destination(
            announcedBy: UnsafeRawPointer(lane.incomingHeader), from: lane.peer,
            in: operation.payload)
    }

    private func read(
        _ lane: Lane, into bytes: UnsafeMutableRawPointer?, _ count: Int, _ check: HeaderCheck
    ) throws(CollectiveError) -> Int {
        let amount = csr_read(
            inbox.handle, UInt32(lane.peer), lane.link.handle, bytes, count)
        guard amount >= 0 else { throw check.lost(lane.peer, "the ring it writes is corrupt") }
        return Int(amount)
    }

    private func doze(
        _ operation: Operation, now: Instant, until deadline: Instant
    ) throws(CollectiveError) {
        let prepared = csr_sleep_prepare(inbox.handle)
        if try moveAll(operation) {
            csr_sleep_cancel(inbox.handle)
            return
        }
        let nextCheck = lastLivenessCheck + livenessInterval
        let wakeUp = min(max(nextCheck, now), deadline)
        csr_sleep(inbox.handle, prepared, (wakeUp - now).nanoseconds)
        let later = MonotonicClock.now()
        if nextCheck <= later {
            lastLivenessCheck = later
            try checkLiveness(operation)
        }
    }

    /// Throws if a peer that has not done its part will never do it. What it wrote before it went
    /// is read first, because its bytes outlive it.
    private func checkLiveness(_ operation: Operation) throws(CollectiveError) {
        let dead = lanes.filter { !$0.isDone && csr_peer_is_alive($0.link.handle) == 0 }
        let closed = lanes.filter { !$0.isDone && csr_peer_is_closed($0.link.handle) != 0 }
        guard !dead.isEmpty || !closed.isEmpty else { return }
        while try moveAll(operation) {}
        let gone = [(dead, "its process is gone"), (closed, "it closed its endpoint")]
        for (candidates, reason) in gone {
            for candidate in candidates {
                let isMissing = lanes.contains { $0.peer == candidate.peer && !$0.isDone }
                if isMissing { throw operation.check.lost(candidate.peer, reason) }
            }
        }
    }
}
