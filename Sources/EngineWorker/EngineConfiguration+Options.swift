internal import DaemonRuntime
internal import Glibc
internal import Protocol

extension EngineConfiguration {
    /// - Parameter options: with the coordinator's deployment-wide values in place.
    init(
        _ options: Options, position: GroupPosition, dpRank: UInt32
    ) throws(OptionError) {
        guard let model = options.text("model") else {
            throw OptionError(description: "the coordinator names no model")
        }
        let additional = try AdditionalConfiguration(options.requiredText("additional-config"))
        let running = options.requiredInteger("max-num-seqs")
        let tensorParallelSize = options.requiredInteger("tensor-parallel-size")
        guard let layout = ParallelLayout(position, tensorParallelSize: tensorParallelSize) else {
            throw OptionError(
                description: "the coordinator makes this worker \(position), which is no group of "
                    + "DP ranks of \(tensorParallelSize)")
        }
        self.init(
            modelFolder: model,
            layout: layout,
            dpRank: Int(dpRank),
            division: options.flag("enable-expert-parallel") ? .byExpert : .bySlice,
            maxSequencesRunning: running,
            maxSequencesWaiting: Self.maxSequencesWaiting(options),
            maxBatchedTokens: options.requiredInteger("max-num-batched-tokens"),
            maxModelLength: options.integer("max-model-len"),
            blockSize: options.requiredInteger("block-size"),
            blockCountOverride: options.integer("num-gpu-blocks-override"),
            cacheBytes: options.requiredInteger("kv-cache-memory-bytes"),
            chunkedPrefill: options.flag("enable-chunked-prefill"),
            prefixCaching: options.flag("enable-prefix-caching"),
            prefillFirst: additional.prefillFirst,
            priorityScheduling: options.text("scheduling-policy") == "priority",
            syncInterval: options.requiredInteger("data-parallel-sync-interval"),
            exchangeTimeout: .milliseconds(options.requiredInteger("exchange-timeout")),
            collectives: Self.collectives(options.requiredText("collectives")),
            collectivesDevice: Self.collectivesDevice(options),
            elementType: options.requiredText("dtype"),
            cacheType: options.requiredText("kv-cache-dtype"),
            quantization: options.text("quantization"),
            kernelLevel: options.requiredText("kernel-level"),
            threadCount: options.requiredInteger("worker-threads"),
            weightsCacheFolder: options.text("packed-weights-cache"),
            prefill: Self.prefill(options, additional),
            batchSizes: BatchSizes(
                try additional.graph.batchSizes(
                    sequencesMax: running,
                    rowsMax: options.requiredInteger("max-num-batched-tokens"),
                    tensorParallelSize: tensorParallelSize)))
    }

    /// A sequence waits at least until the next tick, so those that will run count too.
    static func maxSequencesWaiting(_ options: Options) -> Int {
        options.requiredInteger("max-num-seqs") + options.requiredInteger("max-num-queued-reqs")
    }

    /// A prompt that is computed whole cannot be bounded.
    private static func prefill(
        _ options: Options, _ additional: AdditionalConfiguration
    ) -> PrefillNegotiation {
        let isChunked = options.flag("enable-chunked-prefill") && !additional.prefillFirst
        let tokens = options.integer("max-prefill-tokens-per-tick") ?? prefillTokensDefault
        return PrefillNegotiation(
            tokensMax: isChunked ? tokens : 0,
            interval: UInt64(options.requiredInteger("prefill-schedule-interval")))
    }

    /// `--max-prefill-tokens-per-tick` where none is given.
    static let prefillTokensDefault = 512

    /// A worker that gateways reach by loopback alone must not listen elsewhere either, as UCX does
    /// by itself; who names devices, here or in UCX's own variable, is obeyed.
    private static func collectivesDevice(_ options: Options) -> String? {
        if let device = options.text("collectives-device") { return device }
        let address = options.requiredText("worker-address")
        let isLoopback = address.hasPrefix("127.") || address == "::1" || address == "[::1]"
        return isLoopback && getenv("UCX_NET_DEVICES") == nil ? "lo" : nil
    }

    private static func collectives(_ name: String) -> CollectivesKind {
        switch name {
        case "shared-memory": .sharedMemory
        case "ucx": .ucx
        default: .automatic
        }
    }
}

extension GroupPosition {
    /// Where the coordinator does not say: among all that the deployment begins with.
    static func first(of worker: UInt32, _ options: Options) -> GroupPosition {
        let dataParallelSize = options.requiredInteger("data-parallel-size")
        let tensorParallelSize = options.requiredInteger("tensor-parallel-size")
        return GroupPosition(
            rank: worker, worldSize: UInt32(dataParallelSize * tensorParallelSize))
    }
}
