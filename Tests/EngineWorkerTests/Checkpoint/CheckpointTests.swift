import Testing

@testable import EngineWorker

@Suite struct CheckpointTests {
    static func load(_ folder: String) throws -> DeepSeekModel {
        try DeepSeekModel(
            folder: folder,
            layout: ParallelLayout(dataParallelSize: 1, worker: 0),
            backend: CPUBackend(kernels: .best, threads: 1),
            collectives: SingleRankCollectives(),
            limits: BackendLimits(rowsMax: 8, blockCount: 4, blockSize: 4))
    }

    static func message(_ folder: String) -> String {
        do {
            _ = try load(folder)
            return "loaded"
        } catch { return "\(error)" }
    }

    @Test func theDigestIgnoresTheLayoutOfFiles() throws {
        let sharded = try Checkpoint(folder: Fixtures.model("tiny-random"))
        let other = try Checkpoint(folder: Fixtures.model("tiny-fp8"))
        #expect(sharded.digest.count == 16 && sharded.digest != other.digest)
        // The same tensors in one file.
        let folder = try TemporaryFolder()
        try folder.write(
            "config.json", try MappedFile.contents(of: sharded.folder + "/config.json"))
        var tensors: [(name: String, type: String, shape: [Int], data: [UInt8])] = []
        sharded.forEachTensor {
            tensors.append(($0.name, $0.type.rawValue, $0.shape, Array($0.bytes)))
        }
        try folder.write("model.safetensors", SafetensorsBytes.file(tensors))
        #expect(try Checkpoint(folder: folder.path).digest == sharded.digest)
        #expect(Self.message(folder.path) == "loaded")
    }

    @Test func theBytesAreThoseOfTheLayersThatAreComputed() throws {
        let checkpoint = try Checkpoint(folder: Fixtures.model("tiny-random"))
        // 3 MoE layers, 16 experts, 3 matrices of 32 x 64 BF16 each.
        #expect(checkpoint.byteCount.experts == 3 * 16 * 3 * 32 * 64 * 2)
        var (all, skipped) = (0, 0)
        checkpoint.forEachTensor {
            all += $0.bytes.count
            let isBehind = $0.name.hasPrefix("model.layers.\(checkpoint.config.layerCount).")
            if isBehind { skipped += $0.bytes.count }
        }
        #expect(checkpoint.byteCount.common == all - skipped - checkpoint.byteCount.experts)
    }

    @Test func theIndexOfTheQuantisedWeightsGoesFirst() throws {
        let folder = try TemporaryFolder(copyOf: "tiny-w8a8")
        let expected = try Checkpoint(folder: folder.path).digest
        let original = Array("{\"weight_map\":{\"a\":\"model-00001-of-00001.safetensors\"}}".utf8)
        try folder.write("model.safetensors.index.json", original)
        #expect(try Checkpoint(folder: folder.path).digest == expected)
        try folder.write("quant_model_weights.safetensors.index.json", original)
        #expect(Self.message(folder.path).contains("more than one index"))
    }

    @Test func everyMissingPartIsNamed() throws {
        for (file, word) in [
            ("config.json", "config.json"),
            ("model-00002-of-00003.safetensors", "model-00002-of-00003.safetensors"),
        ] {
            let folder = try TemporaryFolder(copyOf: "tiny-random")
            try folder.remove(file)
            let message = Self.message(folder.path)
            #expect(message.contains(word) && message.contains("missing"), "\(message)")
        }
        let folder = try TemporaryFolder(copyOf: "tiny-random")
        try folder.remove("model.safetensors.index.json")
        try folder.remove("model-00003-of-00003.safetensors")
        #expect(Self.message(folder.path).contains("no file holds tensor"))
        let empty = try TemporaryFolder()
        #expect(Self.message(empty.path).contains("config.json is missing"))
    }

    static var refusals: [(String, Any?, String)] {
        [
            ("model_type", "llama", "model_type 'llama'"),
            ("model_type", nil, "model_type is missing"),
            ("hidden_act", "gelu", "hidden_act 'gelu'"),
            ("scoring_func", "softmax", "scoring_func 'softmax'"),
            ("topk_method", "greedy", "topk_method 'greedy'"),
            ("attention_bias", true, "attention_bias true"),
            ("tie_word_embeddings", true, "tie_word_embeddings true"),
            ("moe_layer_freq", 2, "moe_layer_freq"),
            ("index_topk", 2048, "sparse attention"),
            ("rope_scaling", ["type": "linear", "factor": 2], "rope_scaling of type 'linear'"),
            ("rope_interleave", false, "rope_interleave false"),
            ("rope_scaling", ["type": "yarn"], "factor is missing"),
            ("quantization_config", ["quant_method": "awq"], "quantization_config 'awq'"),
            ("hidden_size", 0, "hidden_size must be"),
            ("hidden_size", "64", "hidden_size must be"),
            ("hidden_size", 9_223_372_036_854_775_807, "hidden_size must be"),
            ("hidden_size", 128, "config.json implies"),
            ("vocab_size", nil, "vocab_size is missing"),
            ("n_group", 3, "n_group must divide"),
            ("num_experts_per_tok", 9, "num_experts_per_tok is more"),
            ("qk_rope_head_dim", 7, "must be even"),
            ("q_lora_rank", nil, "q_proj"),
            ("num_hidden_layers", 5, "model.layers.4"),
            ("n_routed_experts", 32, "experts.16"),
        ]
    }

