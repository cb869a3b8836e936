internal import DaemonRuntime
internal import EngineWorker
internal import Protocol

/// The command line of `phalanx-bench exchange`.
public struct ExchangeBenchmarkOptions: Sendable {
    static let ranksMax = 64
    static let roundsMax = 10_000_000
    static let sizeMax = 1 << 16

    public static let help = """
        usage: phalanx-bench exchange [--option value ...]

        Times what one tick and one expert layer exchange between the ranks of one host, over
        shared memory, each rank on a thread of its own: the tick's entries (64 bytes each), the
        dispatch of rows to experts and the return of their results.

          --ranks N             ranks (default 2)
          --rounds N            rounds that count (default 10000)
          --rows N              rows a rank dispatches in a round (default 1)
          --hidden N            values a row (default 1024)
          --chosen N            experts a row, spread evenly over the ranks (default 8)
          --pause N             microseconds that each rank computes before each operation
                                (default 0)
          --spin N              microseconds that a wait spins before it sleeps (default: as the
                                engine worker)

        """

    public var ranks = 2
    public var rounds = 10_000
    public var rows = 1
    public var hidden = 1024
    public var chosen = 8
    public var pauseMicroseconds = 0
    public var spinMicroseconds: Int?

    /// - Parameter arguments: without the program's name and the word `exchange`.
    public init(arguments: [String]) throws(EngineBenchmarkError) {
        var rest = arguments[...]
        while let name = rest.popFirst() {
            guard let value = rest.popFirst() else {
                throw EngineBenchmarkError(refusal: "\(name) needs a value")
            }
            func number(_ range: ClosedRange<Int>) throws(EngineBenchmarkError) -> Int {
                try EngineBenchmarkOptions.number(name, value, range)
            }
            switch name {
            case "--ranks": ranks = try number(2...Self.ranksMax)
            case "--rounds": rounds = try number(1...Self.roundsMax)
            case "--rows": rows = try number(1...Self.sizeMax)
            case "--hidden": hidden = try number(1...Self.sizeMax)
            case "--chosen": chosen = try number(1...Self.sizeMax)
            case "--pause": pauseMicroseconds = try number(0...1_000_000)
            case "--spin": spinMicroseconds = try number(0...1_000_000)
            default: throw EngineBenchmarkError(refusal: "unknown option \(name)")
            }
        }
    }
}

/// Times the collectives alone, with messages of the sizes that an engine sends.
public struct ExchangeBenchmark {
    /// Rounds before the first that counts: pages are touched, the ranks have met.
    private static let warmUpRounds = 200
    private static let entryBytes = 64
    private static let timeout = Interval.seconds(60)

    /// Nanoseconds of each round that counts, in order.
    private struct Times: Sendable {
        var tick: [Int64] = []
        var dispatch: [Int64] = []
        var combine: [Int64] = []
        var failure: String?
    }

    private let options: ExchangeBenchmarkOptions

    public init(_ options: ExchangeBenchmarkOptions) { self.options = options }

    /// The table, one line an operation; times are rank 0's.
    public func run() throws(EngineBenchmarkError) -> String {
        let endpoints = try makeEndpoints()
        let all = Lock<[Times]>(Array(repeating: Times(), count: options.ranks))
        let options = options
        let threads = (0..<options.ranks).map { rank in
            NamedThread("rank \(rank)") {
                let times = Self.rank(rank, endpoints, options)
                all.withLock { $0[rank] = times }
            }
        }
        for thread in threads { thread.join() }
        let found = all.withLock { $0 }
        for (rank, times) in found.enumerated() {
            if let failure = times.failure {
                throw EngineBenchmarkError("rank \(rank): \(failure)")
            }
        }
        let times = found[0]
        let sums = times.tick.indices.map {
            times.tick[$0] + times.dispatch[$0] + times.combine[$0]
        }
        return "microseconds              min       p10       p50       p99\n"
            + Self.line("tick exchange", times.tick) + Self.line("dispatch", times.dispatch)
            + Self.line("combine", times.combine) + Self.line("together", sums)
    }

    private func makeEndpoints() throws(EngineBenchmarkError) -> [CollectivesEndpoint] {
        var settings = CollectivesOptions()
        if let spin = options.spinMicroseconds {
            settings.spin = Interval(nanoseconds: Int64(spin) * 1000)
        }
        var endpoints: [CollectivesEndpoint] = []
        do throws(CollectiveError) {
            for rank in 0..<options.ranks {
                endpoints.append(
                    try CollectivesEndpoint(
                        kind: .sharedMemory, worldSizeMax: options.ranks,
                        incarnation: UInt64(rank + 1), options: settings))
            }
        } catch {
            throw EngineBenchmarkError("\(error)")
        }
        return endpoints
    }

