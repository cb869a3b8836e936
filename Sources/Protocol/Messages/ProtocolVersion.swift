/// Versions of what goes over the wire between processes, and inside a tick between workers.
///
/// A build speaks the current one and the one before it, so that the processes of a deployment can
/// be replaced one by one. Both sides of a link use the newest version that both know; a message or
/// a field of a later one is not sent. To raise it: say in docs/protocol.md what is new, keep the
/// old bytes (`Tests/Fixtures/protocol`), and drop what nobody speaks any more.
public enum ProtocolVersion {
    public static let current: UInt32 = 2
    public static let oldest: UInt32 = 1

    /// The first version in which both sides say what they speak and hear what was chosen, a view
    /// has a version of its own, and workers try the ways between them and take other positions.
    public static let negotiated: UInt32 = 2
}

/// The versions that a process speaks; never empty.
public struct ProtocolRange: Hashable, Sendable, CustomStringConvertible {
    public let oldest: UInt32
    public let newest: UInt32

    /// nil when there is no version between the two.
    public init?(oldest: UInt32, newest: UInt32) {
        guard oldest > 0, oldest <= newest else { return nil }
        self.oldest = oldest
        self.newest = newest
    }

    private init() {
        (oldest, newest) = (ProtocolVersion.oldest, ProtocolVersion.current)
    }

    /// All that this build speaks.
    public static let ofThisBuild = ProtocolRange()

    public func contains(_ version: UInt32) -> Bool { oldest <= version && version <= newest }

    /// The newest version that both speak; nil when there is none.
    public func newestInCommon(with other: ProtocolRange) -> UInt32? {
        let version = min(newest, other.newest)
        return contains(version) && other.contains(version) ? version : nil
    }

    public var description: String {
        oldest == newest ? "\(oldest)" : "\(oldest) to \(newest)"
    }
}

extension ProtocolRange {
    /// Why two processes cannot talk and what to install, for people; nil when they can.
    ///
    /// - Parameters:
    ///   - peer: who speaks `other`, with its release.
    ///   - this: who speaks `self`, with its release.
    public func refusal(
        of other: ProtocolRange?, peer: String, this: String
    ) -> String? {
        guard let other else { return "\(peer) names no protocol version: it is no Phalanx" }
        if newestInCommon(with: other) != nil { return nil }
        let remedy =
            other.newest < oldest
            ? "install a newer release there, one that speaks \(oldest)"
            : "install a newer release here first, one that speaks \(other.oldest)"
        return "\(peer) speaks protocol \(other), \(this) \(self): \(remedy)"
    }
}
