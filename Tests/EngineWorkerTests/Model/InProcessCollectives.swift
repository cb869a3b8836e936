import DaemonRuntime
import Foundation
import Protocol

@testable import EngineWorker

/// Collectives between threads of one process: a meeting point with a deadline.
final class InProcessGroup: @unchecked Sendable {
    // Everything below is guarded by `condition`.
    private let condition = NSCondition()
    private let worldSize: Int
    private var posted: [Int: (tag: OperationTag, parts: [[UInt8]])] = [:]
    private var collected: Set<Int> = []
    private var gone: Int?

    init(worldSize: Int) { self.worldSize = worldSize }

    /// Posts `parts` (one a peer), waits for everybody, and returns what each peer had for `rank`.
    func exchange(
        rank: Int, parts: [[UInt8]], tag: OperationTag, deadline: Instant
    ) throws(CollectiveError) -> [[UInt8]] {
        condition.lock()
        defer { condition.unlock() }
        // The exchange before this one ends when all have collected.
        while posted[rank] != nil { try wait(deadline, tag: tag) }
        posted[rank] = (tag, parts)
        condition.broadcast()
        while posted.count < worldSize { try wait(deadline, tag: tag) }
        var received: [[UInt8]] = []
        for peer in 0..<worldSize {
            guard let entry = posted[peer], entry.tag == tag else {
                let other = posted[peer]?.tag ?? tag
                throw .mismatch(peer: peer, expected: tag, received: other)
            }
            received.append(entry.parts[rank])
        }
        collected.insert(rank)
        if collected.count == worldSize {
            posted.removeAll()
            collected.removeAll()
            condition.broadcast()
        }
        while collected.contains(rank) && posted[rank] != nil {
            try wait(deadline, tag: tag)
        }
        return received
    }

    /// What the end of a worker's process would be.
    func leave(rank: Int) {
        condition.lock()
        gone = rank
        condition.broadcast()
        condition.unlock()
    }

    private func wait(_ deadline: Instant, tag: OperationTag) throws(CollectiveError) {
        if let gone { throw .peerLost(peer: gone, tag: tag, reason: "it left the group") }
        let left = (deadline - MonotonicClock.now()).seconds
        guard left > 0, condition.wait(until: Date(timeIntervalSinceNow: left)) else {
            let missing = (0..<worldSize).filter { posted[$0] == nil }
            throw .timeout(peers: missing, tag: tag)
        }
    }
}

final class InProcessCollectives: Collectives {
    let rank: Int
    let worldSize: Int
    let group: InProcessGroup
    /// Changes a message on its way out, to play a faulty peer.
    var tamper: ((OperationTag, Int, [UInt8]) -> [UInt8])?

    init(group: InProcessGroup, rank: Int, worldSize: Int) {
        self.group = group
        self.rank = rank
        self.worldSize = worldSize
    }

    func allGather(
        _ send: UnsafeRawBufferPointer, into receive: UnsafeMutableRawBufferPointer,
        tag: OperationTag, deadline: Instant
    ) throws(CollectiveError) {
        let parts = Array(repeating: Array(send), count: worldSize)
        let received = try group.exchange(rank: rank, parts: parts, tag: tag, deadline: deadline)
        receive.copyBytes(from: received.joined())
    }

    func allToAll(
        outgoing: PeerBuffers, incoming: PeerBuffers, tag: OperationTag, deadline: Instant
    ) throws(CollectiveError) {
        let parts = (0..<worldSize).map { peer in
            tamper?(tag, peer, Array(outgoing[peer])) ?? Array(outgoing[peer])
        }
        let received = try group.exchange(rank: rank, parts: parts, tag: tag, deadline: deadline)
        for peer in 0..<worldSize {
            incoming.setCount(received[peer].count, of: peer)
            incoming[peer].copyBytes(from: received[peer])
        }
    }
}
