internal import DaemonRuntime

/// The shape of a DeepSeek-V3-class model, from `config.json` and `generation_config.json`.
///
/// Every number is inside bounds that keep products of a few of them within 64 bits, so code
/// behind this type computes sizes without checking again.
public struct ModelConfig: Hashable, Sendable {
    /// YaRN (arXiv 2309.00071), as DeepSeek parameterises it.
    public struct Yarn: Hashable, Sendable {
        public let factor: Double
        public let originalPositionCount: Int
        public let betaFast: Double
        public let betaSlow: Double
        public let magnitudeScale: Double
        public let magnitudeScaleAllDimensions: Double
    }

    static let modelTypes = ["deepseek_v3", "kimi_k2"]
    static let expertCountMax = 1024
    static let expertGroupCountMax = 64

    public let modelType: String
    public let vocabularySize: Int
    public let hiddenSize: Int
    public let layerCount: Int
    public let denseLayerCount: Int
    public private(set) var headCount: Int
    /// nil: queries are projected in one step.
    public let queryRank: Int?
    public let latentRank: Int
    public let nopeHeadSize: Int
    public let ropeHeadSize: Int
    public let valueHeadSize: Int
    public let innerSize: Int
    public let expertInnerSize: Int
    public let expertCount: Int
    public let sharedExpertCount: Int
    public let expertsPerToken: Int
    public let expertGroupCount: Int
    public let expertGroupsKept: Int
    public let normalizesExpertWeights: Bool
    public let routedScale: Double
    public let normEpsilon: Double
    public let ropeBase: Double
    public let yarn: Yarn?
    public let positionCountMax: Int
    /// Sides of a block of the official FP8 format; nil for other checkpoints.
    public let fp8Block: Int?
    /// Element type in which the model was made, in the words of `torch_dtype`.
    public let elementType: String?
    public let beginTokenID: Int32?
    public let endTokenIDs: [Int32]

    /// Elements of one token's cache entry in one layer: latent, then rotated key.
    public var cacheWidth: Int { latentRank + ropeHeadSize }

    /// The same for a worker that computes some of the heads.
    func sharing(heads: Int) -> ModelConfig {
        var share = self
        share.headCount = heads
        return share
    }

    public init(folder: String) throws(CheckpointError) {
        let file = try ConfigFile(path: folder + "/config.json")
        try Self.refuseWhatIsNotComputed(file)
        modelType = file.value("model_type")?.string ?? ""
        elementType = (file.value("torch_dtype") ?? file.value("dtype"))?.string
        vocabularySize = try file.integer("vocab_size", in: 1...(1 << 24))
        hiddenSize = try file.integer("hidden_size", in: 1...(1 << 20))
        layerCount = try file.integer("num_hidden_layers", in: 1...4096)
        denseLayerCount = try file.integer("first_k_dense_replace", in: 0...layerCount)
        headCount = try file.integer("num_attention_heads", in: 1...4096)
        let hasQueryRank = file.value("q_lora_rank") != nil
        queryRank = hasQueryRank ? try file.integer("q_lora_rank", in: 1...(1 << 20)) : nil
        latentRank = try file.integer("kv_lora_rank", in: 1...(1 << 16))
        nopeHeadSize = try file.integer("qk_nope_head_dim", in: 1...(1 << 16))
        ropeHeadSize = try file.integer("qk_rope_head_dim", in: 2...(1 << 16))
        valueHeadSize = try file.integer("v_head_dim", in: 1...(1 << 16))
        innerSize = try file.integer("intermediate_size", in: 1...(1 << 20))
        expertInnerSize = try file.integer("moe_intermediate_size", in: 1...(1 << 20))
        expertCount = try file.integer("n_routed_experts", in: 1...Self.expertCountMax)
        sharedExpertCount = try file.integer("n_shared_experts", in: 0...64, default: 0)
        expertsPerToken = try file.integer("num_experts_per_tok", in: 1...expertCount)
        let groupsMax = min(expertCount, Self.expertGroupCountMax)
        expertGroupCount = try file.integer("n_group", in: 1...groupsMax, default: 1)
        expertGroupsKept = try file.integer("topk_group", in: 1...expertGroupCount, default: 1)
        normalizesExpertWeights = try file.boolean("norm_topk_prob", default: true)
        routedScale = try file.number("routed_scaling_factor", range: 0...1e6)
        normEpsilon = try file.number("rms_norm_eps", range: 0...1, default: 1e-6)
        // Newer transformers write all rotary settings into `rope_parameters`.
        let rotary = file.value("rope_theta") == nil ? file.value("rope_parameters") : nil
        ropeBase = try file.number(
            "rope_theta", in: rotary, range: 1.001...1e12, default: 10_000)
        yarn = try Self.yarn(file)
        positionCountMax = try file.integer("max_position_embeddings", in: 1...(1 << 30))
        fp8Block = try Self.fp8Block(file)
        (beginTokenID, endTokenIDs) = try Self.specialTokens(
            folder: folder, config: file, vocabularySize: vocabularySize)
        try checkConsistency(path: file.path)
    }

