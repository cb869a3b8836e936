internal import DaemonRuntime
internal import Protocol

/// What a run does, from its command line; whatever is here has been checked.
public struct BenchConfiguration: Sendable {
    enum Backend: String, Hashable, Sendable, CaseIterable {
        case openai, vllm
        case openaiChat = "openai-chat"

        var isChat: Bool { self == .openaiChat }
    }

    struct Pair: Hashable, Sendable {
        let key: String
        let value: String
    }

    let backend: Backend
    let url: BenchURL
    let endpoint: String
    let headers: [Pair]
    let model: String?
    let servedModelName: String?
    let tokenizerFolder: String?
    let skipsTokenizer: Bool
    let readyCheckSeconds: Int
    let limits: HTTPClient.Limits

    var shape: RandomPromptShape
    let requestRate: Double
    let burstiness: Double
    let maxConcurrency: Int?
    let warmupCount: Int
    let requestIDPrefix: String?
    let showsProgress: Bool

    let logprobs: Int?
    /// Sampling parameters, then the members of `--extra-body`.
    let extraBody: [JSONTree.Member]

    let percentileMetrics: [LatencyMetric]
    let metricPercentiles: [Double]
    let serviceLevels: [ServiceLevel]
    let savesResult: Bool
    let savesDetailed: Bool
    let appendsResult: Bool
    let metadata: [Pair]
    let resultFolder: String?
    let resultFileName: String?
    let label: String?

    /// - Parameter arguments: without the program's name and the word `serve`.
    /// - Throws: ``BenchError/option(name:reason:)``; `OptionError` becomes one with its text.
    public init(arguments: [String]) throws(BenchError) {
        let options: BenchOptions
        do throws(OptionError) {
            options = try BenchOptions(arguments)
        } catch {
            throw .commandLine(error.description)
        }
        backend = Backend(rawValue: options.requiredText("backend")) ?? .openai
        if let base = options.text("base-url") {
            url = try BenchURL(base)
        } else {
            let host = options.requiredText("host")
            guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                throw .option(name: "host", reason: "\"\(host)\" is no name of a host")
            }
            url = BenchURL(host: host, port: UInt16(options.requiredInteger("port")))
        }
        endpoint = try Self.endpoint(options, backend)
        headers = try Self.headers(options)
        model = options.text("model")
        servedModelName = options.text("served-model-name")
        tokenizerFolder = options.text("tokenizer")
        skipsTokenizer = options.flag("skip-tokenizer-init")
        if skipsTokenizer, backend.isChat {
            throw .option(
                name: "skip-tokenizer-init", reason: "a chat needs text: give --tokenizer DIR")
        }
        readyCheckSeconds = options.requiredInteger("ready-check-timeout-sec")
        var limits = HTTPClient.Limits()
        limits.exchangeDeadline = .seconds(options.requiredInteger("request-timeout-sec"))
        limits.connectDeadline = .seconds(options.requiredInteger("connect-timeout-sec"))
        self.limits = limits
        shape = try Self.shape(options)
        requestRate = options.requiredNumber("request-rate")
        burstiness = options.requiredNumber("burstiness")
        maxConcurrency = options.integer("max-concurrency")
        warmupCount = options.requiredInteger("num-warmups")
        requestIDPrefix = try Self.requestIDPrefix(options)
        showsProgress = !options.flag("disable-tqdm")
        logprobs = options.integer("logprobs")
        extraBody = try Self.extraBody(options)
        percentileMetrics = try Self.metrics(options)
        metricPercentiles = try Self.percentiles(options)
        serviceLevels = try Self.serviceLevels(options)
        savesDetailed = options.flag("save-detailed")
        appendsResult = options.flag("append-result")
        savesResult = options.flag("save-result") || appendsResult
        metadata = try Self.pairs("metadata", options)
        resultFolder = options.text("result-dir")
        resultFileName = options.text("result-filename")
        label = options.text("label")
    }
}

extension BenchConfiguration {
    private static func endpoint(
        _ options: BenchOptions, _ backend: Backend
    ) throws(BenchError) -> String {
        let endpoint = options.requiredText("endpoint")
        let wanted = backend.isChat ? "chat/completions" : "completions"
        guard endpoint.hasPrefix("/"), endpoint.hasSuffix(wanted),
            backend.isChat || !endpoint.hasSuffix("chat/completions"),
            endpoint.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else {
            throw .option(
                name: "endpoint",
                reason: "\"\(endpoint)\" does not fit --backend \(backend.rawValue): give a path "
                    + "that ends with \(wanted), such as /v1/\(wanted)")
        }
        return endpoint
    }

