internal import CLinux
internal import Glibc

/// A thread with a name that `top -H` and gdb show.
public final class NamedThread: Sendable {
    private final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// The kernels' scratch and Swift's frames fit in it many times over.
    private static let stackBytes = 8 << 20

    private let handle: pthread_t

    /// - Parameter name: at most 15 bytes, which is what Linux keeps.
    public init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        precondition(name.utf8.count <= 15, "\(name) is too long for a thread's name")
        let start = Unmanaged.passRetained(Start(name: name, body: body))
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, Self.stackBytes)
        defer { pthread_attr_destroy(&attributes) }
        var handle = pthread_t()
        let result = pthread_create(&handle, &attributes, Self.main, start.toOpaque())
        precondition(result == 0, "pthread_create: \(String(cString: strerror(result)))")
        self.handle = handle
    }

    private static let main: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? =
        {
            guard let argument = $0 else { return nil }
            let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
            _ = cl_set_thread_name(start.name)
            start.body()
            return nil
        }

    /// Waits for the thread's end. To be called once.
    public func join() { pthread_join(handle, nil) }
}