    @Test func whatIsNotComputedIsRefusedWithItsReason() throws {
        for (key, value, reason) in Self.refusals {
            let folder = try TemporaryFolder(copyOf: "tiny-random")
            try folder.edit("config.json", [(key, value)])
            let message = Self.message(folder.path)
            #expect(message.contains(reason), "\(key): \(message)")
        }
    }

    @Test func bothSpellingsOfRotarySettingsAreRead() throws {
        let folder = try TemporaryFolder(copyOf: "tiny-random")
        let expected = try ModelConfig(folder: folder.path)
        let parameters: [String: Any] = [
            "rope_type": "yarn", "rope_theta": 10000, "factor": 40, "beta_fast": 32,
            "beta_slow": 1, "mscale": 1, "mscale_all_dim": 1,
            "original_max_position_embeddings": 4096,
        ]
        try folder.edit(
            "config.json",
            [("rope_scaling", nil), ("rope_theta", nil), ("rope_parameters", parameters)])
        #expect(try ModelConfig(folder: folder.path) == expected)
        try folder.edit(
            "config.json", [("rope_parameters", ["rope_type": "default", "rope_theta": 500])])
        #expect(try ModelConfig(folder: folder.path).yarn == nil)
        #expect(try ModelConfig(folder: folder.path).ropeBase == 500)
    }

    @Test func unknownQuantisationTypesAreRefused() throws {
        let name = "model.layers.0.mlp.gate_proj.weight"
        for (kind, reason) in [
            ("W4A8_DYNAMIC", "quantisation type W4A8_DYNAMIC"), ("FLOAT", "BF16 or F32"),
            ("W8A8", "quant_bias"),
        ] {
            let folder = try TemporaryFolder(copyOf: "tiny-w8a8")
            try folder.edit("quant_model_description.json", [(name, kind)])
            #expect(Self.message(folder.path).contains(reason), "\(Self.message(folder.path))")
        }
        let folder = try TemporaryFolder(copyOf: "tiny-w8a8")
        let keyValue = "model.layers.1.self_attn.kv_b_proj.weight"
        try folder.edit("quant_model_description.json", [(keyValue, "W8A8_DYNAMIC")])
        #expect(Self.message(folder.path).contains("int8"))
        // Without the description, int8 weights are of the wrong type.
        try folder.remove("quant_model_description.json")
        #expect(Self.message(folder.path).contains("I8"))
    }

    @Test func specialTokensComeFromEitherFile() throws {
        let folder = try TemporaryFolder(copyOf: "tiny-random")
        #expect(try ModelConfig(folder: folder.path).endTokenIDs == [1])
        #expect(try ModelConfig(folder: folder.path).beginTokenID == 0)
        try folder.edit("generation_config.json", [("eos_token_id", [1, 5])])
        #expect(try ModelConfig(folder: folder.path).endTokenIDs == [1, 5])
        try folder.edit("generation_config.json", [("eos_token_id", 4096)])
        #expect(throws: CheckpointError.self) { try ModelConfig(folder: folder.path) }
        try folder.remove("generation_config.json")
        #expect(try ModelConfig(folder: folder.path).endTokenIDs == [1])
    }

    @Test func damagedJSONIsAnError() throws {
        for name in [
            "config.json", "generation_config.json", "quant_model_description.json",
            "quant_model_weight_w8a8_dynamic.safetensors.index.json",
        ] {
            let folder = try TemporaryFolder(copyOf: "tiny-w8a8")
            try folder.write(name, Array(try folder.read(name).dropLast(3)))
            #expect(Self.message(folder.path).contains(name))
        }
        let folder = try TemporaryFolder(copyOf: "tiny-random")
        let map = ["a": "../../etc/passwd"]
        try folder.edit("model.safetensors.index.json", [("weight_map", map)])
        #expect(Self.message(folder.path).contains("no file here"))
    }

    @Test func progressReachesTheTotalOfThisWorkersShare() throws {
        func progress(rank: Int, of worldSize: Int) throws -> [LoadProgress] {
            var seen: [LoadProgress] = []
            let group = InProcessGroup(worldSize: worldSize)
            _ = try DeepSeekModel(
                folder: Fixtures.model("tiny-random"),
                layout: ParallelLayout(dataParallelSize: worldSize, worker: rank),
                backend: CPUBackend(kernels: .best, threads: 1),
                collectives: InProcessCollectives(group: group, rank: rank, worldSize: worldSize),
                limits: BackendLimits(rowsMax: 8, blockCount: 4, blockSize: 4)
            ) { seen.append($0) }
            return seen
        }
        let whole = try progress(rank: 0, of: 1)
        let share = try progress(rank: 3, of: 4)
        for steps in [whole, share] {
            #expect(steps.last?.bytesDone == steps.last?.bytesTotal)
            for (step, next) in zip(steps, steps.dropFirst()) {
                #expect(step.bytesDone <= next.bytesDone)
            }
        }
        // 3 MoE layers, 12 of 16 experts less, 3 matrices of 32 x 64 BF16 each.
        let saved = try #require(whole.last).bytesTotal - (try #require(share.last).bytesTotal)
        #expect(saved == 3 * 12 * 3 * 32 * 64 * 2)
    }
}
