/// Counters of one group, for metrics: which peer does this worker wait for, and how much moves.
public struct CollectiveStatistics: Hashable, Sendable {
    public internal(set) var operations = 0
    /// Payload bytes, without headers and without this worker's own part.
    public internal(set) var bytesSent = 0
    public internal(set) var bytesReceived = 0
    /// For each peer, the time from the start of each operation to the end of its message. Its
    /// differences between peers, not its height, show who is late.
    public internal(set) var waitedNanoseconds: [UInt64]

    public init(worldSize: Int) {
        waitedNanoseconds = Array(repeating: 0, count: worldSize)
    }
}
