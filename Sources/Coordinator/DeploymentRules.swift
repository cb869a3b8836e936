internal import DaemonRuntime

/// Options that do not fit together, found before anything starts.
enum DeploymentRules {
    static func check(_ options: Options) throws(OptionError) {
        guard options.text("model") != nil else {
            throw OptionError(
                description: "no model: give the checkpoint's folder as first argument or --model")
        }
        let dataParallelSize = options.requiredInteger("data-parallel-size")
        let tensorParallelSize = options.requiredInteger("tensor-parallel-size")
        let workers = dataParallelSize * tensorParallelSize
        let workersMax = Options.workersMax
        if workers > workersMax {
            throw OptionError(
                description: "--data-parallel-size \(dataParallelSize) times "
                    + "--tensor-parallel-size \(tensorParallelSize) are \(workers) workers; a "
                    + "group has at most \(workersMax)")
        }
        let (least, most) = (options.dataParallelSizeMin, options.dataParallelSizeMax)
        guard least <= dataParallelSize, dataParallelSize <= most else {
            throw OptionError(
                description: "--data-parallel-size \(dataParallelSize) is not between "
                    + "--data-parallel-size-min \(least) and --data-parallel-size-max \(most)")
        }
        if most * tensorParallelSize > workersMax {
            throw OptionError(
                description: "--data-parallel-size-max \(most) times --tensor-parallel-size "
                    + "\(tensorParallelSize) are more than \(workersMax) workers")
        }
        if options.text("gpu-memory-utilization") != nil {
            throw OptionError(
                description: "--gpu-memory-utilization: sizes device memory, and --device cpu has "
                    + "none; use --kv-cache-memory-bytes")
        }
        let additional = try AdditionalConfiguration(options.requiredText("additional-config"))
        let isChunked = options.flag("enable-chunked-prefill") && !additional.prefillFirst
        if let tokens = options.integer("max-prefill-tokens-per-tick"), tokens > 0, !isChunked {
            throw OptionError(
                description: "--max-prefill-tokens-per-tick \(tokens): without chunked prefill a "
                    + "prompt is computed whole and cannot be bounded; leave it out or turn on "
                    + "--enable-chunked-prefill")
        }
        let batched = options.requiredInteger("max-num-batched-tokens")
        let sequences = options.requiredInteger("max-num-seqs")
        if batched < sequences {
            throw OptionError(
                description: "--max-num-batched-tokens \(batched) is less than --max-num-seqs "
                    + "\(sequences): every running sequence needs a token a tick")
        }
        do throws(OptionError) {
            _ = try additional.graph.batchSizes(
                sequencesMax: sequences, rowsMax: batched, tensorParallelSize: tensorParallelSize)
        } catch {
            throw OptionError(description: "--additional-config: \(error.description)")
        }
    }
}
