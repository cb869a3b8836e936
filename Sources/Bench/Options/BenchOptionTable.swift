public import DaemonRuntime

/// The options of `phalanx-bench serve`: names and defaults of `vllm bench serve`.
public enum BenchOptionTable {
    private static let here: OptionSpecification.Scope = .node([])
    private static let count: OptionSpecification.Kind = .integer(0...16_777_216)
    private static let natural: OptionSpecification.Kind = .integer(1...16_777_216)

    public static let all: [OptionSpecification] = server + load + sampling + results

    static let server: [OptionSpecification] = [
        .init(
            "backend", .choice(BenchConfiguration.Backend.allCases.map(\.rawValue)), here,
            default: "openai", help: "Completions (openai, vllm) or chats (openai-chat)."),
        .init(
            "base-url", .text, here,
            help: "http://host:port/prefix of the server, instead of --host and --port."),
        .init("host", .text, here, default: "127.0.0.1", help: "Host of the server."),
        .init("port", .integer(1...65_535), here, default: "8000", help: "Port of the server."),
        .init("endpoint", .text, here, default: "/v1/completions", help: "Path of the requests."),
        .init(
            "header", .list, here, help: "KEY=VALUE ...: header fields of every request."),
        .init(
            "model", .text, here, help: "Name of the model; default: the first of /v1/models."),
        .init(
            "served-model-name", .text, here,
            help: "Name of the model in requests; default: --model."),
        .init(
            "tokenizer", .text, here,
            help: "Folder with tokenizer.json; default: the folder that --model or the root of "
                + "/v1/models names."),
        .init(
            "skip-tokenizer-init", .flag, here, default: "false",
            help: "No tokenizer: prompts are token ids (1000 to 1999), and a stream without usage "
                + "has one token an event."),
        .init(
            "ready-check-timeout-sec", .integer(0...86_400), here, default: "0",
            help: "Seconds in which a test request must succeed before the run; 0: none is sent."),
        .init(
            "request-timeout-sec", .integer(1...86_400), here, default: "21600",
            help: "Seconds after which a request without an end has failed."),
        .init(
            "connect-timeout-sec", .integer(1...86_400), here, default: "30",
            help: "Seconds after which a connection without an answer has failed."),
    ]

    static let load: [OptionSpecification] = [
        .init("dataset-name", .choice(["random"]), here, default: "random", help: "The data set."),
        .init("num-prompts", natural, here, default: "1000", help: "Requests to send."),
        .init("input-len", natural, here, help: "The same as --random-input-len."),
        .init("output-len", natural, here, help: "The same as --random-output-len."),
        .init(
            "random-input-len", natural, here, default: "1024",
            help: "Tokens of a prompt, special ones that the server adds included."),
        .init("random-output-len", natural, here, default: "128", help: "Tokens of an answer."),
        .init(
            "random-range-ratio", .text, here, default: "0.0",
            help: "Lengths vary by this part of the mean: a number from 0 to below 1, or "
                + "{\"input\": number, \"output\": number}."),
        .init(
            "random-prefix-len", count, here, default: "0",
            help: "Tokens in front that all prompts have in common."),
        .init(
            "random-batch-size", .choice(["1"]), here, default: "1",
            help: "Prompts a request; only 1 is supported."),
        .init(
            "seed", .integer(0...Int.max), here, default: "0",
            help: "The same seed gives the same prompts, lengths and arrivals."),
        .init(
            "request-rate", .number(1e-6 ... .infinity), here, default: "inf",
            help: "Requests a second; inf sends all at once."),
        .init(
            "burstiness", .number(1e-3 ... .infinity), here, default: "1.0",
            help: "Shape of the gamma distribution of gaps: 1 Poisson, less burstier, inf even."),
        .init(
            "max-concurrency", .integer(1...65_536), here,
            help: "Most requests under way at once; default: no limit."),
        .init(
            "num-warmups", count, here, default: "0",
            help: "Requests before the run that are not counted."),
        .init(
            "request-id-prefix", .text, here,
            help: "x-request-id is this and the request's number; default: bench-<8 hex digits>-."),
        .init(
            "disable-tqdm", .flag, here, default: "false",
            help: "No progress bar (there is none unless stderr is a terminal)."),
    ]

