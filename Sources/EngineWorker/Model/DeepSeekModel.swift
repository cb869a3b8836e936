internal import DaemonRuntime
public import Protocol

/// A model of the DeepSeek-V3 family: multi-head latent attention and sigmoid-routed experts
/// (DeepSeek-V3 Technical Report, arXiv 2412.19437; MLA: DeepSeek-V2, arXiv 2405.04434).
///
/// It knows the order of stages and nothing of devices: everything is computed by a ``Backend``
/// and exchanged through ``Collectives``. The logits of a token have the same bits whatever else
/// is in the plan, however its prompt was cut into chunks, and however many workers share the
/// experts. One thread calls it.
public final class DeepSeekModel {
    public let config: ModelConfig
    public let limits: BackendLimits
    public var layout: ParallelLayout { share.layout }
    public var division: ExpertDivision { share.division }
    /// Equal on all workers that serve the same checkpoint; see ``Checkpoint/digest``.
    public let digest: String

    /// What went wrong on the device; nothing computed since is valid.
    public var failure: BackendError? { backend.failure }
    public var vocabularySize: Int { config.vocabularySize }
    public var maxModelLength: Int { config.positionCountMax }
    public var endTokenIDs: [Int32] { config.endTokenIDs }
    public var beginTokenID: Int32? { config.beginTokenID }
    /// Called with each stage's values, `[rows, columns]` row-major, while a step runs. For tests.
    public var observer: ((ModelStage, UnsafeBufferPointer<Float>) -> Void)?

    /// Where the time of steps goes; whoever calls ``forward(_:view:tick:deadline:)`` starts it.
    public let clock = StageClock()
    let expertTimer = ExpertTimer()

    private let backend: any Backend
    private let weights: ModelWeights
    private let checkpoint: Checkpoint
    /// As it was asked for, which a group of one worker does not follow.
    private let wantedDivision: ExpertDivision
    private var share: ExpertShare
    private var exchange: any RoutedExperts
    private var tensorGroup: TensorParallelGroup

    /// `[rows, hidden]` each
    private let residual: DeviceMatrix
    private let normalized: DeviceMatrix
    private let delta: DeviceMatrix
    private let routed: DeviceMatrix
    /// `[rows, own heads * value]`, and of all heads.
    private let ownAttended: DeviceMatrix
    private let attended: DeviceMatrix
    /// `[rows, own part of hidden]`
    private let projected: DeviceMatrix
    /// Of sliced experts: `[rows of all DP ranks, own part of hidden]`
    private var sums: DeviceMatrix
    private let choices: RouterChoices
    private var logits: UnsafeMutableBufferPointer<Float> = .init(start: nil, count: 0)
    private var ownLogits: UnsafeMutableBufferPointer<Float> = .init(start: nil, count: 0)

    /// - Parameters:
    ///   - folder: a Hugging Face checkpoint folder.
    ///   - layout: this worker's place; only what it computes is read.
    ///   - collectives: the group of `layout`.
    ///   - progress: called after each tensor.
    public init(
        folder: String, layout: ParallelLayout, division: ExpertDivision = .byExpert,
        backend: any Backend, collectives: any Collectives, limits: BackendLimits,
        progress: @escaping (LoadProgress) -> Void = { _ in }
    ) throws(ModelLoadError) {
        let checkpoint: Checkpoint
        do { checkpoint = try Checkpoint(folder: folder) } catch { throw .checkpoint(error) }
        let config = checkpoint.config
        let ownHeads = layout.ownPart(config.headCount).count
        do {
            share = ExpertShare(
                layout: layout, division: division,
                loader: try backend.makeExpertLoader(isUrgent: true))
        } catch { throw .backend(error) }
        try share.check(config)
        do {
            try backend.prepare(config.sharing(heads: ownHeads), limits: limits)
            let (rows, hidden) = (limits.rowsMax, config.hiddenSize)
            func matrix(_ columns: Int, rows: Int = rows) throws(BackendError) -> DeviceMatrix {
                try backend.makeMatrix(rows: rows, columns: columns)
            }
            residual = try matrix(hidden)
            normalized = try matrix(hidden)
            delta = try matrix(hidden)
            routed = try matrix(hidden)
            ownAttended = try matrix(ownHeads * config.valueHeadSize)
            let isAlone = layout.tensorParallelSize == 1
            attended = isAlone ? ownAttended : try matrix(config.headCount * config.valueHeadSize)
            projected = isAlone ? delta : try matrix(layout.ownPart(hidden).count)
        } catch { throw .backend(error) }
        var loader = try WeightLoader(
            checkpoint: checkpoint, backend: share.loader, layout: layout,
            division: share.division, progress: progress)
        try share.load(by: &loader)
        loader.backend = backend
        weights = try loader.loadCommon()
        backend.adoptExperts(of: share.loader)
        do { sums = try Self.sums(share, config, limits) ?? delta } catch { throw .backend(error) }
        self.checkpoint = checkpoint
        wantedDivision = division
        self.config = config
        self.limits = limits
        self.backend = backend
        digest = checkpoint.digest
        let chosen = limits.rowsMax * config.expertsPerToken
        choices = RouterChoices(
            experts: .allocate(capacity: chosen), weights: .allocate(capacity: chosen),
            logits: .allocate(capacity: limits.rowsMax * config.expertCount))
        tensorGroup = TensorParallelGroup(
            layout: layout, collectives: collectives, backend: backend)
        exchange = Self.exchange(share, collectives, config, sums, clock, expertTimer)
    }

