internal import DaemonRuntime
internal import Gateway
internal import Glibc
internal import Protocol

/// What comes before the measured run: the model, the tokenizer, the prompts, a test request.
extension ServeBenchmark {
    static let readyRetry = Interval.seconds(1)
    /// A question of the preparation, which no server computes on.
    static let fetchDeadline = Interval.seconds(60)

    struct Target {
        /// What the field `model` of requests says.
        let name: String
        /// What the result calls it, as in vLLM: the root where the server was asked.
        let id: String
        /// Folder that the server names, if it was asked.
        let root: String?
    }

    struct LoadedTokenizer {
        let folder: String
        let tokenizer: GatewayTokenizer
    }

    func findModel() throws(BenchError) -> Target {
        if let model = configuration.model {
            return Target(name: configuration.servedModelName ?? model, id: model, root: nil)
        }
        say("Model not specified, fetching first model from server...")
        let model = try fetchModels(named: nil)
        let id = model.root ?? model.id
        say("First model name: \(model.id), first model id: \(id)")
        return Target(
            name: configuration.servedModelName ?? model.id, id: id, root: model.root)
    }

    func loadTokenizer(_ target: Target) throws(BenchError) -> LoadedTokenizer? {
        if configuration.skipsTokenizer { return nil }
        let folder: String
        if let given = configuration.tokenizerFolder {
            folder = given
        } else if Self.hasTokenizer(target.id) {
            folder = target.id
        } else {
            var root = target.root
            if root == nil { root = try fetchModels(named: target.name).root }
            guard let root, Self.hasTokenizer(root) else {
                throw .noTokenizer(model: target.id, root: root)
            }
            folder = root
        }
        do throws(TokenizerError) {
            return LoadedTokenizer(folder: folder, tokenizer: try GatewayTokenizer(folder: folder))
        } catch {
            throw .tokenizer("\(error)")
        }
    }

    private static func hasTokenizer(_ folder: String) -> Bool {
        access(folder + "/tokenizer.json", R_OK) == 0
    }

    func makePrompts(_ tokenizer: LoadedTokenizer?) throws(BenchError) -> [BenchPrompt] {
        guard let tokenizer = tokenizer?.tokenizer else {
            return try RandomPrompts(untokenized: configuration.shape).prompts
        }
        let made = try RandomPrompts(configuration.shape, tokenizer: tokenizer)
        if made.excessTokens != 0 {
            let kind = made.excessTokens > 0 ? "more" : "fewer"
            say(
                "Over all prompts there are \(abs(made.excessTokens)) tokens \(kind) than asked "
                    + "for: some texts do not encode to the wanted length.")
        }
        return made.prompts
    }

    // MARK: Asking the server

    /// The model of that name, or the first one.
    private func fetchModels(named name: String?) throws(BenchError) -> (id: String, root: String?)
    {
        let path = "/v1/models"
        let place = "\(configuration.url)\(path)"
        let messages = BenchMessages(
            configuration: configuration, modelName: "", requestIDPrefix: "",
            key: getenv("OPENAI_API_KEY").map { String(cString: $0) })
        var limits = configuration.limits
        limits.exchangeDeadline = min(limits.exchangeDeadline, Self.fetchDeadline)
        let asking = HTTPClient(
            loop: loop, authority: client.authority, addresses: client.addresses, limits: limits)
        var answer: Result<[UInt8], FetchExchange.FetchError>?
        asking.begin(
            FetchExchange(message: messages.get(path)) { [loop] in
                answer = $0
                loop.stop()
            })
        loop.run()
        switch answer {
        case .none: throw .interrupted
        case .failure(let error): throw .models(url: place, reason: error.reason)
        case .success(let bytes):
            let cards = (try? JSONDocument(bytes).root)?["data"]?.array ?? []
            let card = cards.first { name == nil || $0["id"]?.string == name } ?? cards.first
            guard let card, let id = card["id"]?.string else {
                throw .models(url: place, reason: "names no model")
            }
            return (id, card["root"]?.string)
        }
    }

    /// Sends the first prompt until it is answered, for as long as the option says.
    func checkReady(_ prompt: BenchPrompt, _ messages: BenchMessages) throws(BenchError) {
        let seconds = configuration.readyCheckSeconds
        guard seconds > 0 else { return say("Skipping endpoint ready check.") }
        say("Starting initial single prompt test run...")
        let deadline = MonotonicClock.now() + .seconds(seconds)
        var reason = "it has not ended"
        loop.schedule(at: deadline) { [loop] in loop.stop() }
        while MonotonicClock.now() < deadline {
            var record: RequestRecord?
            let request = BenchRequest(
                message: messages.completion(prompt, index: nil), promptLength: prompt.length
            ) { [loop] in
                record = $0
                loop.stop()
            }
            request.begin(on: client)
            loop.run()
            guard let record else { break }
            guard let error = record.error else { return say("Initial test run completed.") }
            reason = error
            loop.schedule(after: Self.readyRetry) { [loop] in loop.stop() }
            loop.run()
        }
        throw .notReady(seconds: seconds, reason: reason)
    }

    /// The first prompt, as often as the option says.
    func warmUp(_ prompt: BenchPrompt, _ messages: BenchMessages) throws(BenchError) {
        let count = configuration.warmupCount
        guard count > 0 else { return }
        say("Warming up with \(count) requests...")
        let bar = ProgressBar(total: count, isEnabled: configuration.showsProgress)
        let runner = LoadRunner(
            client: client,
            messages: Array(repeating: messages.completion(prompt, index: nil), count: count),
            promptLengths: Array(repeating: prompt.length, count: count),
            arrivals: Array(repeating: 0, count: count), limit: configuration.maxConcurrency
        ) { [loop] runner in
            bar.show(runner.endedCount)
            if runner.isDone { loop.stop() }
        }
        runner.begin()
        while !runner.isDone { loop.run() }
        bar.end()
        let failed = runner.records.count(where: \.hasFailed)
        say("Warmup run completed." + (failed > 0 ? " \(failed) of its requests failed." : ""))
    }
}
