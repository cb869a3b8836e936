internal import DaemonRuntime
internal import Protocol

/// One worker in lock-step with its peers: scheduler, model, sampler and collectives, on the engine
/// thread. It talks to the rest of the daemon through `emit` alone, once a tick: a steady tick
/// allocates nothing, so the receiver of `emit` must copy the events and not keep their array.
final class Engine {
    private let configuration: EngineConfiguration
    private let model: DeepSeekModel
    private let progress: EngineProgress
    private let emitAll: ([EngineEvent]) -> Void
    private let sampler: Sampler
    /// Idle at a worker that is no leader: it computes its leader's plans.
    private var scheduler: Scheduler
    private var lockstep: LockstepStateMachine
    private var group: ViewGroup?
    /// Loaded, for the next view.
    private var prepared: ExpertShare?
    /// The processes of this DP rank in the last view, whose caches have what the scheduler knows.
    private var tensorPeers: [Incarnation] = []
    private var plan = StepPlan()
    private let planBounds: StepPlan.Bounds
    private var results: [EntryResult] = []
    private var updates: [SequenceUpdate] = []
    /// A tick's load and outputs.
    private var said: [EngineEvent] = []
    private var pendingPrefill = PendingPrefill()
    private(set) var times = TickTimes()
    private var dummyTicks: UInt64 = 0
    private var submissions: UInt64 = 0
    private var counters = TickCounters()
    private var lastTick: UInt64 = 0
    /// A sequence was cancelled since the last load was told, and no output may follow to tell it.
    private var loadIsStale = false
    /// When a sequence first entered a plan, until its first output says so.
    private var scheduledAt: [SequenceID: Instant] = [:]

    init(
        _ configuration: EngineConfiguration,
        model: DeepSeekModel,
        scheduler: Scheduler,
        sampler: Sampler,
        progress: EngineProgress,
        emit: @escaping ([EngineEvent]) -> Void
    ) {
        self.configuration = configuration
        self.model = model
        self.scheduler = scheduler
        self.sampler = sampler
        self.progress = progress
        emitAll = emit
        let sequencesMax = scheduler.limits.maxSequencesRunning
        plan.reserve(scheduler.limits)
        planBounds = StepPlan.Bounds(
            rowsMax: model.limits.rowsMax, blockCount: model.limits.blockCount,
            blockSize: model.limits.blockSize, vocabularySize: model.vocabularySize,
            modelLength: scheduler.limits.maxModelLength)
        results.reserveCapacity(sequencesMax)
        updates.reserveCapacity(sequencesMax)
        said.reserveCapacity(sequencesMax + 1)
        lockstep = LockstepStateMachine(
            syncInterval: UInt64(configuration.syncInterval), prefill: configuration.prefill,
            batchSizes: configuration.batchSizes,
            tensorParallelSize: configuration.layout.tensorParallelSize)
    }

    /// This worker's place in the last group.
    var layout: ParallelLayout { model.layout }

    /// The share that the next view will be computed with: a prepared one, else the model's.
    private var nextLayout: ParallelLayout { prepared?.layout ?? layout }
    var nextPosition: GroupPosition { nextLayout.position }

    /// How long the engine thread may sleep before it looks again, unless a command comes.
    func patience(at now: Instant) -> Interval {
        switch lockstep.state {
        case .running: .zero
        case .idle: scheduler.hasWork ? LockstepStateMachine.wakeRequestEvery : .seconds(3600)
        case .detached: .seconds(3600)
        }
    }

    func measureExperts(by clock: @escaping () -> Int64) { model.expertTimer.clock = clock }
    var expertNanoseconds: Int64 { model.expertTimer.nanoseconds }

    // MARK: Commands

    func submit(_ id: SequenceID, _ request: GenerationRequest) {
        submissions += 1
        guard layout.isLeader else {
            return emit(.rejected(id, .otherView, "this worker is no leader"))
        }
        guard let group, group.view == request.view, lockstep.state != .detached else {
            return emit(.rejected(id, .otherView, "the worker is between two views"))
        }
        let sequence = NewSequence(
            id: id,
            promptTokens: request.promptTokenIDs,
            deliveredTokens: request.deliveredTokenIDs,
            parameters: request.sampling,
            priority: request.priority,
            cacheSalt: request.cacheSalt)
        switch scheduler.submit(sequence) {
        case .accepted:
            pendingPrefill.onSubmitted(
                id, tokens: request.promptTokenIDs.count + request.deliveredTokenIDs.count)
        case .rejected(let rejection):
            let reason: RejectionReason =
                switch rejection {
                case .queueFull: .overloaded
                case .promptTooLong, .neverFits: .tooLong
                case .emptyPrompt, .tokenOutOfVocabulary, .nothingToGenerate: .invalid
                }
            emit(.rejected(id, reason, rejection.description))
        }
    }

    func limitWaiting(to most: Int) { scheduler.limitWaiting(to: most) }

