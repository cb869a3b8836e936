internal import CLinux
internal import Glibc
public import Protocol

/// A bounded queue between two threads of a daemon. The receiver either watches ``descriptor`` on
/// its event loop or blocks in ``wait(until:)``.
public final class Mailbox<Element: Sendable>: Sendable {
    private let state: Lock<[Element]>
    private let capacity: Int
    /// Readable while elements are waiting.
    public let descriptor: Int32

    /// - Parameter reserving: elements for which there is room from the start.
    public init(capacity: Int, reserving: Int = 0) {
        self.capacity = capacity
        var queue: [Element] = []
        queue.reserveCapacity(reserving)
        state = Lock(queue)
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

    /// All of `elements` or, when they do not fit, none. They are copied, so that the caller can
    /// use its array again without an allocation.
    public func post(contentsOf elements: [Element]) -> Bool {
        guard !elements.isEmpty else { return true }
        let capacity = capacity
        let (posted, wasEmpty) = state.withLock { queue in
            if queue.count + elements.count > capacity { return (false, false) }
            let wasEmpty = queue.isEmpty
            queue.append(contentsOf: elements)
            return (true, wasEmpty)
        }
        if wasEmpty { _ = cl_eventfd_signal(descriptor) }
        return posted
    }

    /// Whether nothing is waiting: for a receiver that looks often, without a system call.
    public var isEmpty: Bool { state.withLock { $0.isEmpty } }

    /// Moves everything that is waiting to the end of `elements`, in order; does not block. An
    /// empty array is exchanged for the queue's: then the memory of both is used on and on.
    public func takeAll(into elements: inout [Element]) {
        // Drained first: an element posted after the queue is taken signals again.
        _ = cl_eventfd_drain(descriptor)
        if elements.isEmpty {
            state.withLock { swap(&elements, &$0) }
        } else {
            var taken: [Element] = []
            state.withLock { swap(&taken, &$0) }
            elements.append(contentsOf: taken)
        }
    }

    /// Sleeps until something is waiting or `deadline` passes.
    public func wait(until deadline: Instant) {
        let left = deadline - MonotonicClock.now()
        guard left > .zero else { return }
        var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&poller, 1, Int32(clamping: (left.nanoseconds + 999_999) / 1_000_000))
    }
}
