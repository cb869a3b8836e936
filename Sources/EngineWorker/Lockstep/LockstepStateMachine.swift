import Protocol

/// One rank's place in the lock-step group: `detached -> idle(tick) <-> running(tick)`.
///
/// Pure. A rank never starts ticking by itself (unless it is alone): a request in an idle group
/// asks the coordinator, whose WAKE names the tick at which the group went idle. All ranks go idle
/// at the same tick, because they judge the same vector, so that number tells a late WAKE from a
/// new one. This is what vLLM's waves are replaced by.
struct LockstepStateMachine {
    enum State: Equatable {
        /// In no view.
        case detached
        /// No ticks and no CPU; `tick` is the next one.
        case idle(view: UInt32, tick: UInt64)
        /// `tick` is the one to execute next.
        case running(view: UInt32, tick: UInt64)
    }

    /// A leader repeats its request to be woken as long as nothing happens.
    static let wakeRequestEvery = Interval.milliseconds(500)

    let syncInterval: UInt64
    let prefill: PrefillNegotiation
    let batchSizes: BatchSizes
    /// Entries a DP rank in the vector; its leader's, which comes first, speaks for the rank.
    let tensorParallelSize: Int
    private(set) var state: State = .detached
    /// Rows of the next tick beyond which this rank plans no rows of prompts; as all ranks do.
    private(set) var rowLevel = PrefillNegotiation.unlimited
    private var worldSize = 0
    /// Of the view: all entries of its ticks carry it.
    private(set) var protocolVersion = ProtocolVersion.oldest
    /// A wake that came before this rank saw that the group goes idle.
    private var earlyWake: UInt64?
    private var wakeRequested: Instant?
    /// Kept for its memory.
    private var valid: [TickEntry] = []
    private var ofLeaders: [TickEntry] = []

    init(
        syncInterval: UInt64, prefill: PrefillNegotiation = .off, batchSizes: BatchSizes = .none,
        tensorParallelSize: Int = 1
    ) {
        precondition(syncInterval > 0 && tensorParallelSize > 0)
        self.tensorParallelSize = tensorParallelSize
        self.syncInterval = syncInterval
        self.prefill = prefill
        self.batchSizes = batchSizes
    }

    mutating func onViewActive(
        _ view: UInt32, worldSize: Int, protocolVersion: UInt32 = ProtocolVersion.oldest
    ) {
        self.protocolVersion = protocolVersion
        state = .idle(view: view, tick: 0)
        self.worldSize = worldSize
        rowLevel = PrefillNegotiation.unlimited
        earlyWake = nil
        wakeRequested = nil
    }

    mutating func onViewEnded() { state = .detached }

    enum WorkAction: Equatable {
        case none
        /// Ask the coordinator to wake the group.
        case requestWake(view: UInt32, fromTick: UInt64)
    }

    /// There is work here. Called whenever the engine looks and is not running.
    mutating func onWork(at now: Instant) -> WorkAction {
        guard case .idle(let view, let tick) = state else { return .none }
        if worldSize == 1 {
            state = .running(view: view, tick: tick)
            return .none
        }
        if let wakeRequested, now - wakeRequested < Self.wakeRequestEvery { return .none }
        wakeRequested = now
        return .requestWake(view: view, fromTick: tick)
    }

    enum WakeAction: Equatable {
        case ignore
        /// Tell the coordinator that this rank has heard it.
        case acknowledge
    }

    mutating func onWake(view: UInt32, fromTick: UInt64) -> WakeAction {
        switch state {
        case .detached:
            return .ignore
        case .idle(let current, let tick):
            guard view == current else { return .ignore }
            if fromTick == tick {
                state = .running(view: view, tick: tick)
                wakeRequested = nil
            } else if fromTick > tick {
                remember(fromTick)
            }
            return .acknowledge
        case .running(let current, let tick):
            guard view == current else { return .ignore }
            if fromTick > tick { remember(fromTick) }
            return .acknowledge
        }
    }

    /// The nearest one counts: a wake for a tick far ahead must not take its place.
    private mutating func remember(_ fromTick: UInt64) {
        earlyWake = min(earlyWake ?? fromTick, fromTick)
    }

    enum VectorAction: Equatable {
        case decided(TickDecision)
        /// A rank is in another view or tick, or takes another version for the view's: the view
        /// cannot go on.
        case disagreement(rank: Int)
    }

    /// All ranks' entries of the tick that is being executed, in rank order.
    mutating func onVector(_ entries: [TickEntry?]) -> VectorAction {
        guard case .running(let view, let tick) = state else {
            preconditionFailure("a vector in state \(state)")
        }
        valid.removeAll(keepingCapacity: true)
        for (rank, entry) in entries.enumerated() {
            guard let entry, entry.view == view, entry.tick == tick,
                entry.protocolVersion == protocolVersion
            else {
                return .disagreement(rank: rank)
            }
            valid.append(entry)
        }
        let decision = TickDecision(
            valid, tick: tick, syncInterval: syncInterval,
            batchSizes: protocolVersion >= BatchSizes.protocolVersion ? batchSizes : .none)
        let next = tick + 1
        ofLeaders.removeAll(keepingCapacity: true)
        for index in stride(from: 0, to: valid.count, by: tensorParallelSize) {
            ofLeaders.append(valid[index])
        }
        rowLevel = prefill.rowLevel(after: ofLeaders, next: next)
        if decision.goesIdle && earlyWake != next {
            state = .idle(view: view, tick: next)
        } else {
            state = .running(view: view, tick: next)
        }
        if let wake = earlyWake, wake <= next { earlyWake = nil }
        return .decided(decision)
    }
}
