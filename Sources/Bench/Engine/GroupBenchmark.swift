internal import DaemonRuntime
internal import EngineWorker
internal import Glibc
internal import Protocol

/// Times whole ticks of groups of engines: schedule, exchange, model, sampling and hand-over, each
/// rank on a thread of this process, joined by shared memory, with the experts split.
///
/// All groups are loaded at once and take turns, so that they see the same machine.
public struct GroupBenchmark {
    /// Ticks of decode before the first that counts.
    private static let warmUpTicks = 3
    private static let prefillRows = 512

    /// What one rank did in one turn.
    private struct Turn: Sendable {
        var wall: Int64 = 0
        var cpu: Int64 = 0
        var expertCPU: Int64 = 0
        var between: Int64 = 0
        var exchange: Int64 = 0
        var failure: String?
    }

    /// A rank's thread: loads at once, then waits for turns.
    private final class Rank: Sendable {
        let turns = Mailbox<[CollectivesEndpoint]>(capacity: 1)
        let results = Mailbox<Turn>(capacity: 4)
    }

    private let options: EngineBenchmarkOptions

    public init(_ options: EngineBenchmarkOptions) { self.options = options }

    /// - Parameter report: called with a line for each rank and turn, and one for each group.
    public func run(_ report: (String) -> Void) throws(EngineBenchmarkError) {
        var groups: [(ranks: [Rank], threads: [NamedThread])] = []
        for count in options.ranks {
            let ranks = (0..<count).map { _ in Rank() }
            let threads = ranks.indices.map { index in
                NamedThread("rank \(index)") { [options] in
                    Self.serve(ranks[index], index: index, count: count, options)
                }
            }
            groups.append((ranks, threads))
            for rank in ranks { _ = try Self.next(rank) }
        }
        for turn in 1...options.turns {
            for group in groups {
                let endpoints = try Self.endpoints(group.ranks.count, options.spinMicroseconds)
                for rank in group.ranks { _ = rank.turns.post(endpoints) }
                var slowest: Int64 = 1
                for (index, rank) in group.ranks.enumerated() {
                    let figures = try Self.next(rank)
                    slowest = max(slowest, figures.wall)
                    report(line(figures, turn: turn, rank: index, of: group.ranks.count))
                }
                let busy = max(0, group.ranks.count - options.idleRanks)
                let tokens = busy * options.batches[0] * options.steps
                let speed = Double(tokens) / (Double(slowest) / 1e9)
                report(
                    "turn \(turn), \(group.ranks.count) ranks: \(Self.rounded(speed)) tokens/s\n")
            }
        }
        for group in groups {
            for rank in group.ranks { _ = rank.turns.post([]) }
            for thread in group.threads { thread.join() }
        }
    }

    private func line(_ turn: Turn, turn number: Int, rank: Int, of count: Int) -> String {
        func micros(_ nanoseconds: Int64) -> Double {
            Self.rounded(Double(nanoseconds) / Double(options.steps) / 1000)
        }
        return "turn \(number), rank \(rank) of \(count): a tick \(micros(turn.wall)) us, "
            + "CPU \(micros(turn.cpu)) us, of it experts \(micros(turn.expertCPU)) us; "
            + "tick exchange \(micros(turn.exchange)) us, "
            + "between forwards \(micros(turn.between)) us\n"
    }

    private static func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }

    private static func next(_ rank: Rank) throws(EngineBenchmarkError) -> Turn {
        var turns: [Turn] = []
        while turns.isEmpty {
            rank.results.wait(until: MonotonicClock.now() + .seconds(3600))
            rank.results.takeAll(into: &turns)
        }
        if let failure = turns[0].failure { throw EngineBenchmarkError(failure) }
        return turns[0]
    }

    private static func endpoints(
        _ count: Int, _ spinMicroseconds: Int?
    ) throws(EngineBenchmarkError) -> [CollectivesEndpoint] {
        var settings = CollectivesOptions()
        settings.spin = spinMicroseconds.map { Interval(nanoseconds: Int64($0) * 1000) }
        do throws(CollectiveError) {
            var endpoints: [CollectivesEndpoint] = []
            for rank in 0..<count {
                endpoints.append(
                    try CollectivesEndpoint(
                        kind: .sharedMemory, worldSizeMax: count, incarnation: UInt64(rank + 1),
                        options: settings))
            }
            return endpoints
        } catch {
            throw EngineBenchmarkError("\(error)")
        }
    }

    // MARK: A rank's thread

    private static func serve(
        _ rank: Rank, index: Int, count: Int, _ options: EngineBenchmarkOptions
    ) {
        var settings = LocalEngine.Settings(folder: options.model)
        (settings.rank, settings.worldSize) = (index, count)
        settings.threadCount = options.threads
        settings.sequencesMax = options.batches[0]
        settings.batchedTokensMax = max(prefillRows, options.batches[0])
        settings.modelLength = (options.context + options.steps + 64) / 16 * 16
        settings.elementType = options.elementType == .bfloat16 ? "bfloat16" : "float32"
        settings.cacheType = options.cacheType?.rawValue ?? "auto"
        settings.quantization = options.quantizesWeights ? "w8a8" : nil
        do {
            let engine = try LocalEngine(settings)
            engine.measureExperts(by: threadCPU)
            _ = rank.results.post(Turn())
            var view: UInt32 = 0
            while true {
                var next: [[CollectivesEndpoint]] = []
                rank.turns.wait(until: MonotonicClock.now() + .seconds(3600))
                rank.turns.takeAll(into: &next)
                guard let endpoints = next.first else { continue }
                if endpoints.isEmpty { return }
                view += 1
                let group = try endpoints[index].connect(
                    view: view, rank: index, addresses: endpoints.map(\.address),
                    deadline: MonotonicClock.now() + .seconds(60))
                engine.enter(view: view, group)
                let isIdle = index >= count - options.idleRanks
                let turn = takeTurn(engine, view: view, sequences: isIdle ? 0 : nil, options)
                _ = rank.results.post(turn)
            }
        } catch {
            var turn = Turn()
            turn.failure = "\(error)"
            _ = rank.results.post(turn)
        }
    }

    private static func takeTurn(
        _ engine: LocalEngine, view: UInt32, sequences: Int?, _ options: EngineBenchmarkOptions
    ) -> Turn {
        var outlet = engine.outlet
        let length = max(1, options.context)
        let prefill = (options.batches[0] * length + prefillRows - 1) / prefillRows
        let before = prefill + warmUpTicks
        for index in 0..<(sequences ?? options.batches[0]) {
            engine.submit(
                UInt64(index + 1), view: view,
                prompt: (0..<length).map { Int32(2 + ($0 * 31 + index * 977 + 13) % 4000) },
                maxTokens: Int32(before + options.steps + 1))
        }
        engine.wake(view: view)
        for _ in 0..<before { engine.tick() }
        _ = outlet.takeAll()
        let (times, cpu, experts) = (engine.times, threadCPU(), engine.expertNanoseconds)
        let start = MonotonicClock.now()
        for _ in 0..<options.steps { engine.tick() }
        var turn = Turn()
        turn.wall = (MonotonicClock.now() - start).nanoseconds
        turn.cpu = threadCPU() - cpu
        turn.expertCPU = engine.expertNanoseconds - experts
        turn.between = engine.times.betweenNanoseconds - times.betweenNanoseconds
        turn.exchange = engine.times.exchangeNanoseconds - times.exchangeNanoseconds
        while engine.isRunning { engine.tick() }
        turn.failure = outlet.takeAll().failures.first
        engine.leave()
        _ = outlet.takeAll()
        return turn
    }

    private static func threadCPU() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
