public import Protocol

/// Who talks to whom during a step: the operations between the workers of one view.
///
/// Every worker of the view issues the same operations in the same order. Each message carries its
/// ``OperationTag``; a worker that receives another tag than the one it is executing stops with
/// ``CollectiveError/mismatch(peer:expected:received:)`` at once, instead of computing with the
/// wrong bytes. Every operation has a deadline; what is missing at the deadline is named.
///
/// After an error the group is finished: streams may have stopped in the middle of a message, so
/// every later operation throws the same error. The buffers given to the failed operation are not
/// touched any more once it has thrown.
///
/// Not thread-safe: one thread (the engine's) issues all operations.
public protocol Collectives: AnyObject {
    /// This worker's index in the group, `0 ..< worldSize`.
    var rank: Int { get }
    var worldSize: Int { get }
    /// What was sent, received and waited for since the group was made.
    var statistics: CollectiveStatistics { get }

    /// Every worker contributes `send.count` bytes; `receive` gets `worldSize * send.count`, in
    /// rank order, this worker's own part included. `send.count` is the same on every worker and
    /// at most ``CollectiveLimits/allGatherBytesMax``.
    func allGather(
        _ send: UnsafeRawBufferPointer,
        into receive: UnsafeMutableRawBufferPointer,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError)

    /// Sends `outgoing[peer]` to every peer and receives what each of them sent into
    /// `incoming[peer]`, whose sizes are set by the call. The part for this worker itself is
    /// copied. Messages may have any size up to ``CollectiveLimits/messageBytesMax``, 0 included.
    func allToAll(
        outgoing: PeerBuffers,
        incoming: PeerBuffers,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError)

    /// The same where every worker knows what it gets: the sizes of `incoming` are set before the
    /// call. A transport may leave out parts of no bytes, and then nobody waits for them. Whether a
    /// peer sent another size is for the caller to check, where the transport does not.
    func allToAllOfKnownSizes(
        outgoing: PeerBuffers,
        incoming: PeerBuffers,
        tag: OperationTag,
        deadline: Instant
    ) throws(CollectiveError)
}

extension Collectives {
    public func allToAllOfKnownSizes(
        outgoing: PeerBuffers, incoming: PeerBuffers, tag: OperationTag, deadline: Instant
    ) throws(CollectiveError) {
        try allToAll(outgoing: outgoing, incoming: incoming, tag: tag, deadline: deadline)
    }

    public var statistics: CollectiveStatistics { CollectiveStatistics(worldSize: worldSize) }
}

/// Names one collective operation; equal on all workers that take part in it.
public struct OperationTag: Hashable, Sendable, CustomStringConvertible {
    public let view: UInt32
    public let tick: UInt64
    /// 0 is the tick exchange, layer l has the numbers above 8l (``LayerOperation``), and the plan
    /// and the logits of a DP rank have the highest.
    public let operation: UInt32

    public init(view: UInt32, tick: UInt64, operation: UInt32) {
        self.view = view
        self.tick = tick
        self.operation = operation
    }

    public static func tickExchange(view: UInt32, tick: UInt64) -> OperationTag {
        OperationTag(view: view, tick: tick, operation: 0)
    }
    public static func dispatch(view: UInt32, tick: UInt64, layer: Int) -> OperationTag {
        inLayer(.dispatch, view: view, tick: tick, layer)
    }
    public static func combine(view: UInt32, tick: UInt64, layer: Int) -> OperationTag {
        inLayer(.combine, view: view, tick: tick, layer)
    }
    static func inLayer(
        _ operation: LayerOperation, view: UInt32, tick: UInt64, _ layer: Int
    ) -> OperationTag {
        let number = UInt32(layer) * LayerOperation.stride + operation.rawValue
        return OperationTag(view: view, tick: tick, operation: number)
    }
    static func inLayer(
        _ operation: LayerOperation, _ moment: ExpertExchange.Moment
    ) -> OperationTag {
        inLayer(operation, view: moment.view, tick: moment.tick, moment.layer)
    }
    /// The second one, after which nobody is still connecting.
    static func settling(view: UInt32) -> OperationTag {
        OperationTag(view: view, tick: .max, operation: .max - 3)
    }
    /// A leader's step plan, to its TP peers.
    static func plan(view: UInt32, tick: UInt64) -> OperationTag {
        OperationTag(view: view, tick: tick, operation: .max - 1)
    }
    /// The TP peers' logits, to their leader.
    static func logits(view: UInt32, tick: UInt64) -> OperationTag {
        OperationTag(view: view, tick: tick, operation: .max - 2)
    }
    /// The first operation of a view, which proves that all pairs work.
    public static func meeting(view: UInt32) -> OperationTag {
        OperationTag(view: view, tick: .max, operation: .max)
    }

    public var description: String {
        tick == .max
            ? "view \(view), which connects" : "view \(view) tick \(tick) operation \(operation)"
    }
}

/// What the workers exchange in one layer. Raw values are part of the protocol.
enum LayerOperation: UInt32 {
    static let stride: UInt32 = 8

    case gatherHeads = 1
    case scatterOutputs = 2
    case dispatch = 3
    case combine = 4
    case gatherRows = 5
    case gatherSlices = 6
}

public enum CollectiveLimits {
    public static let allGatherBytesMax = 4096
    public static let messageBytesMax = 1 << 31
    public static let worldSizeMax = 512
}

public enum CollectiveError: Error, Hashable, Sendable {
    /// These peers had not delivered when the deadline passed.
    case timeout(peers: [Int], tag: OperationTag)
    /// The transport says that this peer is gone.
    case peerLost(peer: Int, tag: OperationTag, reason: String)
    /// A peer is executing another operation than this worker: a bug or another view.
    case mismatch(peer: Int, expected: OperationTag, received: OperationTag)
    /// Setting up the group failed.
    case setup(reason: String)
}

/// One growable, 64-byte aligned byte buffer a peer, kept from step to step.
public final class PeerBuffers {
    public let peerCount: Int
    private var storage: [UnsafeMutableRawBufferPointer]
    private var counts: [Int]

    public init(peerCount: Int) {
        self.peerCount = peerCount
        storage = Array(repeating: .init(start: nil, count: 0), count: peerCount)
        counts = Array(repeating: 0, count: peerCount)
    }

    deinit {
        for buffer in storage { buffer.deallocate() }
    }

    public func count(of peer: Int) -> Int { counts[peer] }

    /// The bytes of `peer`; valid until its count changes.
    public subscript(peer: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: storage[peer].baseAddress, count: counts[peer])
    }

    /// Sets the size of one buffer; the first `keeping` bytes survive a reallocation.
    public func setCount(_ count: Int, of peer: Int, keeping: Int = 0) {
        precondition(count >= 0 && keeping <= counts[peer] && keeping <= count)
        if storage[peer].count < count {
            let capacity = max(count, storage[peer].count * 2, 4096)
            let grown = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 64)
            if keeping > 0 {
                grown.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[peer][0..<keeping]))
            }
            storage[peer].deallocate()
            storage[peer] = grown
        }
        counts[peer] = count
    }
}
