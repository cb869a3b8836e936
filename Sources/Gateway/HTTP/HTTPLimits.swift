public import Protocol

/// Every bound of ``HTTPServer``: how long it waits, and how much it holds for one client.
public struct HTTPLimits: Hashable, Sendable {
    public var message = HTTPMessageLimits()

    /// With more the listeners are not accepted from until one is closed.
    public var connectionsMax = 8192
    /// What a client may send ahead while its request waits for the answer; then it is not read.
    public var pipelinedBytesMax = 64 << 10

    /// At or below this a congested stream is reported as drained.
    public var unsentBytesLow = 64 << 10
    /// Above this a write is answered with `congested`.
    public var unsentBytesHigh = 256 << 10
    /// Above this the connection of a stream is aborted.
    public var unsentBytesMax = 4 << 20

    public var handshakeDeadline = Interval.seconds(10)
    /// From the first byte of a request, or from the connection's start, to the end of the head.
    public var headDeadline = Interval.seconds(10)
    public var bodyDeadline = Interval.seconds(60)
    /// Longer than what clients' pools use, so that it is the client who closes: a request that
    /// crosses with the server's close on the way is lost.
    public var idleDeadline = Interval.seconds(75)
    /// How long unsent bytes may wait while the client takes none.
    public var writeStallDeadline = Interval.seconds(30)
    /// Once nothing is accepted any more: the time to the first byte on a new connection.
    public var freshDeadlineDraining = Interval.seconds(1)
    /// How long a client may take to close after the last answer.
    public var lingerDeadline = Interval.seconds(2)

    /// Connections taken from a listener in one turn.
    static let acceptsPerTurnMax = 64
    /// Read from one connection in one turn.
    static let readBytesPerTurnMax = 64 << 10
    /// TLS records made of unsent bytes at a time.
    static let encryptedBytesMax = 64 << 10
    static let encryptionsPerTurnMax = 16
    /// After accept failed for want of descriptors or memory.
    static let acceptRetry = Interval.milliseconds(100)
    /// Deadlines are looked at no more often than this.
    static let sweepSpacing = Interval.milliseconds(20)
    /// An empty buffer of a connection gives its storage back above this.
    static let idleBufferBytesMax = 4 << 10

    public init() {}

    func check() {
        precondition(connectionsMax > 0, "connectionsMax \(connectionsMax)")
        precondition(pipelinedBytesMax > 0, "pipelinedBytesMax \(pipelinedBytesMax)")
        precondition(
            unsentBytesLow >= 0 && unsentBytesLow <= unsentBytesHigh
                && unsentBytesHigh <= unsentBytesMax,
            "unsent bytes: \(unsentBytesLow) <= \(unsentBytesHigh) <= \(unsentBytesMax) must hold")
    }
}
