internal import DaemonRuntime
internal import Protocol

/// Whom an operation of a view waits for, and since when.
struct PeerWait: Hashable, Sendable {
    let view: UInt32
    /// Ranks whose message is missing.
    let peers: [Int]
    let since: Instant
}

/// Where the engine thread writes whom it waits for and the link thread reads it, while the former
/// sleeps: a group in which one rank hangs is otherwise as silent as one that has nothing to do.
public final class WaitBoard: Sendable {
    private let wait = Lock<PeerWait?>(nil)

    public init() {}

    /// Nil while no operation has waited for ``WaitNotice/after``.
    var current: PeerWait? { wait.withLock { $0 } }

    func post(_ new: PeerWait?) { wait.withLock { $0 = new } }
}

/// One transport's use of the board. An operation that does not wait for long costs a comparison.
struct WaitNotice {
    /// Ticks of a loaded host may take this long, so shorter waits say nothing.
    static let after = Interval.seconds(1)

    private let board: WaitBoard?
    private var isPosted = false

    init(_ board: WaitBoard?) { self.board = board }

    /// An operation that began at `since` is about to sleep.
    mutating func onWaiting(
        _ tag: OperationTag, since: Instant, at now: Instant, missing: () -> [Int]
    ) {
        guard let board, now - since >= Self.after else { return }
        isPosted = true
        board.post(PeerWait(view: tag.view, peers: missing(), since: since))
    }

    /// The operation is over, one way or the other.
    mutating func onEnded() {
        guard isPosted else { return }
        isPosted = false
        board?.post(nil)
    }
}
