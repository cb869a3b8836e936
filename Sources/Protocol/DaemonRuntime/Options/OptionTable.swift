internal import Protocol

/// Every option of the three daemons, with vLLM's names where vLLM has the option.
public enum OptionTable {
    private static let everyone: OptionSpecification.Scope = .node(DaemonKind.allCases)
    private static let protocols = Int(ProtocolVersion.oldest)...Int(ProtocolVersion.current)
    public static let all: [OptionSpecification] = deployment + node + launcher

    static let deployment: [OptionSpecification] = [
        .init("model", .text, .deployment, help: "Folder of the checkpoint (Hugging Face layout)."),
        .init(
            "served-model-name", .text, .deployment,
            help: "Name of the model in the API; default: the model folder as given."),
        .init(
            "tokenizer", .text, .deployment,
            help: "Folder with tokenizer.json; default: the model's."),
        .init(
            "max-model-len", .integer(1...16_777_216), .deployment,
            help: "Longest prompt plus output; default: the checkpoint's max_position_embeddings."),
        .init(
            "max-num-seqs", .integer(1...65_536), .deployment, default: "256",
            help: "Sequences that a DP rank runs at once."),
        .init(
            "max-num-batched-tokens", .integer(1...1_048_576), .deployment, default: "2048",
            help: "Tokens that a DP rank computes in one tick."),
        .init(
            "max-num-queued-reqs", .integer(0...1_048_576), .deployment, default: "1024",
            isReloadable: true,
            help: "Sequences that wait at a DP rank beyond those that run; more are answered 429."),
        .init(
            "block-size", .integer(1...1024), .deployment, default: "16",
            help: "Tokens a block of the latent cache."),
        .init(
            "num-gpu-blocks-override", .integer(1...1_000_000_000), .deployment,
            help: "Blocks of the latent cache a DP rank, instead of the number that fits."),
        .init(
            "kv-cache-memory-bytes", .integer(1...(1 << 50)), .deployment, default: "1073741824",
            help: "Memory of the latent cache a worker."),
        .init(
            "gpu-memory-utilization", .number(0.01...1), .deployment,
            help: "Only with --device ascend."),
        .init(
            "dtype", .choice(["auto", "bfloat16", "float32"]), .deployment, default: "auto",
            refused: [
                "float16": "this backend computes in bfloat16 or float32",
                "half": "this backend computes in bfloat16 or float32",
            ], help: "Type of the inputs of products; auto: the checkpoint's, else float32."),
        .init(
            "kv-cache-dtype", .choice(["auto", "bfloat16", "float32", "int8"]), .deployment,
            default: "auto",
            refused: ["fp8": "the latent cache is bfloat16, float32 or int8; int8 halves it too"],
            help: "Type of the latent cache; auto: that of --dtype."),
        .init(
            "quantization", .choice(["ascend", "fp8", "w8a8"]), .deployment,
            help: "w8a8: int8 at load; else checked against the checkpoint."),
        .init(
            "seed", .integer(0...Int.max), .deployment,
            help: "Makes requests without a seed repeatable; default: a random one each."),
        .init(
            "data-parallel-size", .integer(1...512), .deployment, default: "1",
            help: "DP ranks: independent requests and caches, common experts."),
        .init(
            "data-parallel-size-min", .integer(1...512), .deployment,
            help: "DP ranks without which nothing is served; default: half of them."),
        .init(
            "data-parallel-size-max", .integer(1...512), .deployment,
            help: "DP ranks that may be added to; default: 512 workers in all."),
        .init(
            "tensor-parallel-size", .integer(1...64), .deployment, default: "1",
            help: "Workers a DP rank, on one node: they divide heads and vocabulary."),
        .init(
            "enable-expert-parallel", .flag, .deployment, default: "false",
            help: "Each worker has some of the experts; else each has a slice of every expert."),
        .init(
            "data-parallel-sync-interval", .integer(1...1024), .deployment, default: "1",
            help: "Ticks between two judgements of whether the group is idle."),
        .init(
            "max-prefill-tokens-per-tick", .integer(0...1_048_576), .deployment,
            help: "Prompt tokens that lengthen a tick in which a rank decodes; 0: no bound."),
        .init(
            "prefill-schedule-interval", .integer(1...1024), .deployment, default: "1",
            help: "While a rank decodes, prompts are computed in every so many-th tick."),
        .init(
            "enable-chunked-prefill", .flag, .deployment, default: "true",
            help: "Long prompts are computed in pieces beside decoding sequences."),
        .init(
            "enable-prefix-caching", .flag, .deployment, default: "true",
            help: "Prompts that begin like an earlier one reuse its part of the latent cache."),
        .init(
            "scheduling-policy", .choice(["fcfs", "priority"]), .deployment, default: "fcfs",
            help: "Order of waiting requests."),
        .init(
            "additional-config", .text, .deployment, default: "{}",
            check: AdditionalConfiguration.problem,
            help: "JSON; of vLLM-Ascend's keys ascend_scheduler_config and torchair_graph_config."),
        .init(
            "max-logprobs", .integer(0...1024), .deployment, default: "20", isReloadable: true,
            help: "Largest logprobs that a request may ask for."),
        .init(
            "generation-config", .choice(["auto", "vllm"]), .deployment, default: "auto",
            help: "auto: sampling defaults from generation_config.json; vllm: neutral ones."),
        .init(
            "trust-remote-code", .flag, .deployment, default: "false",
            help: "Accepted and without effect: no code of a checkpoint is ever run."),
        .init(
            "collectives", .choice(["auto", "shared-memory", "ucx"]), .deployment, default: "auto",
            help: "Transport between workers; auto: shared memory on one host, else UCX."),
        .init(
            "exchange-timeout", .integer(100...3_600_000), .deployment, default: "30000",
            help: "Milliseconds that a rank waits for its peers in a collective operation."),
    ]

