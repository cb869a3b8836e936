internal import DaemonRuntime
internal import Protocol

/// The measured run, and what is said of it.
extension ServeBenchmark {
    /// Of this many failed requests the error is shown.
    static let shownErrorsMax = 10

    func measure(
        _ prompts: [BenchPrompt], _ messages: BenchMessages
    ) throws(BenchError) -> LoadRunner {
        sayTraffic()
        let arrivals = ArrivalSchedule(
            count: prompts.count, rate: configuration.requestRate,
            burstiness: configuration.burstiness, seed: configuration.shape.seed)
        let bar = ProgressBar(total: prompts.count, isEnabled: configuration.showsProgress)
        let runner = LoadRunner(
            client: client,
            messages: prompts.enumerated().map { messages.completion($1, index: $0) },
            promptLengths: prompts.map(\.length), arrivals: arrivals.seconds,
            limit: configuration.maxConcurrency
        ) { [loop] runner in
            bar.show(runner.endedCount)
            if runner.isDone { loop.stop() }
        }
        isMeasuring = true
        bar.show(0)
        runner.begin()
        while !runner.isDone, !isInterrupted { loop.run() }
        bar.end()
        if isInterrupted { client.abandon() }
        return runner
    }

    private func sayTraffic() {
        let process =
            configuration.burstiness == 1 ? "Poisson process" : "Gamma distribution"
        let limit = configuration.maxConcurrency.map { "\($0)" } ?? "None"
        say("Starting main benchmark run...")
        say("Traffic request rate: \(configuration.requestRate)")
        say("Burstiness factor: \(configuration.burstiness) (\(process))")
        say("Maximum request concurrency: \(limit)")
    }

    func report(_ records: [RequestRecord], _ metrics: BenchMetrics) {
        if isInterrupted {
            say("Interrupted: \(records.count) of \(configuration.shape.count) requests ended.")
        }
        let errors = records.filter(\.hasFailed).compactMap(\.error)
        if !errors.isEmpty {
            say("Failed requests during benchmark run (at most \(Self.shownErrorsMax) are shown):")
            for (index, error) in errors.prefix(Self.shownErrorsMax).enumerated() {
                say("Error \(index): \(error)")
            }
        }
        output(ResultTable(metrics, configuration).text)
    }

    func save(
        _ document: ResultDocument, _ identity: ResultDocument.Identity
    ) throws(BenchError) {
        guard configuration.savesResult else { return }
        var path =
            configuration.resultFileName
            ?? ResultDocument.defaultFileName(identity: identity, configuration)
        if let folder = configuration.resultFolder {
            try ResultFile.makeFolder(folder)
            path = folder + (folder.hasSuffix("/") ? "" : "/") + path
        }
        try ResultFile.write(
            document.tree.bytes, to: path, appends: configuration.appendsResult)
        say("Result saved to \(path)")
    }
}
