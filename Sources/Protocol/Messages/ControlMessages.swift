/// A configuration key with its value in the text form of the options table.
public struct ConfigurationEntry: Hashable, Sendable {
    public let key: String
    public let value: String
    public init(key: String, value: String) {
        self.key = key
        self.value = value
    }
}

public struct ConfigurationDifference: Hashable, Sendable, CustomStringConvertible {
    public let key: String
    public let coordinatorValue: String
    public let peerValue: String
    public init(key: String, coordinatorValue: String, peerValue: String) {
        self.key = key
        self.coordinatorValue = coordinatorValue
        self.peerValue = peerValue
    }
    public var description: String {
        "\(key): the coordinator has \"\(coordinatorValue)\", this node has \"\(peerValue)\""
    }
}

public enum PeerRole: UInt32, Hashable, Sendable, CaseIterable {
    case worker = 1
    case gateway = 2
}

public struct Hello: Hashable, Sendable {
    public var role: PeerRole
    public var node: String
    public var device: UInt32
    public var pid: UInt32
    public var softwareVersion: String
    public var protocolMin: UInt32 = ProtocolVersion.oldest
    public var protocolMax: UInt32 = ProtocolVersion.current
    /// nil: versions that are no range.
    public var protocols: ProtocolRange? {
        ProtocolRange(oldest: protocolMin, newest: protocolMax)
    }
    /// The deployment-wide keys that this process was given itself, by flag or file.
    public var declared: [ConfigurationEntry]
    /// The place that a worker has loaded its experts for; nil before it has one.
    public var worker: UInt32?
    /// The first DP rank of the worker's node, if the operator has chosen it.
    public var startRank: UInt32?
    /// The place of the worker's device among those of its node.
    public var devicePlace: UInt32 = 0

    public init(
        role: PeerRole,
        node: String,
        device: UInt32,
        pid: UInt32,
        softwareVersion: String,
        declared: [ConfigurationEntry]
    ) {
        self.role = role
        self.node = node
        self.device = device
        self.pid = pid
        self.softwareVersion = softwareVersion
        self.declared = declared
    }
}

/// Which part of what all workers of a view divide is a worker's.
public struct GroupPosition: Hashable, Sendable, CustomStringConvertible {
    /// Its place among the view's workers, from 0.
    public let rank: UInt32
    public let worldSize: UInt32

    public init(rank: UInt32, worldSize: UInt32) {
        self.rank = rank
        self.worldSize = worldSize
    }

    public var description: String { "\(rank) of \(worldSize)" }
}

/// The coordinator's answer to a HELLO: who you are and what everybody runs with.
public struct AssignedConfiguration: Hashable, Sendable {
    public let worker: UInt32
    public let dpRank: UInt32
    public let tpRank: UInt32
    public let entries: [ConfigurationEntry]
    public let lease: Interval
    public let readyDeadline: Interval
    /// What a worker loads experts for; it may be asked for another one later. Nil in version 1:
    /// its own number among the workers that the deployment begins with.
    public let position: GroupPosition?
    /// Chosen for this peer: the newest that it and the coordinator speak.
    public var protocolVersion = ProtocolVersion.oldest

    public init(
        worker: UInt32,
        dpRank: UInt32,
        tpRank: UInt32,
        entries: [ConfigurationEntry],
        lease: Interval,
        readyDeadline: Interval,
        position: GroupPosition?
    ) {
        self.worker = worker
        self.dpRank = dpRank
        self.tpRank = tpRank
        self.entries = entries
        self.lease = lease
        self.readyDeadline = readyDeadline
        self.position = position
    }
}

/// Why the coordinator refuses a peer. Raw values are part of the protocol.
public enum RefusalReason: UInt32, Hashable, Sendable, CaseIterable {
    case protocolVersion = 1
    case configuration = 2
    /// All configured workers are there already.
    case groupFull = 3
    /// Another model than the other workers have.
    case model = 4
    /// The coordinator does not know the sender: say HELLO (again).
    case unknownPeer = 5
    /// A stage's deadline has passed.
    case deadline = 6
    case draining = 7
    case malformed = 8
}

