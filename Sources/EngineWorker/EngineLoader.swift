internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// Why an engine cannot be set up: options against checkpoint, checkpoint, memory.
package struct EngineLoadError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}

/// From configuration to a loaded engine: reads the checkpoint, sizes the latent cache, and checks
/// that the limits fit each other and the model.
enum EngineLoader {
    static func load(
        _ configuration: EngineConfiguration,
        progress: EngineProgress,
        emit: @escaping ([EngineEvent]) -> Void
    ) throws(EngineLoadError) -> (engine: Engine, facts: EngineFacts) {
        let folder = configuration.modelFolder
        let config = try modelConfig(folder, configuration)
        let length = configuration.maxModelLength ?? config.positionCountMax
        guard length <= config.positionCountMax else {
            throw EngineLoadError(
                "--max-model-len \(length) is more than the \(config.positionCountMax) of \(folder)"
            )
        }
        let blockCount = try blockCount(configuration, config, length: length)
        let limits: SchedulerLimits
        do throws(SchedulerLimitsError) {
            limits = try SchedulerLimits(
                maxSequencesRunning: configuration.maxSequencesRunning,
                maxBatchedTokens: configuration.maxBatchedTokens,
                maxModelLength: length,
                maxSequencesWaiting: configuration.maxSequencesWaiting,
                blockCount: blockCount,
                blockSize: configuration.blockSize,
                chunkedPrefill: configuration.chunkedPrefill && !configuration.prefillFirst,
                prefillFirst: configuration.prefillFirst,
                prefixCaching: configuration.prefixCaching,
                policy: configuration.priorityScheduling ? .priority : .firstComeFirstServed,
                eosTokenIDs: config.endTokenIDs,
                vocabularyCount: config.vocabularySize)
        } catch {
            throw EngineLoadError("\(error)")
        }
        let backend = try backend(configuration, config, emit: emit)
        let model = try model(
            configuration, config, backend: backend, blockCount: blockCount, emit: emit)
        let sampler = Sampler(
            vocabularyCount: config.vocabularySize,
            tokenizerVocabularyCount: min(
                TokenizerVocabulary.count(folder: folder) ?? config.vocabularySize,
                config.vocabularySize),
            eosTokenIDs: config.endTokenIDs,
            runner: backend)
        let engine = Engine(
            configuration,
            model: model,
            scheduler: Scheduler(limits: limits),
            sampler: sampler,
            progress: progress,
            emit: emit)
        let facts = EngineFacts(
            digest: model.digest,
            blockCount: blockCount,
            blockSize: configuration.blockSize,
            maxModelLength: length,
            description: "\(folder), \(config.layerCount) layers, "
                + "\(share(of: model)), "
                + cacheDescription(configuration, config, blockCount: blockCount))
        return (engine, facts)
    }

    /// For people: what of the model this worker has.
    private static func share(of model: DeepSeekModel) -> String {
        let (layout, config) = (model.layout, model.config)
        var share: String
        switch model.division {
        case .byExpert:
            let experts = ParallelLayout.part(
                config.expertCount, index: layout.worker, of: layout.worldSize)
            share = "experts \(experts) of \(config.expertCount)"
        case .bySlice:
            share = "slice \(layout.worker) of \(layout.worldSize) of all experts"
        }
        if layout.tensorParallelSize > 1 {
            share += ", heads \(layout.ownPart(config.headCount)) of \(config.headCount)"
        }
        return share
    }

    private static func modelConfig(
        _ folder: String, _ configuration: EngineConfiguration
    ) throws(EngineLoadError) -> ModelConfig {
        let checkpoint: Checkpoint
        do throws(CheckpointError) {
            checkpoint = try Checkpoint(folder: folder)
        } catch {
            throw EngineLoadError("\(error)")
        }
        let found = quantization(of: checkpoint)
        if let wanted = configuration.quantization, wanted != found, wanted != "w8a8" {
            throw EngineLoadError(
                "--quantization \(wanted): the checkpoint \(folder) is \(found ?? "not quantised")")
        }
        if configuration.quantization == "w8a8", found == "ascend" {
            throw EngineLoadError(
                "--quantization w8a8: the checkpoint \(folder) is W8A8 already; use ascend")
        }
        return checkpoint.config
    }

    /// In the words of `--quantization`; nil for plain BF16 or F32.
    private static func quantization(of checkpoint: Checkpoint) -> String? {
        if checkpoint.config.fp8Block != nil { return "fp8" }
        var hasInt8 = false
        checkpoint.forEachTensor { if $0.type == .i8 { hasInt8 = true } }
        return hasInt8 ? "ascend" : nil
    }

