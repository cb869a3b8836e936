internal import CAllocationCounter
internal import DaemonRuntime
internal import EngineWorker
internal import Glibc
internal import Protocol

/// Measures steady decode of whole engines: heap allocations of the engine threads, and their time
/// between two forwards.
///
/// It is a program of its own, because it replaces the allocator of its process. The engines run
/// the bundled model, alone and as a group over shared memory; a thread plays the link's part. With
/// `--check` it fails where a steady tick allocates.
enum TickBenchmark {
    static let sequenceCount = 8
    static let warmUpTicks = 40
    static let tickCount = 200

    struct Figure: Sendable {
        var allocations: Int64 = 0
        var large: Int64 = 0
        var times = TickTimes()
        var failure: String?
    }

    /// One rank from loading to the last tick that counts.
    static func run(
        rank: Int, folder: String, cacheType: String, endpoints: [CollectivesEndpoint],
        idleRank: Bool, outlet: Mailbox<EngineOutlet>
    ) -> Figure {
        var figure = Figure()
        do {
            var settings = LocalEngine.Settings(folder: folder)
            settings.cacheType = cacheType
            settings.rank = rank
            settings.worldSize = endpoints.count
            settings.sequencesMax = sequenceCount
            settings.modelLength = 512
            let engine = try LocalEngine(settings)
            precondition(outlet.post(engine.outlet), "no room for an outlet")
            let group = try endpoints[rank].connect(
                view: 1, rank: rank, addresses: endpoints.map(\.address),
                deadline: MonotonicClock.now() + .seconds(60))
            engine.enter(view: 1, group)
            if !(idleRank && rank == endpoints.count - 1) {
                for index in 0..<sequenceCount {
                    engine.submit(
                        UInt64(index + 1),
                        prompt: (0..<(24 + index)).map { Int32(2 + ($0 * 31 + index * 7) % 4000) },
                        maxTokens: Int32(warmUpTicks + tickCount + 8))
                }
            }
            engine.wake(view: 1)
            for _ in 0..<warmUpTicks { engine.tick() }
            let before = thread_allocation_count()
            let largeBefore = thread_large_allocation_count()
            for _ in 0..<tickCount { engine.tick() }
            figure.allocations = thread_allocation_count() - before
            figure.large = thread_large_allocation_count() - largeBefore
            figure.times = engine.times
            // Nobody leaves while a peer still needs it.
            while engine.isRunning { engine.tick() }
        } catch {
            figure.failure = "\(error)"
        }
        return figure
    }

    /// The figures of all ranks.
    static func measure(
        _ name: String, folder: String, worldSize: Int, idleRank: Bool = false,
        cacheType: String = "auto"
    ) throws(CollectiveError) -> Bool {
        var made: [CollectivesEndpoint] = []
        for rank in 0..<worldSize {
            made.append(
                try CollectivesEndpoint(
                    kind: .sharedMemory, worldSizeMax: worldSize, incarnation: UInt64(rank + 1)))
        }
        let endpoints = made
        let figures = Lock<[Figure]>(Array(repeating: Figure(), count: worldSize))
        let outlets = Mailbox<EngineOutlet>(capacity: worldSize)
        let finished = Mailbox<Int>(capacity: worldSize)
        let threads = (0..<worldSize).map { rank in
            NamedThread("engine \(rank)") {
                let figure = run(
                    rank: rank, folder: folder, cacheType: cacheType, endpoints: endpoints,
                    idleRank: idleRank, outlet: outlets)
                figures.withLock { $0[rank] = figure }
                _ = finished.post(rank)
            }
        }
        let (tokens, failures) = takeOutputs(outlets, finished, worldSize)
        for thread in threads { thread.join() }
        var holds = failures.isEmpty
        for failure in failures { print("\(name): \(failure)") }
        let found = figures.withLock { $0 }
        for (rank, figure) in found.enumerated() {
            if let failure = figure.failure { print("\(name), rank \(rank): \(failure)") }
            let count = Double(max(1, figure.times.ticks))
            func micros(_ nanoseconds: Int64) -> Double {
                (Double(nanoseconds) / count / 100).rounded() / 10
            }
            let forward = micros(figure.times.forwardNanoseconds)
            let exchange = micros(figure.times.exchangeNanoseconds)
            let between = micros(figure.times.betweenNanoseconds)
            print(
                "\(name), rank \(rank): allocations \(figure.allocations), "
                    + "of a kilobyte or more \(figure.large), in \(tickCount) ticks; "
                    + "a tick: forward \(forward) us, exchange \(exchange) us, "
                    + "between \(between) us")
            holds = holds && figure.failure == nil && figure.allocations == 0
        }
        let expected =
            (worldSize - (idleRank ? 1 : 0)) * sequenceCount * (warmUpTicks + tickCount + 8)
        if tokens != expected { print("\(name): \(tokens) tokens instead of \(expected)") }
        return holds && tokens == expected
    }

    /// What the link threads do: takes outputs until all engines have finished.
    static func takeOutputs(
        _ outlets: Mailbox<EngineOutlet>, _ finished: Mailbox<Int>, _ worldSize: Int
    ) -> (tokens: Int, failures: [String]) {
        var open: [EngineOutlet] = []
        var ended: [Int] = []
        var tokens = 0
        var failures: [String] = []
        while true {
            finished.takeAll(into: &ended)
            let isOver = ended.count == worldSize
            outlets.takeAll(into: &open)
            for index in open.indices {
                let taken = open[index].takeAll()
                tokens += taken.tokens
                failures += taken.failures
            }
            if isOver { return (tokens, failures) }
            let deadline = MonotonicClock.now() + .milliseconds(1)
            if let first = open.first {
                first.wait(until: deadline)
            } else {
                finished.wait(until: deadline)
            }
        }
    }
}

let arguments = Array(CommandLine.arguments.dropFirst())
guard let folder = arguments.first(where: { !$0.hasPrefix("--") }) else {
    print("usage: tick-benchmark [--check] CHECKPOINT")
    exit(2)
}
do throws(CollectiveError) {
    var holds = try TickBenchmark.measure("DP=1", folder: folder, worldSize: 1)
    holds = try TickBenchmark.measure("DP=2", folder: folder, worldSize: 2) && holds
    holds =
        try TickBenchmark.measure("DP=2, one idle", folder: folder, worldSize: 2, idleRank: true)
        && holds
    holds =
        try TickBenchmark.measure("int8 cache", folder: folder, worldSize: 1, cacheType: "int8")
        && holds
    if arguments.contains("--check"), !holds { exit(1) }
} catch {
    print("\(error)")
    exit(2)
}
