/// Threads that share work over rows. The sampler's results do not depend on how many there are.
public protocol RowRunner: AnyObject {
    /// Threads that may call the body, the caller's included.
    var threadCount: Int { get }
    /// Calls `body(item, thread)` once for every item in `0 ..< count` and returns when all are
    /// done. `thread` is below ``threadCount`` and used by one thread at a time; a body writes to
    /// what belongs to its item or its thread alone.
    func run(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void)
}

/// The caller's thread, one row after the other.
public final class SequentialRows: RowRunner {
    public let threadCount = 1

    public init() {}

    public func run(_ count: Int, _ body: (_ item: Int, _ thread: Int) -> Void) {
        for item in 0..<count { body(item, 0) }
    }
}
