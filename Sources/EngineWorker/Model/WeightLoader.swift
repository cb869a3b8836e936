/// Reads a checkpoint into a backend: names and shapes of tensors are known here and nowhere else.
///
/// Multi-token-prediction layers (index at and above the number of layers) are left alone.
/// Source of the names: the published DeepSeek-V3 checkpoint and msmodelslim's W8A8 export.
struct WeightLoader {
    /// DeepSeek's code fixes this one, whatever `rms_norm_eps` says.
    static let latentNormEpsilon: Float = 1e-6

    let checkpoint: Checkpoint
    let quantization: QuantizationMap
    /// Experts may lie in another one's memory.
    var backend: any Backend
    let layout: ParallelLayout
    let division: ExpertDivision
    /// The experts of which this worker has something.
    let experts: Range<Int>
    /// What it has of each: of the inner activations, and of the outputs.
    private let innerPart: Range<Int>
    private let outputPart: Range<Int>
    let progress: (LoadProgress) -> Void
    private let bytesTotal: Int
    private var bytesDone = 0

    init(
        checkpoint: Checkpoint, backend: any Backend, layout: ParallelLayout,
        division: ExpertDivision, progress: @escaping (LoadProgress) -> Void
    ) throws(ModelLoadError) {
        self.checkpoint = checkpoint
        self.backend = backend
        self.layout = layout
        self.division = division
        let config = checkpoint.config
        func part(_ count: Int) -> Range<Int> {
            ParallelLayout.part(count, index: layout.worker, of: layout.worldSize)
        }
        switch division {
        case .byExpert:
            experts = part(config.expertCount)
            (innerPart, outputPart) = (0..<config.expertInnerSize, 0..<config.hiddenSize)
        case .bySlice:
            experts = 0..<config.expertCount
            (innerPart, outputPart) = (part(config.expertInnerSize), part(config.hiddenSize))
        }
        let experts = experts
        self.progress = progress
        do {
            quantization = try QuantizationMap(folder: checkpoint.folder)
        } catch {
            throw .checkpoint(error)
        }
        let layerCount = checkpoint.config.layerCount
        bytesTotal = checkpoint.byteCount { name in
            let parts = name.split(separator: ".")
            guard parts.count > 3, parts[1] == "layers" else { return true }
            guard let layer = Int(parts[2]), layer < layerCount else { return false }
            guard parts.count > 5, parts[4] == "experts" else { return true }
            return Int(parts[5]).map(experts.contains) ?? false
        }
    }

    /// The experts of this worker, a table a MoE layer.
    mutating func loadExperts() throws(ModelLoadError) -> [ExpertsHandle] {
        let config = checkpoint.config
        progress(LoadProgress(bytesDone: 0, bytesTotal: bytesTotal))
        backend.beginWeights(
            division == .byExpert
                ? .experts(experts, of: checkpoint) : .slices(of: checkpoint, layout))
        var owned: [ExpertsHandle] = []
        for index in config.denseLayerCount..<max(config.layerCount, config.denseLayerCount) {
            owned.append(try ownedExperts("model.layers.\(index).mlp"))
        }
        try store { () throws(BackendError) in try backend.endWeights() }
        return owned
    }

    /// Everything else. Behind the experts: workers that start at once pack theirs side by side,
    /// and only then need the part that one of them packs for all.
    mutating func loadCommon() throws(ModelLoadError) -> ModelWeights {
        let config = checkpoint.config
        let vocabulary = config.vocabularySize
        let embedding = try embedding(
            "model.embed_tokens.weight", shape: [vocabulary, config.hiddenSize])
        backend.beginWeights(.common(of: checkpoint, layout))
        var layers: [ModelWeights.Layer] = []
        for index in 0..<config.layerCount { layers.append(try layer(index)) }
        let weights = ModelWeights(
            embedding: embedding,
            layers: layers,
            finalNorm: try norm(
                "model.norm", count: config.hiddenSize, epsilon: Float(config.normEpsilon)),
            head: try dense(
                "lm_head.weight", shape: [vocabulary, config.hiddenSize], role: .head,
                part: layout.ownPart(vocabulary)))
        try store { () throws(BackendError) in try backend.endWeights() }
        progress(LoadProgress(bytesDone: bytesTotal, bytesTotal: bytesTotal))
        return weights
    }