    /// The blocks are free when this returns, or when the tick that holds the sequence ends.
    func cancel(_ id: SequenceID) {
        _ = scheduler.cancel(id)
        forget(id)
        if isRunning {
            loadIsStale = true
        } else {
            emit(.load(load))
        }
    }

    func wake(view: UInt32, fromTick: UInt64) {
        switch lockstep.onWake(view: view, fromTick: fromTick) {
        case .ignore: break
        case .acknowledge: emit(.acknowledgeWake(view: view, fromTick: fromTick))
        }
    }

    /// Asks to be woken when there is work in an idle group.
    func lookForWork(at now: Instant) {
        guard scheduler.hasWork else { return }
        switch lockstep.onWork(at: now) {
        case .none: break
        case .requestWake(let view, let fromTick):
            emit(.requestWake(view: view, fromTick: fromTick))
        }
    }

    // MARK: Views

    /// False, and a view that is broken, where this worker has experts for another place.
    func join(_ group: ViewGroup) -> Bool {
        let collectives = group.collectives
        func fits(_ layout: ParallelLayout) -> Bool {
            layout.worker == collectives.rank && layout.worldSize == collectives.worldSize
        }
        if let share = prepared, fits(share.layout), !fits(layout) {
            do throws(ModelLoadError) {
                try model.adopt(share)
            } catch {
                return refuse(group, "the experts prepared for it: \(error)")
            }
        }
        guard fits(layout) else {
            let place = "\(collectives.rank) of \(collectives.worldSize)"
            return refuse(group, "it has experts for \(layout.position), not for \(place)")
        }
        prepared = nil
        self.group = group
        model.setCollectives(collectives)
        noteTensorPeers(group)
        emit(.joined(view: group.view))
        return true
    }

    private func refuse(_ group: ViewGroup, _ reason: String) -> Bool {
        emit(.viewBroken(view: group.view, tick: 0, workers: [], reason: reason))
        return false
    }

    /// A TP peer that is another process has nothing in its cache.
    private func noteTensorPeers(_ group: ViewGroup) {
        let peers = group.incarnations(of: layout.tensorPeers)
        if !tensorPeers.isEmpty && peers != tensorPeers {
            handBack("a worker of the DP rank was replaced")
            scheduler.forgetCached()
        }
        tensorPeers = peers
    }

    /// What the next view is to be computed with; nil: what this one is.
    func prepare(_ share: ExpertShare?) { prepared = share }

    func makeShare(for layout: ParallelLayout) throws(ModelLoadError) -> ExpertShare {
        try model.makeShare(for: layout)
    }
    var shareLoader: @Sendable (ExpertShare) throws(ModelLoadError) -> Void { model.shareLoader }

    func activate(view: UInt32) {
        guard let group, group.view == view else { return }
        lockstep.onViewActive(
            view, worldSize: group.collectives.worldSize, protocolVersion: group.protocolVersion)
    }

    /// Sequences stay, with what the cache has of them, and go on in the next view.
    func leaveView() {
        lockstep.onViewEnded()
        group = nil
        emit(.load(load))
    }

    /// Every sequence goes back to its gateway, which takes it to another rank.
    func handBack(_ reason: String) {
        for id in scheduler.abortAll() {
            emit(.rejected(id, .otherView, reason))
            forget(id)
        }
        emit(.load(load))
    }

    // MARK: The tick

    var isRunning: Bool {
        if case .running = lockstep.state { return true }
        return false
    }

    /// One tick: schedule, exchange, forward, sample, finish.
    func step() {
        guard case .running(let view, let tick) = lockstep.state, let group else { return }
        let now = MonotonicClock.now()
        let deadline = now + configuration.exchangeTimeout
        progress.tickBegan(at: now)
        defer { progress.tickEnded() }
        lastTick = tick
        model.clock.start()
        scheduler.schedule(into: &plan, allowPrefill: true, rowLevel: lockstep.rowLevel)
        noteFirstSchedule(at: now)
        model.clock.lap(.schedule)
        do throws(CollectiveError) {
            times.exchangeBegins(at: MonotonicClock.now())
            guard let decision = try exchange(group, view, tick, deadline) else { return }
            model.clock.lap(.exchange)
            // A DP rank's padding is counted once, by its leader, as its rows are.
            counters.onTick(
                rows: plan.rowCount,
                padding: layout.isLeader ? decision.padding(behind: plan.rowCount) : 0,
                decision, waited: group.waited)
            guard decision.runsModel else {
                times.modelRests()
                return emitLoadIfDue(decision)
            }
            if layout.tensorParallelSize > 1 {
                try group.share(
                    &plan, leader: layout.leader, peers: layout.tensorPeers, within: planBounds,
                    tick: tick, deadline: deadline)
            }
            if decision.exchange == .allGather {
                let (entries, size) = (group.entries, layout.tensorParallelSize)
                model.gatherRows(paddedTo: decision.batchSize) {
                    Int(entries[$0 * size]?.tokens ?? 0)
                }
            }
            times.forwardBegins(at: MonotonicClock.now())
            let logits = try model.forward(
                plan, paddedTo: decision.batchSize, view: view, tick: tick, deadline: deadline)
            times.forwardEnds(at: MonotonicClock.now())
            progress.advance()
            if model.failure != nil {
                // The exchange of the next tick tells everybody.
                abandonPlan()
            } else if plan.isDummy {
                dummyTicks += 1
            } else if layout.isLeader {
                sampler.sample(
                    plan: plan, logits: UnsafeBufferPointer(logits.values), scheduler: scheduler,
                    into: &results)
                model.clock.lap(.sampling)
                scheduler.complete(plan, results: results, into: &updates)
                finishStep()
                model.clock.lap(.complete)
            }
            emitLoadIfDue(decision)
        } catch {
            breakView(view, tick, error)
        }
    }

