import DaemonRuntime
import Foundation
import Protocol

@testable import EngineWorker

/// N ranks on N threads of this process, each with its own endpoint.
enum CollectivesHarness {
    static let transports: [CollectivesKind] = [.sharedMemory, .ucx]
    typealias Body = @Sendable (any Collectives) throws -> Void

    static func options(_ kind: CollectivesKind) -> CollectivesOptions {
        var options = CollectivesOptions()
        options.ringBytes = 16 * 1024
        options.transports = "tcp,self"
        return options
    }

    static func endpoints(
        _ kind: CollectivesKind, _ count: Int, worldSizeMax: Int? = nil, waits: [WaitBoard] = []
    ) throws -> [CollectivesEndpoint] {
        try (0..<count).map { rank in
            try CollectivesEndpoint(
                kind: kind, worldSizeMax: worldSizeMax ?? count, incarnation: UInt64(rank + 1),
                options: options(kind), waits: waits.isEmpty ? nil : waits[rank])
        }
    }

    static func deadline(_ seconds: Double = 20) -> Instant {
        MonotonicClock.now() + Interval(nanoseconds: Int64(seconds * 1e9))
    }

    /// Connects all ranks and runs `body` on each; what each one threw, in rank order.
    @discardableResult
    static func run(
        _ endpoints: [CollectivesEndpoint], view: UInt32 = 7, connectSeconds: Double = 20,
        ranks: [Int]? = nil, body: @escaping Body
    ) -> [(any Error)?] {
        let addresses = endpoints.map(\.address)
        let outcomes = Lock<[(any Error)?]>(Array(repeating: nil, count: endpoints.count))
        let connectDeadline = deadline(connectSeconds)
        onThreads(ranks ?? Array(endpoints.indices)) { rank in
            do {
                let group = try endpoints[rank].connect(
                    view: view, rank: rank, addresses: addresses, deadline: connectDeadline)
                try body(group)
            } catch {
                let text = error
                outcomes.withLock { $0[rank] = text }
            }
        }
        return outcomes.withLock { $0 }
    }

    static func onThreads(_ ranks: [Int], _ body: @escaping @Sendable (Int) -> Void) {
        let finished = DispatchSemaphore(value: 0)
        for rank in ranks {
            let thread = Thread {
                body(rank)
                finished.signal()
            }
            thread.stackSize = 1 << 20
            thread.start()
        }
        for _ in ranks { finished.wait() }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014), for tests that repeat from a printed seed.
struct TestGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

struct Wrong: Error, CustomStringConvertible {
    let description: String
}

/// Fills and checks messages whose content is a function of who sends what to whom and when.
enum Pattern {
    static func seed(_ tick: UInt64, _ sender: Int, _ receiver: Int) -> UInt64 {
        var generator = TestGenerator(state: tick &* 1_000_003 ^ UInt64(sender * 513 + receiver))
        return generator.next()
    }

    static func fill(_ buffer: UnsafeMutableRawBufferPointer, _ seed: UInt64) {
        var generator = TestGenerator(state: seed)
        var offset = 0
        while offset + 8 <= buffer.count {
            buffer.storeBytes(of: generator.next(), toByteOffset: offset, as: UInt64.self)
            offset += 8
        }
        let last = generator.next()
        while offset < buffer.count {
            buffer[offset] = UInt8(truncatingIfNeeded: last >> UInt64(8 * (offset % 8)))
            offset += 1
        }
    }

    static func check(_ buffer: UnsafeMutableRawBufferPointer, _ seed: UInt64) -> Bool {
        let expected = UnsafeMutableRawBufferPointer.allocate(
            byteCount: buffer.count, alignment: 64)
        defer { expected.deallocate() }
        fill(expected, seed)
        return buffer.elementsEqual(expected)
    }
}

extension Collectives {
    /// One all-to-all with the patterns of `tick`, checked.
    func exchangePatterns(
        tick: UInt64, outgoing: PeerBuffers, incoming: PeerBuffers, deadline: Instant,
        size: (_ sender: Int, _ receiver: Int) -> Int
    ) throws {
        for peer in 0..<worldSize {
            outgoing.setCount(size(rank, peer), of: peer)
            Pattern.fill(outgoing[peer], Pattern.seed(tick, rank, peer))
        }
        try allToAll(
            outgoing: outgoing, incoming: incoming,
            tag: .dispatch(view: 7, tick: tick, layer: 0), deadline: deadline)
        for peer in 0..<worldSize {
            guard incoming.count(of: peer) == size(peer, rank),
                Pattern.check(incoming[peer], Pattern.seed(tick, peer, rank))
            else {
                throw Wrong(description: "tick \(tick): bytes of \(peer) to \(rank) are wrong")
            }
        }
    }

    /// Gathers `[rank, tick]` repeated to `byteCount` bytes, checked.
    func gatherPatterns(tick: UInt64, byteCount: Int, deadline: Instant) throws {
        let send = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 8)
        let receive = UnsafeMutableRawBufferPointer.allocate(
            byteCount: byteCount * worldSize, alignment: 8)
        defer {
            send.deallocate()
            receive.deallocate()
        }
        Pattern.fill(send, Pattern.seed(tick, rank, rank))
        try allGather(
            UnsafeRawBufferPointer(send), into: receive,
            tag: .tickExchange(view: 7, tick: tick), deadline: deadline)
        for peer in 0..<worldSize {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: receive[(peer * byteCount)..<((peer + 1) * byteCount)])
            guard Pattern.check(part, Pattern.seed(tick, peer, peer)) else {
                throw Wrong(description: "tick \(tick): part \(peer) on \(rank) is wrong")
            }
        }
    }
}