    static let sampling: [OptionSpecification] = [
        .init(
            "ignore-eos", .flag, here, default: "true",
            refused: ["false": "random prompts need their full answers, as in vLLM"],
            help: "Sent with every request: answers have their full length."),
        .init("temperature", .number(0...2), here, help: "Sent where it is given."),
        .init("top-p", .number(0...1), here, help: "Sent where it is given."),
        .init("top-k", .integer(-1...1_000_000_000), here, help: "Sent where it is given."),
        .init("min-p", .number(0...1), here, help: "Sent where it is given."),
        .init("frequency-penalty", .number(-2...2), here, help: "Sent where it is given."),
        .init("presence-penalty", .number(-2...2), here, help: "Sent where it is given."),
        .init("repetition-penalty", .number(0...100), here, help: "Sent where it is given."),
        .init("logprobs", .integer(0...1024), here, help: "Logprobs a token; default: none."),
        .init(
            "extra-body", .text, here, help: "JSON object whose members every request gets."),
    ]

    static let results: [OptionSpecification] = [
        .init(
            "percentile-metrics", .text, here, default: "ttft,tpot,itl",
            help: "Which of ttft, tpot, itl, e2el to report."),
        .init(
            "metric-percentiles", .text, here, default: "99",
            help: "Percentiles, with commas between them."),
        .init(
            "goodput", .list, here,
            help: "NAME:MILLISECONDS ... of ttft, tpot, e2el: also report requests a second that "
                + "meet all."),
        .init("save-result", .flag, here, default: "false", help: "Write a JSON file."),
        .init(
            "save-detailed", .flag, here, default: "false",
            help: "With the figures, texts and errors of each request."),
        .init(
            "append-result", .flag, here, default: "false",
            help: "Add a line to the file instead of replacing it."),
        .init("metadata", .list, here, help: "KEY=VALUE ...: members of the JSON file."),
        .init("result-dir", .text, here, help: "Folder of the file; default: the working folder."),
        .init(
            "result-filename", .text, here,
            help: "Default: <label>-<rate>qps[-concurrency<n>]-<model>-<date>.json."),
        .init("label", .text, here, help: "First part of the file's name; default: --backend."),
    ]

    /// Options of `vllm bench serve` that are refused, with the reason.
    public static let refused: [(name: String, reason: String)] = [
        ("ramp-up-strategy", "ramps are not supported: run one rate after the other"),
        ("ramp-up-start-rps", "ramps are not supported: run one rate after the other"),
        ("ramp-up-end-rps", "ramps are not supported: run one rate after the other"),
        ("probe-request-rate", "probe requests are not supported: start a second benchmark"),
        ("lora-modules", "LoRA is not supported"),
        ("profile", "a remote profiler is not supported"),
        ("insecure", "https is not supported: give the http:// address of the server"),
        ("dataset-path", "only random data is supported"),
        ("tokenizer-mode", "tokenizer.json says how to tokenize"),
        ("trust-remote-code", "no code of a checkpoint is ever run"),
        ("use-beam-search", "beam search is not supported"),
        ("plot-timeline", "plots are not supported: --save-detailed has the figures"),
        ("plot-dataset-stats", "plots are not supported: --save-detailed has the figures"),
    ]

    static func specification(of name: String) -> OptionSpecification? {
        all.first { $0.name == name }
    }

    /// What `phalanx-bench serve --help` prints.
    public static func help() -> String {
        var page = "usage: phalanx-bench serve [--option value ...]\n"
        for option in all {
            let value = option.defaultValue.map { " (default: \($0))" } ?? ""
            page += "  --\(option.name)\n        \(option.help)\(value)\n"
        }
        return page
    }
}