    private static func exchange(
        _ share: ExpertShare, _ collectives: any Collectives, _ config: ModelConfig,
        _ sums: DeviceMatrix, _ clock: StageClock, _ timer: ExpertTimer
    ) -> any RoutedExperts {
        let layout = share.layout
        switch share.division {
        case .byExpert:
            return ExpertExchange(
                placement: ExpertPlacement(
                    expertCount: config.expertCount, rank: layout.worker,
                    worldSize: layout.worldSize),
                collectives: collectives, hidden: config.hiddenSize,
                chosen: config.expertsPerToken, clock: clock, timer: timer)
        case .bySlice:
            return ExpertSliceExchange(
                layout: layout, collectives: collectives, config: config, sums: sums,
                clock: clock, timer: timer)
        }
    }

    deinit {
        choices.experts.deallocate()
        choices.weights.deallocate()
        choices.logits.deallocate()
        logits.deallocate()
        ownLogits.deallocate()
    }

    /// Of sliced experts; nil where they are whole.
    private static func sums(
        _ share: ExpertShare, _ config: ModelConfig, _ limits: BackendLimits
    ) throws(BackendError) -> DeviceMatrix? {
        guard share.division == .bySlice else { return nil }
        let layout = share.layout
        let slice = ParallelLayout.part(
            config.hiddenSize, index: layout.worker, of: layout.worldSize)
        return try share.loader.makeMatrix(
            rows: limits.rowsMax * layout.dataParallelSize, columns: slice.count)
    }

    /// A new view brings a new group; this worker's place in it must be that of ``layout``.
    public func setCollectives(_ collectives: any Collectives) {
        tensorGroup = TensorParallelGroup(
            layout: layout, collectives: collectives, backend: backend)
        exchange = Self.exchange(share, collectives, config, sums, clock, expertTimer)
    }

    /// What ``adopt(_:)`` needs for another place in another group, not yet loaded.
    func makeShare(for layout: ParallelLayout) throws(ModelLoadError) -> ExpertShare {
        do {
            return ExpertShare(
                layout: layout, division: wantedDivision,
                loader: try backend.makeExpertLoader(isUrgent: false))
        } catch { throw .backend(error) }
    }

    /// A function that loads a share, on any thread.
    var shareLoader: @Sendable (ExpertShare) throws(ModelLoadError) -> Void {
        let folder = checkpoint.folder
        return { share throws(ModelLoadError) in
            let checkpoint: Checkpoint
            do throws(CheckpointError) {
                checkpoint = try Checkpoint(folder: folder)
            } catch {
                throw .checkpoint(error)
            }
            try share.load(checkpoint)
        }
    }

    /// Takes another place, with its experts; what it had is freed. ``setCollectives(_:)`` must
    /// follow before the next step.
    func adopt(_ share: ExpertShare) throws(ModelLoadError) {
        precondition(share.layout.tpRank == layout.tpRank, "TP rank \(share.layout.tpRank)")
        do { sums = try Self.sums(share, config, limits) ?? delta } catch { throw .backend(error) }
        backend.adoptExperts(of: share.loader)
        self.share = share
    }