    /// As many blocks as the memory for the cache holds, but no more than all sequences together
    /// could fill.
    private static func blockCount(
        _ configuration: EngineConfiguration, _ config: ModelConfig, length: Int
    ) throws(EngineLoadError) -> Int {
        let blockSize = configuration.blockSize
        let needed = (length + blockSize - 1) / blockSize
        let count: Int
        if let override = configuration.blockCountOverride {
            count = override
        } else {
            let bytes = CPUBackend.bytesPerBlock(
                config, blockSize: blockSize, cacheType: cacheType(configuration, config))
            count = min(
                configuration.cacheBytes / bytes,
                needed.multipliedReportingOverflow(by: configuration.maxSequencesRunning)
                    .partialValue)
            // As in vLLM, the longest request must fit; an override is taken as it is.
            guard count >= needed else {
                throw EngineLoadError(
                    "the KV cache of \(configuration.cacheBytes) bytes holds \(count * blockSize) "
                        + "tokens, less than --max-model-len \(length): raise "
                        + "--kv-cache-memory-bytes to \(needed * bytes) or lower --max-model-len "
                        + "to \(count * blockSize)")
            }
        }
        return count
    }

    /// `--dtype`; auto is what the checkpoint was made in, as far as it is supported.
    private static func elementType(
        _ configuration: EngineConfiguration, _ config: ModelConfig
    ) -> CPUBackend.ElementType {
        let name =
            configuration.elementType == "auto" ? config.elementType : configuration.elementType
        return name == "bfloat16" ? .bfloat16 : .float32
    }

    private static func cacheType(
        _ configuration: EngineConfiguration, _ config: ModelConfig
    ) -> CPUBackend.CacheType {
        CPUBackend.CacheType(rawValue: configuration.cacheType)
            ?? elementType(configuration, config).cacheType
    }

    /// For people: how many tokens the cache of a worker holds, and what one takes over all layers.
    private static func cacheDescription(
        _ configuration: EngineConfiguration, _ config: ModelConfig, blockCount: Int
    ) -> String {
        let type = cacheType(configuration, config)
        let bytes = CPUBackend.bytesPerBlock(config, blockSize: 1, cacheType: type)
        return "KV cache of \(blockCount * configuration.blockSize) tokens, \(bytes) bytes each "
            + "(\(type.stored(for: config)))"
    }

    private static func backend(
        _ configuration: EngineConfiguration, _ config: ModelConfig,
        emit: @escaping ([EngineEvent]) -> Void
    ) throws(EngineLoadError) -> CPUBackend {
        let processors = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let threads =
            configuration.threadCount > 0
            ? configuration.threadCount : max(1, processors / configuration.layout.worldSize)
        let level =
            CPUBackend.KernelLevel.allCases.first { $0.name == configuration.kernelLevel } ?? .best
        do throws(BackendError) {
            return try CPUBackend(
                kernels: level, threads: min(threads, CPUBackend.threadCountMax),
                elementType: elementType(configuration, config),
                cacheType: cacheType(configuration, config),
                quantizesWeights: configuration.quantization == "w8a8",
                weightsCache: configuration.weightsCacheFolder.map { folder in
                    PackedWeightsCache(folder: folder) { emit([.weightsCache($0)]) }
                })
        } catch {
            throw EngineLoadError("\(error)")
        }
    }

    private static func model(
        _ configuration: EngineConfiguration, _ config: ModelConfig, backend: CPUBackend,
        blockCount: Int, emit: @escaping ([EngineEvent]) -> Void
    ) throws(EngineLoadError) -> DeepSeekModel {
        let layout = configuration.layout
        var reported = MonotonicClock.now()
        do throws(ModelLoadError) {
            return try DeepSeekModel(
                folder: configuration.modelFolder,
                layout: layout,
                division: configuration.division,
                backend: backend,
                collectives: UnconnectedCollectives(
                    rank: layout.worker, worldSize: layout.worldSize),
                limits: BackendLimits(
                    rowsMax: configuration.maxBatchedTokens, blockCount: blockCount,
                    blockSize: configuration.blockSize,
                    paddingRowsMax: configuration.batchSizes.largest)
            ) { progress in
                let now = MonotonicClock.now()
                let isLast = progress.bytesDone == progress.bytesTotal
                guard isLast || now - reported > .milliseconds(100) else { return }
                reported = now
                let (done, total) = (UInt64(progress.bytesDone), UInt64(progress.bytesTotal))
                emit([.loading(bytes: done, of: total)])
            }
        } catch {
            throw EngineLoadError("\(error)")
        }
    }
}
