internal import CLinux
internal import Glibc
public import Protocol

/// A bounded queue between two threads of a daemon. The receiver either watches ``descriptor`` on
/// its event loop or blocks in ``takeAll(waitingUntil:into:)``.
public final class Mailbox<Element: Sendable>: Sendable {
    private let state: Lock<[Element]>
    private let capacity: Int
    /// Readable while elements are waiting.
    public let descriptor: Int32

    public init(capacity: Int) {
        self.capacity = capacity
        state = Lock([])
        descriptor = cl_eventfd()
        precondition(descriptor >= 0, "eventfd failed with errno \(cl_errno())")
    }

    deinit { close(descriptor) }

    /// False when the mailbox is full; the element is then not taken.
    public func post(_ element: Element) -> Bool {
        let capacity = capacity
        let (posted, wasEmpty) = state.withLock { queue in
            if queue.count >= capacity { return (false, false) }
            queue.append(element)
            return (true, queue.count == 1)
        }
        if wasEmpty { _ = cl_eventfd_signal(descriptor) }
        return posted
    }

    /// Moves everything that is waiting to the end of `elements`, in order; does not block.
    public func takeAll(into elements: inout [Element]) {
        // Drained first: an element posted after the queue is taken signals again.
        _ = cl_eventfd_drain(descriptor)
        let taken = state.withLock { queue in
            let taken = queue
            if !taken.isEmpty { queue.removeAll(keepingCapacity: true) }
            return taken
        }
        elements.append(contentsOf: taken)
    }

    /// Sleeps until something is waiting or `deadline` passes.
    public func wait(until deadline: Instant) {
        let left = deadline - MonotonicClock.now()
        guard left > .zero else { return }
        var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&poller, 1, Int32(clamping: (left.nanoseconds + 999_999) / 1_000_000))
    }
}