    private func checkConsistency(path: String) throws(CheckpointError) {
        guard ropeHeadSize % 2 == 0 else {
            throw .wrongKey(path: path, key: "qk_rope_head_dim", reason: "must be even")
        }
        guard expertCount % expertGroupCount == 0 else {
            throw .wrongKey(path: path, key: "n_group", reason: "must divide n_routed_experts")
        }
        guard expertsPerToken <= expertCount / expertGroupCount * expertGroupsKept else {
            let reason = "is more than the experts in topk_group groups"
            throw .wrongKey(path: path, key: "num_experts_per_tok", reason: reason)
        }
    }

    private static func refuseWhatIsNotComputed(_ file: ConfigFile) throws(CheckpointError) {
        guard file.value("model_type") != nil else {
            throw .wrongKey(path: file.path, key: "model_type", reason: "is missing")
        }
        try file.require("model_type", oneOf: modelTypes)
        try file.require("hidden_act", oneOf: ["silu"])
        try file.require("scoring_func", oneOf: ["sigmoid"])
        try file.require("topk_method", oneOf: ["noaux_tc"])
        for key in ["attention_bias", "tie_word_embeddings"] {
            guard try !file.boolean(key, default: false) else {
                throw .unsupported(
                    path: file.path, feature: "\(key) true",
                    remedy: "no DeepSeek-V3-class model has it")
            }
        }
        guard try file.boolean("rope_interleave", default: true) else {
            throw .unsupported(
                path: file.path, feature: "rope_interleave false",
                remedy: "use the official checkpoint, whose rotary pairs are interleaved")
        }
        _ = try file.integer("moe_layer_freq", in: 1...1, default: 1)
        guard file.value("index_topk") == nil else {
            throw .unsupported(
                path: file.path, feature: "sparse attention (index_topk, DeepSeek V3.2)",
                remedy: "serve a model of the V3, R1 or V3.1 family")
        }
    }

    private static func yarn(_ file: ConfigFile) throws(CheckpointError) -> Yarn? {
        let found = file.value("rope_scaling") ?? file.value("rope_parameters")
        guard let scaling = found else { return nil }
        let kind = scaling["type"]?.string ?? scaling["rope_type"]?.string ?? ""
        if kind == "default" { return nil }
        guard kind == "yarn" else {
            throw .unsupported(
                path: file.path, feature: "rope_scaling of type '\(kind.prefix(100))'",
                remedy: "this engine computes yarn, or no scaling")
        }
        func number(
            _ key: String, _ range: ClosedRange<Double>, _ fallback: Double?
        ) throws(CheckpointError) -> Double {
            try file.number(key, in: scaling, range: range, default: fallback)
        }
        return Yarn(
            factor: try number("factor", 1...1e6, nil),
            originalPositionCount: Int(
                try number("original_max_position_embeddings", 1...1e9, nil)),
            betaFast: try number("beta_fast", 1e-3...1e6, 32),
            betaSlow: try number("beta_slow", 1e-3...1e6, 1),
            magnitudeScale: try number("mscale", 0...1e3, 0),
            magnitudeScaleAllDimensions: try number("mscale_all_dim", 0...1e3, 0))
    }

    private static func fp8Block(_ file: ConfigFile) throws(CheckpointError) -> Int? {
        guard let quantization = file.value("quantization_config") else { return nil }
        let method = quantization["quant_method"]?.string ?? ""
        let format = quantization["fmt"]?.string ?? "e4m3"
        guard method == "fp8", format == "e4m3" else {
            throw .unsupported(
                path: file.path,
                feature: "quantization_config '\(method.prefix(100))' '\(format.prefix(100))'",
                remedy: "use the BF16, the official FP8 or an Ascend W8A8 checkpoint")
        }
        guard let sides = quantization["weight_block_size"]?.array, sides.count == 2,
            let side = sides[0].integer, sides[1].integer == side, (1...4096).contains(side)
        else {
            throw .unsupported(
                path: file.path, feature: "FP8 without square weight_block_size",
                remedy: "use the official FP8 checkpoint, whose blocks are 128 x 128")
        }
        return side
    }

    /// BOS and EOS; `generation_config.json`, where there is one, goes before `config.json`.
    private static func specialTokens(
        folder: String, config: ConfigFile, vocabularySize: Int
    ) throws(CheckpointError) -> (Int32?, [Int32]) {
        var files = [config]
        let path = folder + "/generation_config.json"
        if Folder.exists(path) { files.insert(try ConfigFile(path: path), at: 0) }
        func ids(_ key: String) throws(CheckpointError) -> [Int32] {
            for file in files {
                guard let value = file.value(key) else { continue }
                var ids: [Int32] = []
                for entry in value.array ?? [value] {
                    guard let id = entry.integer, (0..<vocabularySize).contains(id) else {
                        let reason = "must be token ids below vocab_size"
                        throw .wrongKey(path: file.path, key: key, reason: reason)
                    }
                    ids.append(Int32(id))
                }
                return ids
            }
            return []
        }
        return (try ids("bos_token_id").first, try ids("eos_token_id"))
    }
}