public struct Refusal: Hashable, Sendable {
    public let reason: RefusalReason
    public let text: String
    public let differences: [ConfigurationDifference]
    public init(reason: RefusalReason, text: String, differences: [ConfigurationDifference] = []) {
        self.reason = reason
        self.text = text
        self.differences = differences
    }
}

/// A worker that has loaded the model and can join a view.
public struct Ready: Hashable, Sendable {
    public let endpoint: String
    public let collectivesAddress: [UInt8]
    public let modelDigest: String
    public let blockCount: UInt32
    public let blockSize: UInt32
    /// What it has experts for. Nil in version 1: what it was told first.
    public let position: GroupPosition?
    public init(
        endpoint: String,
        collectivesAddress: [UInt8],
        modelDigest: String,
        blockCount: UInt32,
        blockSize: UInt32,
        position: GroupPosition?
    ) {
        self.endpoint = endpoint
        self.collectivesAddress = collectivesAddress
        self.modelDigest = modelDigest
        self.blockCount = blockCount
        self.blockSize = blockSize
        self.position = position
    }
}

public struct Member: Hashable, Sendable {
    public let worker: UInt32
    public let dpRank: UInt32
    public let tpRank: UInt32
    public let incarnation: Incarnation
    public let node: String
    public let endpoint: String
    public let collectivesAddress: [UInt8]
    public let blockCount: UInt32
    public let blockSize: UInt32
    public init(
        worker: UInt32,
        dpRank: UInt32,
        tpRank: UInt32,
        incarnation: Incarnation,
        node: String,
        endpoint: String,
        collectivesAddress: [UInt8],
        blockCount: UInt32,
        blockSize: UInt32
    ) {
        self.worker = worker
        self.dpRank = dpRank
        self.tpRank = tpRank
        self.incarnation = incarnation
        self.node = node
        self.endpoint = endpoint
        self.collectivesAddress = collectivesAddress
        self.blockCount = blockCount
        self.blockSize = blockSize
    }
    /// The leader of a DP rank schedules and talks to gateways.
    public var isLeader: Bool { tpRank == 0 }
}

/// A numbered membership. Only the coordinator makes views, and it publishes them whole.
public struct View: Hashable, Sendable {
    public enum State: UInt32, Hashable, Sendable, CaseIterable {
        /// Members connect their collectives.
        case forming = 1
        /// All members are connected; leaders take requests.
        case active = 2
        /// Nobody computes; members that are left say READY again.
        case retired = 3
    }

    public let number: UInt32
    public let state: State
    /// In worker order; empty when retired.
    public let members: [Member]
    public let configurationDigest: UInt64
    /// Why it was retired, or who is missing while nothing has formed yet.
    public let reason: String
    /// Of what the members exchange with each other: the newest that all of them speak.
    public let protocolVersion: UInt32
    /// The deployment has served: what is retired is mostly followed by another view at once.
    public let hasServed: Bool

    public init(
        number: UInt32,
        state: State,
        members: [Member],
        configurationDigest: UInt64,
        reason: String,
        protocolVersion: UInt32 = ProtocolVersion.oldest,
        hasServed: Bool = false
    ) {
        self.protocolVersion = protocolVersion
        self.hasServed = hasServed
        self.number = number
        self.state = state
        self.members = members
        self.configurationDigest = configurationDigest
        self.reason = reason
    }
}

extension View {
    /// For gateways: the workers' own network is none of their business.
    public var withoutCollectives: View {
        View(
            number: number, state: state,
            members: members.map { member in
                Member(
                    worker: member.worker, dpRank: member.dpRank, tpRank: member.tpRank,
                    incarnation: Incarnation(rawValue: 0), node: member.node,
                    endpoint: member.endpoint, collectivesAddress: [],
                    blockCount: member.blockCount, blockSize: member.blockSize)
            }, configurationDigest: configurationDigest, reason: reason,
            protocolVersion: protocolVersion)
    }
}