    /// The next step gathers all rows at all workers: few enough, and every DP rank's number known.
    ///
    /// - Parameters:
    ///   - size: what each rank's rows are filled up to.
    ///   - rows: of a DP rank, without padding.
    public func gatherRows(paddedTo size: Int? = nil, _ rows: (Int) -> Int) {
        exchange.beginGathering()
        for worker in 0..<layout.worldSize {
            let (rank, tpRank) = worker.quotientAndRemainder(
                dividingBy: layout.tensorParallelSize)
            let count = rows(rank)
            let part = layout.part(size ?? count, of: tpRank)
            exchange.gather(part.clamped(to: 0..<count).count)
        }
    }

    /// What a layer computes: all rows of the step, and those that are this worker's after
    /// attention. Rows of padding are at the end; they pass all stages but the routed experts, so
    /// that no other worker ever sees one.
    private struct Rows {
        let all: Int
        let own: Range<Int>
        /// Of its own, those of the plan.
        let routed: Int

        init(planned: Int, all: Int, _ layout: ParallelLayout) {
            self.all = all
            own = layout.ownPart(all)
            routed = own.clamped(to: 0..<planned).count
        }
    }

    /// Computes one step. An empty plan (a dummy batch) takes part in every exchange. All workers
    /// of a DP rank give the same plan.
    ///
    /// - Parameter size: how many rows the step has, with padding behind the plan's; nil: none.
    /// - Returns: logits of the plan's `logitRows`, valid until the next call; at a worker that is
    ///   no leader, none.
    /// - Throws: what the exchange met. The step is void then, and may be repeated: cache entries
    ///   of its positions are written again.
    public func forward(
        _ plan: StepPlan, paddedTo size: Int? = nil, view: UInt32, tick: UInt64, deadline: Instant
    ) throws(CollectiveError) -> LogitsView {
        defer { exchange.endGathering() }
        let rows = Rows(planned: plan.rowCount, all: size ?? plan.rowCount, layout)
        backend.beginStep(plan, rows: rows.all)
        if rows.all > 0 { backend.embed(weights.embedding, into: residual) }
        clock.lap(.embedding)
        for (index, layer) in weights.layers.enumerated() {
            let moment = ExpertExchange.Moment(
                view: view, tick: tick, layer: index, deadline: deadline)
            observe(.hidden(index), residual, rows.all)
            try attend(layer, rows, at: moment)
            switch layer.feedForward {
            case .dense(let mlp):
                if !rows.own.isEmpty {
                    backend.mlp(
                        own(normalized, rows), mlp, rows: rows.own.count, into: own(delta, rows))
                }
                clock.lap(.denseMLP)
            case .experts(let moe):
                try mix(moe, rows, at: moment)
            }
            observe(.feedForward(index), delta, rows.all)
            try addToResidual(rows, at: moment)
        }
        observe(.hidden(weights.layers.count), residual, rows.all)
        return try project(plan.logitRows, view: view, tick: tick, deadline: deadline)
    }

    private func own(_ matrix: DeviceMatrix, _ rows: Rows) -> DeviceMatrix {
        backend.matrix(matrix, from: rows.own.lowerBound)
    }

    /// Attention and both norms: leaves the feed-forward part's input in this worker's rows of
    /// `normalized`.
    private func attend(
        _ layer: ModelWeights.Layer, _ rows: Rows, at moment: ExpertExchange.Moment
    ) throws(CollectiveError) {
        if rows.all > 0 {
            backend.rmsNorm(residual, layer.inputNorm, rows: rows.all, into: normalized)
            backend.mlaProject(normalized, layer.attention, layer: moment.layer)
            clock.lap(.attentionProjection)
            backend.mlaAttention(layer.attention, layer: moment.layer, into: ownAttended)
        }
        if layout.tensorParallelSize > 1 {
            try tensorGroup.gatherColumns(
                of: ownAttended, rows: rows.all, size: config.valueHeadSize, into: attended,
                at: moment)
        }
        if rows.all > 0 {
            backend.linear(attended, layer.attention.output, rows: rows.all, into: projected)
        }
        if layout.tensorParallelSize > 1 {
            try tensorGroup.scatterRows(of: projected, rows: rows.all, into: delta, at: moment)
        }
        observe(.attention(moment.layer), delta, rows.all)
        guard !rows.own.isEmpty else { return }
        let sum = own(residual, rows)
        backend.add(own(delta, rows), to: sum, rows: rows.own.count)
        backend.rmsNorm(
            sum, layer.postNorm, rows: rows.own.count, into: own(normalized, rows))
        clock.lap(.attention)
    }

