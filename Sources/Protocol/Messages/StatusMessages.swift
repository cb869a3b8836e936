/// A process as the coordinator shows it to operators.
public struct PeerStatus: Hashable, Sendable {
    public var role: PeerRole
    public var node = ""
    public var device: UInt32 = 0
    /// Index in the group, and what it means: DP rank × TP + TP rank. For workers.
    public var worker: UInt32 = 0
    public var dpRank: UInt32 = 0
    public var tpRank: UInt32 = 0
    public var incarnation = Incarnation(rawValue: 0)
    public var pid: UInt32 = 0
    public var softwareVersion = ""
    /// Of the last heartbeat; nil before the first.
    public var stage: WorkerStage?
    public var percent: UInt32 = 0
    /// How long its running tick has taken so far; zero between ticks.
    public var tickAge = Interval.zero
    /// How long the coordinator has heard nothing of it.
    public var silence = Interval.zero
    /// It is connected to the other members of the view.
    public var isMember = false
    /// Where gateways reach it, once it is ready.
    public var endpoint = ""
    /// Of the checkpoint that it has loaded, once it is ready.
    public var modelDigest = ""
    /// What keeps it from working; empty when nothing does.
    public var waitsFor = ""
    public var load = RankLoad()
    /// Between it and the coordinator.
    public var protocolVersion = ProtocolVersion.oldest
    /// Connections to it or from it that did not come about.
    public var failedHandshakes: UInt64 = 0
    /// How long it has waited for others in an operation of the view.
    public var waited = Interval.zero
    /// Others wait for it and it for nobody, or they did and do without it.
    public var isSuspected = false
    /// How many wait for it.
    public var waitingWorkers: UInt32 = 0

    public init(role: PeerRole) { self.role = role }
}

/// The coordinator's whole knowledge of a deployment, for operators.
///
/// Its size is bounded: texts of peers are cut at ``textBytesMax``, and the lists have limits that
/// the largest group stays below, so that a report always fits a control message.
public struct StatusReport: Hashable, Sendable {
    public static let textBytesMax = 128
    public static let valueBytesMax = 1024

    public var softwareVersion = ""
    /// The coordinator's clock when it answered (UTC, since 1970).
    public var wallClockMicroseconds: Int64 = 0
    public var uptime = Interval.zero
    public var worldSize: UInt32 = 0
    public var tensorParallelSize: UInt32 = 1
    public var lease = Interval.zero
    /// What is left until the group must be ready; nil while a view is active.
    public var readyDeadline: Interval?
    public var view: UInt32 = 0
    public var viewState = View.State.retired
    public var viewAge = Interval.zero
    /// Why the last view ended.
    public var viewReason = ""
    /// Workers that could not join a view, and why: the first of ``missingCount``.
    public var missing: [String] = []
    public var missingCount: UInt32 = 0
    public var configuration: [ConfigurationEntry] = []
    /// Workers by index, then gateways.
    public var peers: [PeerStatus] = []
    /// The newest that the coordinator speaks.
    public var protocolVersion = ProtocolVersion.oldest
    /// Of what the workers of the view exchange.
    public var viewProtocolVersion = ProtocolVersion.oldest
    /// Connections to the coordinator that did not come about.
    public var failedHandshakes: UInt64 = 0

    public init() {}

    public var workers: [PeerStatus] { peers.filter { $0.role == .worker } }
    public var gateways: [PeerStatus] { peers.filter { $0.role == .gateway } }

    /// The coordinator's value of a deployment-wide option.
    public func option(_ key: String) -> String? {
        configuration.first { $0.key == key }?.value
    }

    /// `text` of at most so many bytes, without half a character at its end.
    public static func cut(_ text: String, toBytes limit: Int = textBytesMax) -> String {
        guard text.utf8.count > limit else { return text }
        var kept = ""
        var byteCount = 0
        for character in text.unicodeScalars {
            byteCount += character.utf8.count
            if byteCount > limit { break }
            kept.unicodeScalars.append(character)
        }
        return kept
    }
}

/// The answer to an operator's request to drain a DP rank.
public struct DrainReport: Hashable, Sendable {
    public let dpRank: UInt32
    public let isAccepted: Bool
    /// What was asked of whom, or why nobody was.
    public let text: String
    /// The processes that leave.
    public let incarnations: [Incarnation]

    public init(dpRank: UInt32, isAccepted: Bool, text: String, incarnations: [Incarnation] = []) {
        self.dpRank = dpRank
        self.isAccepted = isAccepted
        self.text = text
        self.incarnations = incarnations
    }
}

/// Identities of the connections to the coordinator: what kind of process, and which life of it.
public enum ControlIdentity {
    /// First byte of an operator's identity; ``PeerRole`` has those of the peers. An operator says
    /// no HELLO, has no lease and no place.
    public static let operatorRole: UInt8 = 3

    /// - Parameter secret: a random number that its owner tells nobody but, by this identity, the
    ///   server. A ROUTER hands an identity over to whoever comes under it, whatever its key, and
    ///   incarnations are told to others.
    public static func bytes(role: UInt8, incarnation: Incarnation, secret: UInt64) -> [UInt8] {
        [role]
            + [incarnation.rawValue, secret].flatMap { word in
                (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * (7 - $0))) }
            }
    }
}