    static let node: [OptionSpecification] = [
        .init("config", .text, everyone, help: "YAML file with these options as keys."),
        .init(
            "log-level", .choice(["error", "warning", "notice", "info", "debug"]), everyone,
            default: "info", isReloadable: true, help: "Least severe message that is logged."),
        .init(
            "data-parallel-address", .text, everyone, default: "127.0.0.1",
            help: "Address of the coordinator."),
        .init(
            "data-parallel-rpc-port", .integer(0...65_535), everyone, default: "13389",
            help: "Port of the coordinator; 0 lets the system pick one (coordinator only)."),
        .init(
            "keys", .text, everyone,
            help: "Folder with the keys of links, as phalanxctl keys makes it: links are encrypted "
                + "and authenticated."),
        .init(
            "keys-at-reload", .text, everyone,
            help: "Folder of keys that a reload takes instead of those of --keys, once it has the "
                + "daemon's secret."),
        .init(
            "plaintext-links", .flag, everyone, default: "false",
            help: "Links that leave the host need no keys; only for networks that nobody else "
                + "reaches."),
        .init(
            "protocol-max", .integer(protocols), everyone,
            help: "Newest version of the wire protocol that this process speaks; default: all it "
                + "knows. For upgrades process by process."),
        .init(
            "protocol-min", .integer(protocols), everyone,
            help: "Oldest version of the wire protocol that this process speaks: who speaks none "
                + "from it on is refused; default: all it knows."),
        .init(
            "host", .text, .node([.gateway]), default: "127.0.0.1",
            help: "Address on which HTTP is served."),
        .init(
            "port", .integer(0...65_535), .node([.gateway]), default: "8000",
            help: "Port on which HTTP is served; 0 lets the system pick one."),
        .init(
            "data-parallel-hybrid-lb", .flag, .node([.gateway]), default: "false",
            help: "Serve the DP ranks of this node alone."),
        .init(
            "data-parallel-external-lb", .flag, .node([.gateway]), default: "false",
            help: "Serve the DP rank of --data-parallel-rank alone."),
        .init(
            "data-parallel-rank", .integer(0...511), .node([.gateway]),
            help: "The one DP rank that this gateway serves."),
        .init(
            "api-key", .list, .node([.gateway]), isReloadable: true,
            help: "Keys of which a client must present one."),
        .init(
            "ssl-certfile", .text, .node([.gateway]), isReloadable: true,
            help: "PEM certificate chain: serves HTTPS."),
        .init(
            "ssl-keyfile", .text, .node([.gateway]), isReloadable: true,
            help: "PEM key of the certificate."),
        .init(
            "enable-prompt-tokens-details", .flag, .node([.gateway]), default: "false",
            isReloadable: true,
            help: "usage says how many tokens of the prompt were in the prefix cache."),
        .init(
            "shutdown-timeout", .integer(0...86_400), .node([.gateway, .worker]), default: "30",
            isReloadable: true,
            help: "Seconds that running requests may take to finish after SIGTERM."),
        .init(
            "device", .choice(["cpu"]), .node([.worker]), default: "cpu",
            refused: ["ascend": "this version has no Ascend backend"],
            help: "Kind of accelerator."),
        .init(
            "device-index", .integer(0...1023), .node([.worker]), default: "0",
            help: "Which of the node's accelerators this worker drives."),
        .init(
            "node-name", .text, everyone, help: "Which node this is; default: the host's name."),
        .init(
            "data-parallel-start-rank", .integer(0...511), .node([.worker]),
            help: "First DP rank of this node: device i is worker rank * TP + i; default: a free "
                + "place."),
        .init(
            "data-parallel-size-local", .integer(0...512), .node([.worker]),
            help: "DP ranks of this node; default: all."),
        .init(
            "worker-address", .text, .node([.worker]), default: "127.0.0.1",
            help: "Address on which gateways reach this worker."),
        .init(
            "worker-threads", .integer(0...1024), .node([.worker]), default: "0",
            help: "Threads of the kernels; 0: the processors divided by the number of workers."),
        .init(
            "kernel-level",
            .choice(["auto", "reference", "avx2", "avx512", "avx512_bf16", "amx"]),
            .node([.worker]), default: "auto", help: "Instruction set of the kernels."),
        .init(
            "packed-weights-cache", .text, .node([.worker]),
            help: "Folder for files of packed weights, shared by the workers of a host."),
        .init(
            "collectives-device", .text, .node([.worker]),
            help: "Network device for UCX, as in UCX_NET_DEVICES."),
        .init(
            "lease", .integer(100...600_000), .node([.coordinator]), default: "5000",
            isReloadable: true,
            help: "Milliseconds of silence after which a peer counts as lost."),
        .init(
            "ready-timeout", .integer(1...86_400), .node([.coordinator, .worker]), default: "600",
            isReloadable: true,
            help: "Seconds that workers have to appear, load the model and connect; that the "
                + "coordinator has to answer a worker."),
    ]

    static let launcher: [OptionSpecification] = [
        .init(
            "headless", .flag, .launcher, default: "false",
            help: "No gateway on this node; on a command line no coordinator either.")
    ]

    public static func specification(of name: String) -> OptionSpecification? {
        all.first { $0.name == name }
    }

    /// The known name nearest to `name` by edit distance, when it is near enough to be meant.
    static func nearest(to name: String) -> String? {
        nearest(to: name, among: all.map(\.name))
    }

    public static func nearest(to name: String, among known: [String]) -> String? {
        let scored = known.map { ($0, editDistance(Array($0.utf8), Array(name.utf8))) }
        guard let best = scored.min(by: { $0.1 < $1.1 }) else { return nil }
        return best.1 <= max(2, name.utf8.count / 3) ? best.0 : nil
    }

    /// Levenshtein distance.
    static func editDistance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        var previous = Array(0...right.count)
        for (row, byte) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                let replaced = previous[column] + (byte == other ? 0 : 1)
                current.append(min(replaced, previous[column + 1] + 1, current[column] + 1))
            }
            previous = current
        }
        return previous[right.count]
    }
}
