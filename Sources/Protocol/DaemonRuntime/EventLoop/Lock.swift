internal import Glibc

/// A pthread mutex around a value. (`Synchronization.Mutex` gives false reports under the thread
/// sanitizer on Linux.) Nothing may be called from `body` that takes another lock.
public final class Lock<State>: @unchecked Sendable {
    // Guards `state`; both live at a stable address for as long as the lock does.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private var state: State

    public init(_ state: sending State) {
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        self.state = state
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    public func withLock<Result>(_ body: (inout sending State) -> sending Result) -> sending Result
    {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&state)
    }
}
