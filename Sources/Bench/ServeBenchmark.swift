internal import DaemonRuntime
internal import Gateway
internal import Glibc
internal import Protocol

/// `phalanx-bench serve`: the load generator that does to an OpenAI-compatible server what
/// `vllm bench serve` does with its random data set, and says the same of it.
///
/// One thread and one loop: hundreds of streams cost it little, so that it measures the server and
/// not itself. It must never wait without a deadline, nor count a request that failed as done.
public final class ServeBenchmark {
    public static let interruptedExitCode: Int32 = 130

    let configuration: BenchConfiguration
    let loop = EventLoop()
    let client: HTTPClient
    let output: (String) -> Void
    private(set) var isInterrupted = false
    /// The run that Ctrl-C ends; before it begins, Ctrl-C ends the program.
    var isMeasuring = false

    /// - Parameter output: takes what is for stdout, in whole lines.
    public init(
        configuration: BenchConfiguration, output: @escaping (String) -> Void
    ) throws(BenchError) {
        self.configuration = configuration
        self.output = output
        let url = configuration.url
        client = HTTPClient(
            loop: loop, authority: url.authority,
            addresses: try SocketAddress.resolve(url.host, port: url.port),
            limits: configuration.limits)
        Self.raiseDescriptorLimit()
    }

    /// Runs everything; returns the exit status: 0, or 1 when a request has failed, or 130 after
    /// Ctrl-C.
    ///
    /// - Parameter takesSignals: makes SIGINT and SIGTERM end the measured run and show what has
    ///   finished; they are taken from the whole process then.
    public func run(takesSignals: Bool = true) throws(BenchError) -> Int32 {
        let target = try findModel()
        let tokenizer = try loadTokenizer(target)
        let prompts = try makePrompts(tokenizer)
        let messages = BenchMessages(
            configuration: configuration, modelName: target.name,
            requestIDPrefix: configuration.requestIDPrefix ?? Self.randomPrefix(),
            key: getenv("OPENAI_API_KEY").map { String(cString: $0) })
        if takesSignals { takeSignals() }
        try checkReady(prompts[0], messages)
        try warmUp(prompts[0], messages)
        let runner = try measure(prompts, messages)
        let ended = isInterrupted ? runner.records.filter(\.isEnded) : runner.records
        let metrics = BenchMetrics(
            records: ended, durationSeconds: runner.durationSeconds,
            serviceLevels: configuration.serviceLevels
        ) { Self.tokenCount(of: $0, tokenizer?.tokenizer) }
        report(ended, metrics)
        let identity = ResultDocument.Identity(
            date: ResultFile.date(
                secondsSince1970: MonotonicClock.wallMicroseconds() / 1_000_000),
            modelID: target.id, tokenizerID: tokenizer?.folder)
        try save(
            ResultDocument(metrics, records: ended, identity: identity, configuration), identity)
        if isInterrupted { return Self.interruptedExitCode }
        return metrics.failed == 0 ? 0 : 1
    }

    /// Tokens of an answer whose server did not count them: of its text, or else its events.
    private static func tokenCount(
        of record: RequestRecord, _ tokenizer: GatewayTokenizer?
    ) -> Int {
        let events = record.interTokenSeconds.count + 1
        guard let tokenizer else { return events }
        do throws(TokenizerError) {
            return try tokenizer.ids(of: record.text).count
        } catch {
            return events
        }
    }

    // MARK: Signals and limits

    private func takeSignals() {
        loop.onSignals([SIGINT, SIGTERM]) { [weak self] _ in
            guard let self else { return }
            // The second one does not wait for anything.
            if self.isInterrupted || !self.isMeasuring { exit(Self.interruptedExitCode) }
            self.isInterrupted = true
            self.loop.stop()
        }
    }

    /// Each request under way has a socket of its own.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        // Without it, sockets beyond the old limit are failures that say so.
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }

    private static func randomPrefix() -> String {
        let digits = String(MonotonicClock.randomUInt64() >> 32, radix: 16)
        return "bench-" + String(repeating: "0", count: 8 - digits.utf8.count) + digits + "-"
    }

    func say(_ line: String) { output(line + "\n") }
}
