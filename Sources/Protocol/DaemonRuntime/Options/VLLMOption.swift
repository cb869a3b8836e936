/// An option of `vllm serve` that is none of Phalanx's: accepted with a note where leaving it out
/// changes nothing, and else refused with the reason. ``OptionTable`` has those that are honoured.
public struct VLLMOption: Sendable {
    public enum Verdict: Hashable, Sendable {
        /// Any value: what it asks for does not arise here, or is always so.
        case withoutEffect(String)
        /// These values say what is so anyway; another one is refused.
        case only([String], String)
        case refused(String)
    }

    public let name: String
    public let takesValue: Bool
    public let verdict: Verdict

    init(_ name: String, flag: Bool = false, _ verdict: Verdict) {
        self.name = name
        takesValue = !flag
        self.verdict = verdict
    }

    /// Why `value` is refused, or nil; then ``note`` says why it does nothing.
    public func refusal(of value: String) -> String? {
        switch verdict {
        case .withoutEffect: nil
        case .only(let values, let reason): values.contains(value) ? nil : reason
        case .refused(let reason): reason
        }
    }

    public var note: String {
        switch verdict {
        case .withoutEffect(let text), .only(_, let text), .refused(let text): text
        }
    }

    /// For a daemon or a file, which take none of them.
    func reason(for value: String) -> String {
        if case .refused(let reason) = verdict { return "is refused: \(reason)" }
        return "is an option of vLLM without effect here; leave it out: \(note)"
    }

    public static func named(_ name: String) -> VLLMOption? { all.first { $0.name == name } }

    /// vLLM's short forms.
    public static let shortForms: [String: String] = [
        "-dp": "data-parallel-size", "-dpl": "data-parallel-size-local",
        "-dpr": "data-parallel-start-rank", "-dpa": "data-parallel-address",
        "-dpp": "data-parallel-rpc-port", "-dpn": "data-parallel-rank",
        "-dpb": "data-parallel-backend", "-dph": "data-parallel-hybrid-lb",
        "-dpe": "data-parallel-external-lb", "-dpm": "data-parallel-multi-port-external-lb",
        "-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size",
        "-ep": "enable-expert-parallel", "-q": "quantization", "-asc": "api-server-count",
        "-cc": "compilation-config", "-O": "compilation-config",
    ]

    private static let noTools = "tool calls are not supported"
    private static let noReasoning = "what a model thinks is part of the answer's text"
    private static let noGraph = "nothing is captured or compiled on the CPU"
    private static let localFolder = "the model is a local folder"
    private static let oneBalancer =
        "start a gateway a rank with --data-parallel-external-lb and a port of its own"
    private static let oneNodeRank = "a DP rank does not span nodes"
    private static let noStructure = "structured output is not supported"

    public static let all: [VLLMOption] = parallel + engine + server

    private static let parallel: [VLLMOption] = [
        .init("pipeline-parallel-size", .only(["1"], "there are no pipeline stages")),
        .init("decode-context-parallel-size", .only(["1"], "a cache is not split")),
        .init("data-parallel-multi-port-external-lb", flag: true, .refused(oneBalancer)),
        .init("data-parallel-backend", .only(["mp"], "processes are started without Ray")),
        .init(
            "distributed-executor-backend",
            .only(["mp", "uni"], "processes are started without Ray")),
        .init("nnodes", .only(["1"], oneNodeRank)),
        .init("node-rank", .only(["0"], oneNodeRank)),
        .init("master-addr", .withoutEffect("there is no rendezvous but the coordinator")),
        .init("master-port", .withoutEffect("there is no rendezvous but the coordinator")),
        .init("all2all-backend", .withoutEffect("--collectives chooses the transport")),
        .init(
            "disable-nccl-for-dp-synchronization", flag: true,
            .withoutEffect("ranks meet once a tick, without NCCL")),
        .init(
            "enable-ep-weight-filter", flag: true,
            .withoutEffect("a worker always reads its own experts alone")),
        .init("expert-placement-strategy", .only(["linear"], "experts are contiguous ranges")),
        .init("enable-eplb", flag: true, .refused("experts stay where they are")),
        .init("eplb-config", .refused("experts stay where they are")),
        .init("enable-dbo", flag: true, .refused("computing and exchange do not overlap")),
        .init(
            "enable-elastic-ep", flag: true,
            .withoutEffect("the group always follows who is here")),
        .init(
            "enable-fault-tolerance", flag: true,
            .withoutEffect("a lost worker may always come back")),
    ]

