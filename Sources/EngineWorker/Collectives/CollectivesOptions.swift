public import Protocol

/// Which transport a group uses.
public enum CollectivesKind: UInt8, Hashable, Sendable, CaseIterable {
    /// Between the processes of one user on one host.
    case sharedMemory = 1
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

    public static let spinDefault = Interval(nanoseconds: 50_000)

    public init() {}
}