    private mutating func layer(_ index: Int) throws(ModelLoadError) -> ModelWeights.Layer {
        let config = checkpoint.config
        let (prefix, hidden) = ("model.layers.\(index)", config.hiddenSize)
        let epsilon = Float(config.normEpsilon)
        let feedForward: ModelWeights.FeedForward
        if index < config.denseLayerCount {
            feedForward = .dense(try mlp("\(prefix).mlp", inner: config.innerSize))
        } else {
            let table = index - config.denseLayerCount
            feedForward = .experts(try moe("\(prefix).mlp", table: table))
        }
        return ModelWeights.Layer(
            inputNorm: try norm("\(prefix).input_layernorm", count: hidden, epsilon: epsilon),
            attention: try attention("\(prefix).self_attn"),
            postNorm: try norm(
                "\(prefix).post_attention_layernorm", count: hidden, epsilon: epsilon),
            feedForward: feedForward)
    }

    private mutating func attention(_ prefix: String) throws(ModelLoadError) -> AttentionWeights {
        let config = checkpoint.config
        let (hidden, epsilon) = (config.hiddenSize, Self.latentNormEpsilon)
        let queryHead = config.nopeHeadSize + config.ropeHeadSize
        let queryOutputs = config.headCount * queryHead
        let queryPart = heads(of: queryHead)
        var queryDown: LinearHandle?
        var queryNorm: NormWeights?
        let queryUp: LinearHandle
        if let rank = config.queryRank {
            queryDown = try linear("\(prefix).q_a_proj", outputs: rank, inputs: hidden)
            queryNorm = try norm("\(prefix).q_a_layernorm", count: rank, epsilon: epsilon)
            queryUp = try linear(
                "\(prefix).q_b_proj", outputs: queryOutputs, inputs: rank, part: queryPart)
        } else {
            queryUp = try linear(
                "\(prefix).q_proj", outputs: queryOutputs, inputs: hidden, part: queryPart)
        }
        let keyValue = "\(prefix).kv_b_proj"
        guard
            try read({ () throws(CheckpointError) in try quantization.kind(of: keyValue) })
                == .float
        else {
            let remedy = "use a checkpoint that leaves it FLOAT, as msmodelslim's recipes do"
            throw .checkpoint(
                .unsupported(
                    path: quantization.path, feature: "an int8 \(keyValue)", remedy: remedy))
        }
        return AttentionWeights(
            queryDown: queryDown,
            queryNorm: queryNorm,
            queryUp: queryUp,
            latentDown: try linear(
                "\(prefix).kv_a_proj_with_mqa", outputs: config.cacheWidth, inputs: hidden),
            latentNorm: try norm(
                "\(prefix).kv_a_layernorm", count: config.latentRank, epsilon: epsilon),
            keyValueUp: try keyValueUp(keyValue),
            output: try linear(
                "\(prefix).o_proj", outputs: hidden,
                inputs: config.headCount * config.valueHeadSize, part: layout.ownPart(hidden)))
    }

    /// Outputs of this worker's heads in a matrix with `size` outputs a head.
    private func heads(of size: Int) -> Range<Int> {
        let heads = layout.ownPart(checkpoint.config.headCount)
        return (heads.lowerBound * size)..<(heads.upperBound * size)
    }

    private mutating func ownedExperts(
        _ prefix: String
    ) throws(ModelLoadError) -> ExpertsHandle {
        var owned: [MLPWeights] = []
        for expert in experts {
            owned.append(
                try mlp(
                    "\(prefix).experts.\(expert)", inner: checkpoint.config.expertInnerSize,
                    innerPart: innerPart, outputPart: outputPart))
        }
        let table = owned
        return try store { () throws(BackendError) in try backend.loadExperts(table) }
    }

    private mutating func moe(
        _ prefix: String, table: Int
    ) throws(ModelLoadError) -> ModelWeights.MoE {
        let config = checkpoint.config
        let router = RouterWeights(
            gate: try dense(
                "\(prefix).gate.weight", shape: [config.expertCount, config.hiddenSize],
                role: .router),
            bias: try vector(
                "\(prefix).gate.e_score_correction_bias", count: config.expertCount))
        var shared: MLPWeights?
        if config.sharedExpertCount > 0 {
            let inner = config.expertInnerSize * config.sharedExpertCount
            shared = try mlp("\(prefix).shared_experts", inner: inner)
        }
        return ModelWeights.MoE(router: router, expertTable: table, shared: shared)
    }