/// What a worker is doing. Raw values are part of the protocol.
public enum WorkerStage: UInt32, Hashable, Sendable, CaseIterable {
    case joining = 1
    case loading = 2
    case standby = 3
    case connecting = 4
    case idle = 5
    case running = 6
    case draining = 7
}

public struct Heartbeat: Hashable, Sendable {
    public let stage: WorkerStage
    public let percent: UInt32
    public let load: RankLoad
    public let tickAge: Interval
    /// Connections to this process or from it that did not come about.
    public let failedHandshakes: UInt64
    /// Whose messages an operation of the view has waited for, once it has for long.
    public let wait: Wait?

    public struct Wait: Hashable, Sendable {
        public let workers: [UInt32]
        public let time: Interval

        public init(workers: [UInt32], time: Interval) {
            self.workers = workers
            self.time = time
        }
    }

    public init(
        stage: WorkerStage, percent: UInt32, load: RankLoad, tickAge: Interval,
        failedHandshakes: UInt64 = 0, wait: Wait? = nil
    ) {
        self.wait = wait
        self.failedHandshakes = failedHandshakes
        self.stage = stage
        self.percent = percent
        self.load = load
        self.tickAge = tickAge
    }
}

public enum ControlBody: Hashable, Sendable {
    case hello(Hello)
    case config(AssignedConfiguration)
    case refuse(Refusal)
    case ready(Ready)
    case view(View)
    case viewJoined(view: UInt32)
    case heartbeat(Heartbeat)
    case heartbeatAck(sequence: UInt64)
    case wakeRequest(view: UInt32, fromTick: UInt64)
    case wake(view: UInt32, fromTick: UInt64)
    case wakeAck(view: UInt32, fromTick: UInt64)
    /// A collective operation failed; `isTimeout`: these workers were late, else they are gone.
    case peerSilent(
        view: UInt32, tick: UInt64, workers: [UInt32], reason: String, isTimeout: Bool = false)
    case loadUpdate([RankLoad])
    case leave(reason: String)
    /// A worker would leave, and computes for the others until they do without it.
    case askToLeave(reason: String)
    /// To a worker: have the experts for this position in the next view.
    case prepare(GroupPosition)
    /// A worker has them, unless `failure` says why not.
    case prepared(GroupPosition, failure: String)
    case statusRequest
    case statusReport(StatusReport)
    case drainRequest(dpRank: UInt32)
    case drainReport(DrainReport)
    case drain(reason: String)
    case probeRequest
    case probe(Probe)
    case probeResult(ProbeResult)
    case probeReport(ProbeReport)

    /// Of the protocol: it is sent to nobody who speaks an older one.
    public var firstVersion: UInt32 {
        switch self {
        case .prepare, .prepared, .askToLeave, .probeRequest, .probe, .probeResult, .probeReport:
            ProtocolVersion.negotiated
        case .hello, .config, .refuse, .ready, .view, .viewJoined, .heartbeat, .heartbeatAck,
            .wakeRequest, .wake, .wakeAck, .peerSilent, .loadUpdate, .leave, .statusRequest,
            .statusReport, .drainRequest, .drainReport, .drain:
            ProtocolVersion.oldest
        }
    }
}

/// Every message of the control plane.
public struct ControlMessage: Hashable, Sendable {
    /// In which it is written. A HELLO and all before the answer to it are in the oldest version
    /// of the sender, an operator's questions in its newest.
    public let protocolVersion: UInt32
    /// The sender's.
    public let incarnation: Incarnation
    /// The view that the sender is in, 0 for none.
    public let view: UInt32
    /// Rises with every message of the sender.
    public let sequence: UInt64
    public let body: ControlBody

    public init(
        protocolVersion: UInt32 = ProtocolVersion.current,
        incarnation: Incarnation,
        view: UInt32,
        sequence: UInt64,
        body: ControlBody
    ) {
        self.protocolVersion = protocolVersion
        self.incarnation = incarnation
        self.view = view
        self.sequence = sequence
        self.body = body
    }
}