    private static func pairs(
        _ name: String, _ options: BenchOptions
    ) throws(BenchError) -> [Pair] {
        var pairs: [Pair] = []
        for item in options.list(name) {
            let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw .option(name: name, reason: "\"\(item)\" is not KEY=VALUE")
            }
            pairs.append(Pair(key: String(parts[0]), value: String(parts[1])))
        }
        return pairs
    }

    private static func headers(_ options: BenchOptions) throws(BenchError) -> [Pair] {
        let pairs = try pairs("header", options)
        let marks = Set("!#$%&'*+-.^_`|~".utf8)
        for pair in pairs {
            let isName = pair.key.utf8.allSatisfy {
                marks.contains($0) || (0x30...0x39).contains($0) || (0x41...0x5A).contains($0)
                    || (0x61...0x7A).contains($0)
            }
            guard isName, isFieldValue(pair.value) else {
                throw .option(name: "header", reason: "\"\(pair.key)\" is no header field")
            }
        }
        return pairs
    }

    private static func isFieldValue(_ text: String) -> Bool {
        text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F }
    }

    private static func requestIDPrefix(_ options: BenchOptions) throws(BenchError) -> String? {
        guard let prefix = options.text("request-id-prefix") else { return nil }
        guard isFieldValue(prefix) else {
            throw .option(name: "request-id-prefix", reason: "has a control character")
        }
        return prefix
    }

    private static func shape(_ options: BenchOptions) throws(BenchError) -> RandomPromptShape {
        let input = options.integer("input-len") ?? options.requiredInteger("random-input-len")
        let output = options.integer("output-len") ?? options.requiredInteger("random-output-len")
        let ranges = try ranges(options.requiredText("random-range-ratio"))
        return RandomPromptShape(
            count: options.requiredInteger("num-prompts"), inputLength: input,
            outputLength: output, inputRange: ranges.input, outputRange: ranges.output,
            prefixLength: options.requiredInteger("random-prefix-len"),
            seed: UInt64(options.requiredInteger("seed")))
    }

    private static func ranges(
        _ text: String
    ) throws(BenchError) -> (input: Double, output: Double) {
        var input = Double(text)
        var output = input
        if input == nil, let tree = try? JSONDocument(Array(text.utf8)) {
            input = tree.root["input"]?.double
            output = tree.root["output"]?.double
        }
        guard let input, let output, (0..<1).contains(input), (0..<1).contains(output) else {
            throw .option(
                name: "random-range-ratio",
                reason: "\"\(text)\" is neither a number from 0 to below 1 nor such "
                    + "{\"input\": ..., \"output\": ...}")
        }
        return (input, output)
    }

    private static func extraBody(
        _ options: BenchOptions
    ) throws(BenchError) -> [JSONTree.Member] {
        var members: [JSONTree.Member] = []
        for name in ["top-p", "top-k", "min-p", "temperature"] + penalties {
            let key = name.replacing("-", with: "_")
            if let number = options.integer(name) {
                members.append(.init(key, .integer(number)))
            } else if let number = options.number(name) {
                members.append(.init(key, .number(number)))
            }
        }
        guard let text = options.text("extra-body") else { return members }
        guard let root = try? JSONDocument(Array(text.utf8)).root,
            case .object(let extra) = JSONTree(root)
        else { throw .option(name: "extra-body", reason: "\"\(text)\" is no JSON object") }
        return JSONTree.merged(members, with: extra)
    }

    private static let penalties = ["frequency-penalty", "presence-penalty", "repetition-penalty"]

    private static func metrics(_ options: BenchOptions) throws(BenchError) -> [LatencyMetric] {
        var metrics: [LatencyMetric] = []
        for word in options.requiredText("percentile-metrics").split(separator: ",") {
            guard let metric = LatencyMetric(rawValue: String(word)) else {
                throw .option(
                    name: "percentile-metrics",
                    reason: "\"\(word)\" is none of ttft, tpot, itl, e2el")
            }
            metrics.append(metric)
        }
        return metrics
    }

    private static func percentiles(_ options: BenchOptions) throws(BenchError) -> [Double] {
        var percentiles: [Double] = []
        for word in options.requiredText("metric-percentiles").split(separator: ",") {
            guard let percent = Double(word), (0...100).contains(percent) else {
                throw .option(
                    name: "metric-percentiles", reason: "\"\(word)\" is not in 0...100")
            }
            percentiles.append(percent)
        }
        return percentiles
    }

    private static func serviceLevels(
        _ options: BenchOptions
    ) throws(BenchError) -> [ServiceLevel] {
        var levels: [ServiceLevel] = []
        for item in options.list("goodput") {
            let parts = item.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, let metric = LatencyMetric(rawValue: String(parts[0])),
                metric != .itl, let limit = Double(parts[1]), limit >= 0
            else {
                throw .option(
                    name: "goodput",
                    reason: "\"\(item)\" is not ttft|tpot|e2el:MILLISECONDS")
            }
            levels.append(ServiceLevel(metric: metric, milliseconds: limit))
        }
        return levels
    }
}