    private static let engine: [VLLMOption] = [
        .init("enforce-eager", flag: true, .withoutEffect(noGraph)),
        .init("compilation-config", .withoutEffect(noGraph)),
        .init("max-seq-len-to-capture", .withoutEffect(noGraph)),
        .init("cudagraph-capture-sizes", .withoutEffect(noGraph)),
        .init("async-scheduling", flag: true, .withoutEffect("a tick plans for itself")),
        .init("swap-space", .withoutEffect("what is preempted is computed again")),
        .init("cpu-offload-gb", .only(["0"], "weights are in host memory as it is")),
        .init("load-format", .only(["auto", "safetensors"], "checkpoints are safetensors")),
        .init("max-parallel-loading-workers", .withoutEffect("each worker loads for itself")),
        .init("tokenizer-mode", .only(["auto"], "there is one tokenizer")),
        .init("prefix-caching-hash-algo", .only(["sha256"], "blocks are named by SHA-256")),
        .init("revision", .refused(localFolder)),
        .init("tokenizer-revision", .refused(localFolder)),
        .init("download-dir", .refused(localFolder)),
        .init("hf-overrides", .refused("edit config.json in a copy of the folder")),
        .init("rope-scaling", .refused("edit config.json in a copy of the folder")),
        .init("speculative-config", .refused("there is no speculative decoding")),
        .init("kv-transfer-config", .refused("prefill and decode are not separated")),
        .init("enable-lora", flag: true, .refused("adapters are not supported")),
        .init("lora-modules", .refused("adapters are not supported")),
        .init("enable-sleep-mode", flag: true, .refused("stop the workers instead")),
        .init("limit-mm-per-prompt", .refused("prompts are text")),
        .init("structured-outputs-config", .refused(noStructure)),
        .init("guided-decoding-backend", .refused(noStructure)),
        .init("logits-processors", .refused("no foreign code is run")),
        .init("max-num-partial-prefills", .only(["1"], "prompts are computed in order")),
    ]

    private static let server: [VLLMOption] = [
        .init(
            "api-server-count", .only(["1"], "a node has one gateway; run more of them as needed")),
        .init("enable-log-requests", flag: true, .refused("requests are not logged")),
        .init("disable-log-requests", flag: true, .withoutEffect("requests are not logged")),
        .init("disable-log-stats", flag: true, .withoutEffect("figures are in /metrics alone")),
        .init("disable-uvicorn-access-log", flag: true, .withoutEffect("requests are not logged")),
        .init("uvicorn-log-level", .withoutEffect("--log-level is for all")),
        .init("chat-template", .refused("the templates of V3-0324 and R1 are built in")),
        .init("chat-template-content-format", .only(["auto", "string"], "messages are text")),
        .init("response-role", .only(["assistant"], "answers have the role assistant")),
        .init("enable-auto-tool-choice", flag: true, .refused(noTools)),
        .init("tool-call-parser", .refused(noTools)),
        .init("reasoning-parser", .refused(noReasoning)),
        .init("enable-reasoning", flag: true, .refused(noReasoning)),
        .init("ssl-ca-certs", .refused("clients present keys, not certificates")),
        .init("root-path", .refused("let the proxy take the prefix away")),
        .init("allowed-origins", .refused("there is no CORS: let a proxy answer it")),
    ]
}