    private mutating func mlp(
        _ prefix: String, inner: Int, innerPart: Range<Int>? = nil, outputPart: Range<Int>? = nil
    ) throws(ModelLoadError) -> MLPWeights {
        let hidden = checkpoint.config.hiddenSize
        return MLPWeights(
            gate: try linear(
                "\(prefix).gate_proj", outputs: inner, inputs: hidden, part: innerPart),
            up: try linear("\(prefix).up_proj", outputs: inner, inputs: hidden, part: innerPart),
            down: try linear(
                "\(prefix).down_proj", outputs: hidden, inputs: inner, part: outputPart))
    }

    private mutating func norm(
        _ module: String, count: Int, epsilon: Float
    ) throws(ModelLoadError) -> NormWeights {
        let hasBias = checkpoint.optionalTensor(module + ".bias") != nil
        return NormWeights(
            weight: try vector(module + ".weight", count: count),
            bias: hasBias ? try vector(module + ".bias", count: count) : nil,
            epsilon: epsilon)
    }

    private mutating func vector(
        _ name: String, count: Int
    ) throws(ModelLoadError) -> VectorHandle {
        let values = try read { () throws(CheckpointError) in
            try checkpoint.floats(name, count: count)
        }
        report(values.count * 4)
        return try store { () throws(BackendError) in try backend.loadVector(values) }
    }

    /// A matrix that checkpoints never quantise.
    private mutating func dense(
        _ name: String, shape: [Int], role: LinearRole, part: Range<Int>? = nil
    ) throws(ModelLoadError) -> LinearHandle {
        let tensor = try read { () throws(CheckpointError) in
            try checkpoint.tensor(name, shape: shape, types: [.bf16, .f32, .f16])
        }
        let source = LinearSource.dense(part.map(tensor.rows) ?? tensor)
        return try load(source, role: role, byteCount: tensor.bytes.count)
    }

    private mutating func embedding(
        _ name: String, shape: [Int]
    ) throws(ModelLoadError) -> EmbeddingHandle {
        let tensor = try read { () throws(CheckpointError) in
            try checkpoint.tensor(name, shape: shape, types: [.bf16, .f32, .f16])
        }
        let handle = try store { () throws(BackendError) in try backend.loadEmbedding(tensor) }
        report(tensor.bytes.count)
        return handle
    }

    private mutating func keyValueUp(_ module: String) throws(ModelLoadError) -> KeyValueHandle {
        let config = checkpoint.config
        let outputs = config.headCount * (config.nopeHeadSize + config.valueHeadSize)
        let source = try read { () throws(CheckpointError) in
            try checkpoint.floatLinear(module, shape: [outputs, config.latentRank])
        }
        let part = heads(of: config.nopeHeadSize + config.valueHeadSize)
        let handle = try store { () throws(BackendError) in
            try backend.loadKeyValue(source.outputs(part))
        }
        report(checkpoint.optionalTensor(module + ".weight")?.bytes.count ?? 0)
        return handle
    }

    /// - Parameter part: the outputs that this worker computes; nil: all.
    private mutating func linear(
        _ module: String, outputs: Int, inputs: Int, part: Range<Int>? = nil
    ) throws(ModelLoadError) -> LinearHandle {
        let shape = [outputs, inputs]
        let source = try read { () throws(CheckpointError) in
            switch try quantization.kind(of: module) {
            case .float: try checkpoint.floatLinear(module, shape: shape)
            case .staticInt8: try checkpoint.staticLinear(module, shape: shape)
            case .dynamicInt8: try checkpoint.dynamicLinear(module, shape: shape)
            }
        }
        let tensor = checkpoint.optionalTensor(module + ".weight")
        return try load(
            part.map(source.outputs) ?? source, role: .projection,
            byteCount: tensor?.bytes.count ?? 0)
    }

    private mutating func load(
        _ source: LinearSource, role: LinearRole, byteCount: Int
    ) throws(ModelLoadError) -> LinearHandle {
        let handle = try store { () throws(BackendError) in
            try backend.loadLinear(source, role: role)
        }
        report(byteCount)
        return handle
    }

    private mutating func report(_ byteCount: Int) {
        bytesDone = min(bytesDone + byteCount, bytesTotal)
        progress(LoadProgress(bytesDone: bytesDone, bytesTotal: bytesTotal))
    }

    private func read<Result>(
        _ body: () throws(CheckpointError) -> Result
    ) throws(ModelLoadError) -> Result {
        do { return try body() } catch { throw .checkpoint(error) }
    }

    private func store<Result>(
        _ body: () throws(BackendError) -> Result
    ) throws(ModelLoadError) -> Result {
        do { return try body() } catch { throw .backend(error) }
    }
}
