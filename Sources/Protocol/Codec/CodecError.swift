/// Why a frame of a peer is refused. It is counted, logged at most once a second, and dropped; it
/// never ends a daemon's loop.
public enum CodecError: Error, Hashable, Sendable, CustomStringConvertible {
    case tooLarge(message: String, byteCount: Int, limit: Int)
    case malformed(message: String, byteCount: Int)
    case missingBody(message: String)
    case invalid(message: String, field: String, value: String)

    public var description: String {
        switch self {
        case .tooLarge(let message, let byteCount, let limit):
            "\(message) of \(byteCount) bytes is over the limit of \(limit)"
        case .malformed(let message, let byteCount):
            "\(byteCount) bytes are not a \(message)"
        case .missingBody(let message):
            "\(message) carries no body that this version knows"
        case .invalid(let message, let field, let value):
            "\(message).\(field) has the value \(value), which is out of range"
        }
    }
}

/// Sizes that a decoder accepts; larger frames are refused before protobuf-c sees them.
public enum CodecLimits {
    public static let gatewayMessageBytesMax = 16 << 20
    public static let leaderMessageBytesMax = 64 << 20
    public static let controlMessageBytesMax = 4 << 20
    /// What a peer or an operator sends to the coordinator; its answers hold whole views.
    public static let peerMessageBytesMax = 1 << 20
    /// Messages of one peer that a server holds and has not looked at yet.
    public static let receivedMessagesMax: Int32 = 256
    public static let promptTokensMax = 2_000_000
    public static let cacheSaltBytesMax = 1024
    public static let listEntriesMax = 200_000
    public static let membersMax = 4096
    public static let statusPeersMax = 4096
    public static let statusMissingMax = 64
    /// The largest group.
    public static let probeWaysMax = 512
    /// Sequences, and prompt tokens that wait, at one rank.
    public static let loadSequencesMax: UInt32 = 1 << 24
    public static let loadTokensMax: UInt64 = 1 << 40
    /// What counts up while a worker lives.
    public static let loadCounterMax: UInt64 = 1 << 53
    /// Cache positions of a worker.
    public static let cachePositionsMax: UInt64 = 1 << 31
}