    private func exchange(
        _ group: ViewGroup, _ view: UInt32, _ tick: UInt64, _ deadline: Instant
    ) throws(CollectiveError) -> TickDecision? {
        let entry = TickEntry(
            view: view,
            tick: tick,
            tokens: UInt32(plan.rowCount),
            prefillTokens: UInt32(plan.prefillRowCount),
            kvUsage: Float(scheduler.statistics.kvUsage),
            hasWork: scheduler.hasWork,
            failed: model.failure != nil,
            wishedPrefillTokens: UInt32(clamping: scheduler.prefillRowsLeft(behind: plan)),
            nextDecodes: UInt32(plan.sampleCount),
            planBytes: layout.tensorParallelSize > 1 ? UInt32(plan.encodedByteCount) : 0,
            protocolVersion: group.protocolVersion)
        let entries = try group.exchange(entry, tick: tick, deadline: deadline)
        switch lockstep.onVector(entries) {
        case .decided(let decision):
            guard let failed = decision.failedRanks.first else { return decision }
            if let failure = model.failure { emit(.failed("\(failure)")) }
            let tag = OperationTag.tickExchange(view: view, tick: tick)
            throw .peerLost(peer: failed, tag: tag, reason: "its device failed")
        case .disagreement(let rank):
            let tag = OperationTag.tickExchange(view: view, tick: tick)
            throw .peerLost(
                peer: rank, tag: tag, reason: "it is in another view, tick or protocol version")
        }
    }

    private func finishStep() {
        for entry in plan.entries where !entry.isDecode {
            pendingPrefill.onComputed(
                entry.sequence, through: entry.firstPosition + entry.rowCount)
        }
        guard !updates.isEmpty else { return }
        for update in updates where update.finish != nil { pendingPrefill.onEnded(update.sequence) }
        loadIsStale = false
        said.append(.load(load))
        for update in updates {
            let scheduled = scheduledAt.removeValue(forKey: update.sequence)
            said.append(.output(SequenceOutput(update, scheduled: scheduled)))
        }
        emitAll(said)
        said.removeAll(keepingCapacity: true)
    }

    private func emit(_ event: EngineEvent) { emitAll([event]) }

    private func noteFirstSchedule(at now: Instant) {
        // A sequence that decodes has been in a plan before; one that goes on with its prompt is
        // noted until its first output.
        for entry in plan.entries where !entry.isDecode {
            if scheduledAt[entry.sequence] == nil { scheduledAt[entry.sequence] = now }
        }
    }

    private func forget(_ id: SequenceID) {
        pendingPrefill.onEnded(id)
        scheduledAt[id] = nil
    }

    /// The load where no output carried it: the last before the silence of an idle group, and one
    /// for all that was cancelled since the tick before.
    private func emitLoadIfDue(_ decision: TickDecision) {
        guard decision.goesIdle || loadIsStale else { return }
        loadIsStale = false
        emit(.load(load))
    }

    private func abandonPlan() {
        if layout.isLeader && !plan.isDummy { scheduler.abandon(plan) }
    }

    private func breakView(_ view: UInt32, _ tick: UInt64, _ error: CollectiveError) {
        abandonPlan()
        let workers = group?.places(of: error.peers) ?? []
        emit(
            .viewBroken(
                view: view, tick: tick, workers: workers, reason: error.description,
                isTimeout: error.isTimeout))
        leaveView()
    }

    private var load: RankLoad {
        let statistics = scheduler.statistics
        var load = RankLoad()
        load.dpRank = UInt32(configuration.dpRank)
        load.running = UInt32(statistics.running)
        load.waiting = UInt32(statistics.waiting)
        load.pendingPrefillTokens = UInt64(pendingPrefill.total)
        load.kvCacheUsage = Float(statistics.kvUsage)
        load.tick = lastTick
        load.dummyTicks = dummyTicks
        load.preemptions = UInt64(statistics.preemptionsTotal)
        load.promptTokens = UInt64(statistics.promptTokensTotal)
        load.prefixCacheQueries = UInt64(statistics.prefixQueriesTotal)
        load.prefixCacheHits = UInt64(statistics.prefixHitsTotal)
        load.generationTokens = UInt64(statistics.generationTokensTotal)
        load.stageTimes = model.clock.times
        load.submissions = submissions
        counters.write(to: &load)
        return load
    }
}
