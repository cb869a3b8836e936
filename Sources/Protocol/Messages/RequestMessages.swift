/// Names a request between one gateway and one leader: chosen by the gateway, never reused while
/// it lives.
public struct RequestID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: RequestID, right: RequestID) -> Bool {
        left.rawValue < right.rawValue
    }
    public var description: String { "r\(rawValue)" }
}

/// One process's life. A restarted process has another one, and late messages of the old one are
/// refused (SWIM's "restarted node" rule).
public struct Incarnation: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: Incarnation, right: Incarnation) -> Bool {
        left.rawValue < right.rawValue
    }
    public var description: String { String(rawValue, radix: 16) }
}

/// A sequence to generate, as it goes to a leader. `n` choices are `n` of these.
public struct GenerationRequest: Hashable, Sendable {
    public let requestID: RequestID
    /// The view whose leader the gateway means; a leader of another view refuses.
    public let view: UInt32
    public let promptTokenIDs: [Int32]
    public let sampling: SamplingParameters
    /// Lower goes first under `--scheduling-policy priority`.
    public let priority: Int32
    /// Output that the client has already, from a rank that was lost: computed like a prompt and
    /// counted as output, so that the stream goes on as it would have.
    public let deliveredTokenIDs: [Int32]
    /// Cached blocks are common to requests with the same one; empty for those that name none.
    public let cacheSalt: [UInt8]

    public init(
        requestID: RequestID,
        view: UInt32,
        promptTokenIDs: [Int32],
        sampling: SamplingParameters,
        priority: Int32,
        deliveredTokenIDs: [Int32] = [],
        cacheSalt: [UInt8] = []
    ) {
        self.cacheSalt = cacheSalt
        self.deliveredTokenIDs = deliveredTokenIDs
        self.requestID = requestID
        self.view = view
        self.promptTokenIDs = promptTokenIDs
        self.sampling = sampling
        self.priority = priority
    }
}

/// What a gateway says to a leader.
public enum GatewayMessage: Hashable, Sendable {
    /// Introduction, repeated as the sign of life; nil: versions that are no range.
    case open(protocols: ProtocolRange?, gateway: Incarnation, view: UInt32)
    case submit(GenerationRequest)
    case cancel([RequestID])
}

/// What one step brought for one request.
public struct RequestOutput: Hashable, Sendable {
    public let requestID: RequestID
    public let tokenIDs: [Int32]
    /// One a token, when asked for.
    public let logprobs: [TokenLogprobs]
    /// Of the prompt from its second token on; once, when the prompt is computed.
    public let promptLogprobs: [TokenLogprobs]
    public let finishReason: FinishReason?
    /// The stop token that ended it; nil for the model's own end-of-sequence.
    public let stopTokenID: Int32?
    /// For ``FinishReason/error``: what went wrong.
    public let error: String
    /// Time between arrival at the leader and the first step; with the first output only.
    public let queued: Interval
    /// Of the prompt, found in the leader's prefix cache; with the first output only.
    public let cachedPromptTokens: UInt32

    public init(
        requestID: RequestID,
        tokenIDs: [Int32] = [],
        logprobs: [TokenLogprobs] = [],
        promptLogprobs: [TokenLogprobs] = [],
        finishReason: FinishReason? = nil,
        stopTokenID: Int32? = nil,
        error: String = "",
        queued: Interval = .zero,
        cachedPromptTokens: UInt32 = 0
    ) {
        self.requestID = requestID
        self.tokenIDs = tokenIDs
        self.logprobs = logprobs
        self.promptLogprobs = promptLogprobs
        self.finishReason = finishReason
        self.stopTokenID = stopTokenID
        self.error = error
        self.queued = queued
        self.cachedPromptTokens = cachedPromptTokens
    }
}

/// A DP rank's load and counters, as it says with every batch of outputs and every heartbeat.
public struct RankLoad: Hashable, Sendable {
    public var dpRank: UInt32 = 0
    public var running: UInt32 = 0
    public var waiting: UInt32 = 0
    /// Prompt tokens not computed yet, of running and waiting sequences.
    public var pendingPrefillTokens: UInt64 = 0
    /// 0...1
    public var kvCacheUsage: Float = 0
    public var tick: UInt64 = 0
    public var dummyTicks: UInt64 = 0
    public var preemptions: UInt64 = 0
    public var promptTokens: UInt64 = 0
    public var generationTokens: UInt64 = 0
    /// Tokens that were looked up in the prefix cache, and those that it had.
    public var prefixCacheQueries: UInt64 = 0
    public var prefixCacheHits: UInt64 = 0
    /// Of all ticks since the worker has started.
    public var stageTimes = StageTimes()
    /// Rows that this rank computed for nothing, to fill a batch up to the size that it had to
    /// have. This and all that follow count from the start of the worker.
    public var paddedTokens: UInt64 = 0
    /// How long this rank has waited for others in the exchanges of ticks.
    public var exchangeWait = Interval.zero
    /// Rows of this rank's step plans, without padding.
    public var tickTokens: UInt64 = 0
    /// The same of each tick's busiest rank, summed over the ticks of this rank.
    public var tickTokensMax: UInt64 = 0
    /// The same of all DP ranks together, summed over the ticks of this rank. So the ticks between
    /// two reports had the imbalance `ranks * tickTokensMax / tickTokensGroup`.
    public var tickTokensGroup: UInt64 = 0
    /// Sequences that gateways have submitted and this report knows of, taken or refused.
    public var submissions: UInt64 = 0

    public init() {}
}

/// Why a leader does not take a request. Raw values are part of the protocol.
public enum RejectionReason: UInt32, Hashable, Sendable, CaseIterable {
    /// The leader's queue is full.
    case overloaded = 1
    /// The request names another view than the leader's, or the leader is in none.
    case otherView = 2
    /// The leader is draining.
    case draining = 3
    /// The prompt or the requested length can never fit.
    case tooLong = 4
    /// The message is not valid.
    case invalid = 5
}

/// A leader's answer to OPEN.
public struct Opened: Hashable, Sendable {
    public static let refusalBytesMax = 1024

    public let worker: Incarnation
    /// 0: the leader takes nothing now.
    public let view: UInt32
    /// Requests of this gateway that the leader holds at most.
    public let requestsMax: UInt32
    /// Chosen for this link.
    public var protocolVersion = ProtocolVersion.oldest
    /// Why this gateway is never served; empty when it is.
    public var refusal = ""

    public init(worker: Incarnation, view: UInt32, requestsMax: UInt32) {
        self.worker = worker
        self.view = view
        self.requestsMax = requestsMax
    }
}

/// What a leader says to a gateway.
public enum LeaderMessage: Hashable, Sendable {
    case opened(Opened)
    /// What a step brought, perhaps nothing, and how busy the rank is.
    ///
    /// `knownSubmissions` of the submissions that came over this connection are in `load`, taken or
    /// refused; so the gateway counts those behind them and no other once more.
    case outputs([RequestOutput], load: RankLoad, knownSubmissions: UInt64)
    case rejected(RequestID, reason: RejectionReason, text: String)
}
