internal import Protocol
internal import Synchronization

/// What the link thread tells the engine thread.
enum EngineCommand: Sendable {
    /// The coordinator has spoken: load the model and get ready.
    case load(EngineConfiguration)
    /// Connect to the other members of a forming view.
    case connect(View, rank: Int)
    /// Have the experts for this position, beside what is running.
    case prepare(GroupPosition)
    /// The thread that loads them has come to an end.
    case shareLoaded(ExpertShare, failure: String?)
    /// All members are connected: sequences are taken from now on.
    case activate(view: UInt32)
    /// The view is over: make a new collectives endpoint, say READY again. Sequences stay.
    case leaveView
    /// This worker is not in the next view: every sequence goes back to its gateway.
    case handBack(reason: String)
    case wake(view: UInt32, fromTick: UInt64)
    case submit(SequenceID, GenerationRequest)
    case cancel(SequenceID)
    /// So many sequences may wait from now on; those that wait already stay.
    case limitWaiting(Int)
    case stop
}

/// What the engine thread tells the link thread.
enum EngineEvent: Sendable {
    case loading(bytes: UInt64, of: UInt64)
    case weightsCache(PackedWeightsCache.Report)
    case loaded(EngineFacts)
    /// The process cannot serve: bad options, bad checkpoint, no memory.
    case failed(String)
    /// A collectives endpoint is open and its address can be published.
    case standby(collectivesAddress: [UInt8], GroupPosition)
    /// It has the experts for a position, or not, and why.
    case prepared(GroupPosition, failure: String)
    case joined(view: UInt32)
    /// The view cannot go on: these workers did not answer, or something else is wrong.
    case viewBroken(
        view: UInt32, tick: UInt64, workers: [UInt32], reason: String, isTimeout: Bool = false)
    case requestWake(view: UInt32, fromTick: UInt64)
    case acknowledgeWake(view: UInt32, fromTick: UInt64)
    case rejected(SequenceID, RejectionReason, String)
    /// How busy the rank is. A tick's comes before its outputs, and begins what belongs together.
    case load(RankLoad)
    case output(SequenceOutput)
}

/// One sequence's part of a step. Plain, so that a token takes no memory of its own on its way.
struct SequenceOutput: Sendable {
    let sequence: SequenceID
    /// When it first entered a plan; with its first output (and, after a preemption, once more).
    let scheduled: Instant?
    /// Of its prompt, found in the prefix cache.
    let cachedPromptTokens: Int
    let token: SampledToken?
    let promptLogprobs: [TokenLogprobs]
    let finish: SequenceUpdate.Finish?
}

extension SequenceOutput {
    init(_ update: SequenceUpdate, scheduled: Instant?) {
        self.init(
            sequence: update.sequence,
            scheduled: scheduled,
            cachedPromptTokens: update.cachedPromptTokens,
            token: update.token,
            promptLogprobs: update.promptLogprobs ?? [],
            finish: update.finish)
    }
}

/// What the engine is told before it loads the model.
struct EngineConfiguration: Sendable {
    let modelFolder: String
    /// Its place in the first group that it may be in; a view may give it another one.
    let layout: ParallelLayout
    /// The number of its DP rank, in whatever group.
    let dpRank: Int
    let division: ExpertDivision
    let maxSequencesRunning: Int
    let maxSequencesWaiting: Int
    let maxBatchedTokens: Int
    let maxModelLength: Int?
    let blockSize: Int
    let blockCountOverride: Int?
    let cacheBytes: Int
    let chunkedPrefill: Bool
    let prefixCaching: Bool
    /// vLLM-Ascend's scheduler: prompts, whole, before decodes.
    let prefillFirst: Bool
    let priorityScheduling: Bool
    let syncInterval: Int
    let exchangeTimeout: Interval
    let collectives: CollectivesKind
    let collectivesDevice: String?
    let elementType: String
    let cacheType: String
    let quantization: String?
    let kernelLevel: String
    let threadCount: Int
    let weightsCacheFolder: String?
    var prefill = PrefillNegotiation.off
    var batchSizes = BatchSizes.none
}

/// What the link thread needs to know of a loaded model.
struct EngineFacts: Sendable {
    let digest: String
    let blockCount: Int
    let blockSize: Int
    let maxModelLength: Int
    let description: String
}

/// How far the engine is, readable from the link thread at any time: the heartbeat's progress, and
/// what keeps the watchdog fed.
final class EngineProgress: Sendable {
    private let turns = Atomic<UInt64>(0)
    private let tickStarted = Atomic<Int64>(0)
    /// Whom it waits for.
    let waits = WaitBoard()

    /// Counts up whenever the engine gets further.
    var count: UInt64 { turns.load(ordering: .relaxed) }

    func advance() { turns.add(1, ordering: .relaxed) }

    func tickBegan(at now: Instant) { tickStarted.store(now.nanoseconds, ordering: .relaxed) }
    func tickEnded() { tickStarted.store(0, ordering: .relaxed) }

    /// How long the current tick has been running; zero between ticks.
    func tickAge(at now: Instant) -> Interval {
        let started = tickStarted.load(ordering: .relaxed)
        return started == 0 ? .zero : now - Instant(nanoseconds: started)
    }
}
