/// Threads that share work over rows. The sampler's results do not depend on how many there are.
public protocol RowRunner: AnyObject {
    /// Threads that may perform, the caller's included.
    var threadCount: Int { get }
    /// Performs every item in `0 ..< count` once and returns when all are done.
    func run(_ count: Int, _ work: RowWork)
}

/// What threads share. An object and no closure, so that handing it to C takes no memory.
open class RowWork {
    public init() {}

    /// `thread` is below ``RowRunner/threadCount`` and used by one thread at a time; an item writes
    /// to what belongs to itself or its thread alone.
    open func perform(item: Int, thread: Int) {
        preconditionFailure("work without a body")
    }
}

/// The caller's thread, one row after the other.
public final class SequentialRows: RowRunner {
    public let threadCount = 1

    public init() {}

    public func run(_ count: Int, _ work: RowWork) {
        for item in 0..<count { work.perform(item: item, thread: 0) }
    }
}