    private static func rank(
        _ rank: Int, _ endpoints: [CollectivesEndpoint], _ options: ExchangeBenchmarkOptions
    ) -> Times {
        var times = Times()
        do throws(CollectiveError) {
            let group = try endpoints[rank].connect(
                view: 1, rank: rank, addresses: endpoints.map(\.address),
                deadline: MonotonicClock.now() + timeout)
            let messages = Messages(rank: rank, options)
            for round in 0..<(warmUpRounds + options.rounds) {
                let found = try messages.exchange(
                    group, tick: UInt64(round), pauseMicroseconds: options.pauseMicroseconds)
                guard round >= warmUpRounds else { continue }
                times.tick.append(found.tick)
                times.dispatch.append(found.dispatch)
                times.combine.append(found.combine)
            }
        } catch {
            times.failure = "\(error)"
        }
        return times
    }

    /// What one rank sends in a round.
    private final class Messages {
        private let send: UnsafeMutableRawBufferPointer
        private let receive: UnsafeMutableRawBufferPointer
        private let outgoing: PeerBuffers
        private let incoming: PeerBuffers
        private let returning: PeerBuffers
        private let results: PeerBuffers

        init(rank: Int, _ options: ExchangeBenchmarkOptions) {
            let count = options.ranks
            send = .allocate(byteCount: entryBytes, alignment: 64)
            receive = .allocate(byteCount: entryBytes * count, alignment: 64)
            send.initializeMemory(as: UInt8.self, repeating: UInt8(rank))
            (outgoing, incoming) = (PeerBuffers(peerCount: count), PeerBuffers(peerCount: count))
            (returning, results) = (PeerBuffers(peerCount: count), PeerBuffers(peerCount: count))
            let assignments = options.rows * ((options.chosen + count - 1) / count)
            let rowBytes = options.hidden * 4
            for peer in 0..<count where peer != rank {
                outgoing.setCount(16 + options.rows * rowBytes + assignments * 8, of: peer)
                returning.setCount(assignments * rowBytes, of: peer)
                results.setCount(assignments * rowBytes, of: peer)
                outgoing[peer].initializeMemory(as: UInt8.self, repeating: 1)
                returning[peer].initializeMemory(as: UInt8.self, repeating: 2)
            }
        }

        deinit {
            send.deallocate()
            receive.deallocate()
        }

        /// Nanoseconds of each operation.
        func exchange(
            _ group: any Collectives, tick: UInt64, pauseMicroseconds: Int
        ) throws(CollectiveError) -> (tick: Int64, dispatch: Int64, combine: Int64) {
            ExchangeBenchmark.compute(pauseMicroseconds)
            let first = MonotonicClock.now()
            try group.allGather(
                UnsafeRawBufferPointer(send), into: receive,
                tag: .tickExchange(view: 1, tick: tick), deadline: first + timeout)
            let gathered = MonotonicClock.now() - first
            ExchangeBenchmark.compute(pauseMicroseconds)
            let second = MonotonicClock.now()
            try group.allToAll(
                outgoing: outgoing, incoming: incoming,
                tag: .dispatch(view: 1, tick: tick, layer: 0), deadline: second + timeout)
            let dispatched = MonotonicClock.now() - second
            ExchangeBenchmark.compute(pauseMicroseconds)
            let third = MonotonicClock.now()
            try group.allToAllOfKnownSizes(
                outgoing: returning, incoming: results,
                tag: .combine(view: 1, tick: tick, layer: 0), deadline: third + timeout)
            let combined = MonotonicClock.now() - third
            return (gathered.nanoseconds, dispatched.nanoseconds, combined.nanoseconds)
        }
    }

    /// Keeps the thread busy, as a layer's kernels do.
    static func compute(_ microseconds: Int) {
        guard microseconds > 0 else { return }
        let end = MonotonicClock.now() + Interval(nanoseconds: Int64(microseconds) * 1000)
        while MonotonicClock.now() < end {}
    }

    private static func line(_ name: String, _ nanoseconds: [Int64]) -> String {
        let sorted = nanoseconds.sorted()
        func column(_ share: Double) -> String {
            let value = Double(sorted[Int(Double(sorted.count - 1) * share)]) / 1000
            let text = "\((value * 10).rounded() / 10)"
            return String(repeating: " ", count: max(1, 10 - text.utf8.count)) + text
        }
        let padded = name + String(repeating: " ", count: max(1, 19 - name.utf8.count))
        return padded + column(0) + column(0.1) + column(0.5) + column(0.99) + "\n"
    }
}
