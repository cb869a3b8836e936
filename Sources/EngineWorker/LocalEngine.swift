internal import DaemonRuntime
package import Protocol

/// An engine without its daemon: the loop of the engine thread and the mailbox to the link thread,
/// driven by the caller. For programs that measure ticks; daemons use ``EngineThread``.
///
/// One thread calls it, except for its ``outlet``, which is the link thread's part.
package final class LocalEngine {
    package struct Settings: Sendable {
        package var folder: String
        package var rank = 0
        package var worldSize = 1
        package var threadCount = 1
        package var sequencesMax = 8
        package var modelLength = 1024
        package var batchedTokensMax = 512
        /// In the words of `--dtype`, `--kv-cache-dtype` and `--quantization`.
        package var elementType = "auto"
        package var cacheType = "auto"
        package var quantization: String?

        package init(folder: String) { self.folder = folder }
    }

    private static let exchangeTimeout = Interval.seconds(60)
    private static let outputsMax = 1 << 20

    private let engine: Engine
    private let events: EngineOutlet
    private let progress = EngineProgress()

    package init(_ settings: Settings) throws(EngineLoadError) {
        let events = EngineOutlet(capacity: Self.outputsMax)
        self.events = events
        let configuration = EngineConfiguration(
            modelFolder: settings.folder,
            layout: ParallelLayout(dataParallelSize: settings.worldSize, worker: settings.rank),
            dpRank: settings.rank, division: .byExpert,
            maxSequencesRunning: settings.sequencesMax,
            maxSequencesWaiting: settings.sequencesMax,
            maxBatchedTokens: settings.batchedTokensMax, maxModelLength: settings.modelLength,
            blockSize: 16, blockCountOverride: settings.sequencesMax * settings.modelLength / 16,
            cacheBytes: 0, chunkedPrefill: true, prefixCaching: true, prefillFirst: false,
            priorityScheduling: false, syncInterval: 16,
            exchangeTimeout: Self.exchangeTimeout, collectives: .sharedMemory,
            collectivesDevice: nil, elementType: settings.elementType,
            cacheType: settings.cacheType, quantization: settings.quantization,
            kernelLevel: "best", threadCount: settings.threadCount, weightsCacheFolder: nil)
        engine = try EngineLoader.load(configuration, progress: progress) { events.post($0) }.engine
    }

    /// Where the outputs come out, for the thread that plays the link's part.
    package var outlet: EngineOutlet { events }
    package var isRunning: Bool { engine.isRunning }
    /// What the engine thread measured of itself.
    package var times: TickTimes { engine.times }

    package func enter(view: UInt32, _ collectives: any Collectives) {
        precondition(
            engine.join(ViewGroup(view: view, collectives: collectives)), "another group's place")
        engine.activate(view: view)
    }

    package func submit(_ id: UInt64, view: UInt32 = 1, prompt: [Int32], maxTokens: Int32) {
        var sampling = SamplingParameters()
        sampling.temperature = 0
        sampling.ignoreEOS = true
        sampling.maxTokens = maxTokens
        engine.submit(
            SequenceID(rawValue: id),
            GenerationRequest(
                requestID: RequestID(rawValue: id), view: view, promptTokenIDs: prompt,
                sampling: sampling, priority: 0, deliveredTokenIDs: []))
    }

    /// As the coordinator would, with a group that is idle before its first tick.
    package func wake(view: UInt32) {
        engine.lookForWork(at: MonotonicClock.now())
        engine.wake(view: view, fromTick: 0)
    }

    package func tick() { engine.step() }

    /// The view is over; another may be entered.
    package func leave() {
        engine.leaveView()
        engine.handBack("the view is over")
    }

    /// Measures this rank's experts from now on, by a clock of the caller's.
    package func measureExperts(by clock: @escaping () -> Int64) {
        engine.measureExperts(by: clock)
    }
    package var expertNanoseconds: Int64 { engine.expertNanoseconds }
}

/// The link thread's end of a ``LocalEngine``.
package struct EngineOutlet: Sendable {
    private static let reserved = 4096
    private let events: Mailbox<EngineEvent>
    private var taken: [EngineEvent] = []

    init(capacity: Int) {
        events = Mailbox(capacity: capacity, reserving: Self.reserved)
        taken.reserveCapacity(Self.reserved)
    }

    func post(_ said: [EngineEvent]) {
        precondition(events.post(contentsOf: said), "nobody takes the outputs")
    }

    /// Sleeps until there are outputs or `deadline` passes.
    package func wait(until deadline: Instant) { events.wait(until: deadline) }

    /// Everything that was said: tokens, and what went wrong.
    package mutating func takeAll() -> (tokens: Int, failures: [String]) {
        taken.removeAll(keepingCapacity: true)
        events.takeAll(into: &taken)
        var tokens = 0
        var failures: [String] = []
        for event in taken {
            switch event {
            case .output(let output): tokens += output.token == nil ? 0 : 1
            case .rejected(_, _, let text), .failed(let text): failures.append(text)
            case .viewBroken(_, _, _, let reason, _): failures.append(reason)
            default: break
            }
        }
        return (tokens, failures)
    }
}