    /// Routed experts, then the shared one, into this worker's rows of `delta`.
    private func mix(
        _ moe: ModelWeights.MoE, _ rows: Rows, at moment: ExpertExchange.Moment
    ) throws(CollectiveError) {
        let (count, input, output) = (rows.routed, own(normalized, rows), own(delta, rows))
        if count > 0 {
            backend.route(input, moe.router, rows: count, into: choices)
            observeRouter(layer: moment.layer, rows: count)
        }
        clock.lap(.router)
        try exchange.run(
            backend.hostRows(of: input, rows: count), rowCount: count, choices: choices,
            experts: share.tables[moe.expertTable], backend: backend, at: moment,
            into: moe.shared == nil ? output : routed)
        guard !rows.own.isEmpty, let shared = moe.shared else { return }
        backend.mlp(input, shared, rows: rows.own.count, into: output)
        backend.add(routed, to: output, rows: count)
        clock.lap(.sharedExpert)
    }

    /// After it every worker has all rows again.
    private func addToResidual(
        _ rows: Rows, at moment: ExpertExchange.Moment
    ) throws(CollectiveError) {
        if !rows.own.isEmpty {
            backend.add(own(delta, rows), to: own(residual, rows), rows: rows.own.count)
        }
        guard layout.tensorParallelSize > 1 else { return }
        try tensorGroup.gatherRows(of: residual, rows: rows.all, at: moment)
    }

    private func project(
        _ logitRows: [Int32], view: UInt32, tick: UInt64, deadline: Instant
    ) throws(CollectiveError) -> LogitsView {
        let rows = logitRows.count
        if layout.tensorParallelSize == 1 {
            let logits = grow(&logits, to: rows * vocabularySize)
            if rows > 0 { head(logitRows, into: logits) }
        } else {
            let part = grow(&ownLogits, to: rows * layout.ownPart(vocabularySize).count)
            if rows > 0 { head(logitRows, into: part) }
            let whole = grow(&logits, to: layout.isLeader ? rows * vocabularySize : 0)
            try tensorGroup.gatherLogits(
                part, rows: rows, vocabulary: vocabularySize, into: whole, view: view, tick: tick,
                deadline: deadline)
        }
        clock.lap(.head)
        let count = layout.isLeader ? rows : 0
        return LogitsView(
            values: UnsafeMutableBufferPointer(rebasing: logits[0..<(count * vocabularySize)]),
            rowCount: count, vocabularySize: vocabularySize)
    }

    private func head(_ rows: [Int32], into logits: UnsafeMutablePointer<Float>) {
        backend.lmHead(residual, rows: rows, weights.finalNorm, weights.head, into: logits)
    }

    private func grow(
        _ buffer: inout UnsafeMutableBufferPointer<Float>, to count: Int
    ) -> UnsafeMutablePointer<Float> {
        if buffer.count < max(count, 1) {
            buffer.deallocate()
            buffer = .allocate(capacity: max(count, buffer.count * 2, 1))
        }
        guard let start = buffer.baseAddress else { preconditionFailure("\(count) logits") }
        return start
    }

    private func observe(_ stage: ModelStage, _ matrix: DeviceMatrix, _ rows: Int) {
        guard let observer, rows > 0 else { return }
        let values = backend.hostRows(of: matrix, rows: rows)
        observer(stage, UnsafeBufferPointer(start: values, count: rows * matrix.columns))
    }

    private func observeRouter(layer: Int, rows: Int) {
        guard let observer else { return }
        let count = rows * config.expertsPerToken
        observer(
            .routerLogits(layer),
            UnsafeBufferPointer(start: choices.logits, count: rows * config.expertCount))
        observer(
            .routerWeights(layer), UnsafeBufferPointer(start: choices.weights, count: count))
        let ids = (0..<count).map { Float(choices.experts[$0]) }
        ids.withUnsafeBufferPointer { observer(.routerExperts(layer), $0) }
    }
}
