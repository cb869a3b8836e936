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
    public let placement: ExpertPlacement
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
    private var exchange: ExpertExchange

    private let residual: DeviceMatrix
    private let normalized: DeviceMatrix
    private let delta: DeviceMatrix
    private let routed: DeviceMatrix
    private let choices: RouterChoices
    private var logits: UnsafeMutableBufferPointer<Float> = .init(start: nil, count: 0)

    /// - Parameters:
    ///   - folder: a Hugging Face checkpoint folder.
    ///   - placement: which experts this worker owns; only those are read.
    ///   - collectives: the group that serves the expert layers; of `placement`'s size and rank.
    ///   - progress: called after each tensor.
    public init(
        folder: String, placement: ExpertPlacement, backend: any Backend,
        collectives: any Collectives, limits: BackendLimits,
        progress: @escaping (LoadProgress) -> Void = { _ in }
    ) throws(ModelLoadError) {
        let checkpoint: Checkpoint
        do { checkpoint = try Checkpoint(folder: folder) } catch { throw .checkpoint(error) }
        let config = checkpoint.config
        guard placement.expertCount == config.expertCount else {
            throw .placement(expected: placement.expertCount, found: config.expertCount)
        }
        do {
            try backend.prepare(config, limits: limits)
            let (rows, hidden) = (limits.rowsMax, config.hiddenSize)
            residual = try backend.makeMatrix(rows: rows, columns: hidden)
            normalized = try backend.makeMatrix(rows: rows, columns: hidden)
            delta = try backend.makeMatrix(rows: rows, columns: hidden)
            routed = try backend.makeMatrix(rows: rows, columns: hidden)
        } catch { throw .backend(error) }
        var loader = try WeightLoader(
            checkpoint: checkpoint, backend: backend, experts: placement.localExperts,
            progress: progress)
        weights = try loader.load()
        self.config = config
        self.limits = limits
        self.placement = placement
        self.backend = backend
        digest = checkpoint.digest
        let chosen = limits.rowsMax * config.expertsPerToken
        choices = RouterChoices(
            experts: .allocate(capacity: chosen), weights: .allocate(capacity: chosen),
            logits: .allocate(capacity: limits.rowsMax * config.expertCount))
        exchange = ExpertExchange(
            placement: placement, collectives: collectives, hidden: config.hiddenSize,
            chosen: config.expertsPerToken, clock: clock, timer: expertTimer)
    }

    deinit {
        choices.experts.deallocate()
        choices.weights.deallocate()
        choices.logits.deallocate()
        logits.deallocate()
    }

    /// A new view brings a new group; this worker's place in it must be the same.
    public func setCollectives(_ collectives: any Collectives) {
        exchange = ExpertExchange(
            placement: placement, collectives: collectives, hidden: config.hiddenSize,
            chosen: config.expertsPerToken, clock: clock, timer: expertTimer)
    }

    /// Computes one step. An empty plan (a dummy batch) takes part in every expert exchange.
    ///
    /// - Returns: logits of the plan's `logitRows`, valid until the next call.
    /// - Throws: what the exchange met. The step is void then, and may be repeated: cache entries
    ///   of its positions are written again.
    public func forward(
        _ plan: StepPlan, view: UInt32, tick: UInt64, deadline: Instant
    ) throws(CollectiveError) -> LogitsView {
        let rows = plan.rowCount
        backend.beginStep(plan)
        if rows > 0 { backend.embed(weights.embedding, into: residual) }
        clock.lap(.embedding)
        for (index, layer) in weights.layers.enumerated() {
            observe(.hidden(index), residual, rows)
            if rows > 0 { attend(layer, index: index, rows: rows) }
            switch layer.feedForward {
            case .dense(let mlp):
                if rows > 0 { backend.mlp(normalized, mlp, rows: rows, into: delta) }
                clock.lap(.denseMLP)
            case .experts(let moe):
                let moment = ExpertExchange.Moment(
                    view: view, tick: tick, layer: index, deadline: deadline)
                try mix(moe, rows: rows, at: moment)
            }
            observe(.feedForward(index), delta, rows)
            if rows > 0 { backend.add(delta, to: residual, rows: rows) }
        }
        observe(.hidden(weights.layers.count), residual, rows)
        return project(plan.logitRows)
    }

    /// Attention and both norms: leaves the feed-forward part's input in `normalized`.
    private func attend(_ layer: ModelWeights.Layer, index: Int, rows: Int) {
        backend.rmsNorm(residual, layer.inputNorm, rows: rows, into: normalized)
        backend.mlaProject(normalized, layer.attention, layer: index)
        clock.lap(.attentionProjection)
        backend.mlaAttention(layer.attention, layer: index, into: delta)
        observe(.attention(index), delta, rows)
        backend.add(delta, to: residual, rows: rows)
        backend.rmsNorm(residual, layer.postNorm, rows: rows, into: normalized)
        clock.lap(.attention)
    }

    /// Routed experts, then the shared one, into `delta`.
    private func mix(
        _ moe: ModelWeights.MoE, rows: Int, at moment: ExpertExchange.Moment
    ) throws(CollectiveError) {
        if rows > 0 {
            backend.route(normalized, moe.router, rows: rows, into: choices)
            observeRouter(layer: moment.layer, rows: rows)
        }
        clock.lap(.router)
        let hasShared = moe.shared != nil
        try exchange.run(
            backend.hostRows(of: normalized, rows: rows), rowCount: rows, choices: choices,
            experts: moe.experts, backend: backend, at: moment,
            into: hasShared ? routed : delta)
        guard rows > 0, let shared = moe.shared else { return }
        backend.mlp(normalized, shared, rows: rows, into: delta)
        backend.add(routed, to: delta, rows: rows)
        clock.lap(.sharedExpert)
    }

    private func project(_ logitRows: [Int32]) -> LogitsView {
        let count = logitRows.count * vocabularySize
        if logits.count < count {
            logits.deallocate()
            logits = .allocate(capacity: max(count, logits.count * 2))
        }
        if count > 0, let start = logits.baseAddress {
            backend.lmHead(
                residual, rows: logitRows, weights.finalNorm, weights.head, into: start)
        }
        clock.lap(.head)
        return LogitsView(
            values: UnsafeMutableBufferPointer(rebasing: logits[0..<count]),
            rowCount: logitRows.count, vocabularySize: vocabularySize)
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
