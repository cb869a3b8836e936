internal import CSharedRing
public import Protocol

/// Which transport a group uses.
public enum CollectivesKind: UInt8, Hashable, Sendable, CaseIterable {
    /// Between the processes of one user on one host.
    case sharedMemory = 1
    /// Between any processes that a network joins.
    case ucx = 2
    /// Shared memory if all members can reach each other's, UCX otherwise.
    case automatic = 3
}

/// Settings of a ``CollectivesEndpoint``; all members of a group use the same.
public struct CollectivesOptions: Hashable, Sendable {
    public static let ringBytesMin = 4096

    /// Bytes in flight from one worker to another before the sender waits; a power of two.
    public var ringBytes = 1 << 20
    /// How long a wait spins before it sleeps. `nil` spins for ``spinDefault`` where every worker
    /// of the group can have a processor to itself, and not at all elsewhere: a spinning worker
    /// would keep the one from running that it waits for.
    public var spin: Interval?
    /// How often a sleeping worker asks whether the peers that it waits for still live.
    public var livenessInterval = Interval.milliseconds(50)
    /// Larger messages are refused by sender and receiver.
    public var messageBytesMax = CollectiveLimits.messageBytesMax

    /// The network device that UCX uses, such as `eth0` or `mlx5_0:1`; `nil` leaves it to
    /// `UCX_NET_DEVICES` or UCX.
    public var networkDevice: String?
    /// UCX transports, such as `tcp,self`; `nil` leaves them to `UCX_TLS` or UCX.
    public var transports: String?

    public static let spinDefault = Interval(nanoseconds: 50_000)

    public init() {}

    static func spinDefault(workersOnHost: Int) -> Interval {
        workersOnHost <= Int(csr_processor_count()) ? spinDefault : .zero
    }
}
