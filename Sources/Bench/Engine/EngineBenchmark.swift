internal import DaemonRuntime
internal import EngineWorker
internal import Protocol

/// Times the model's steps alone: one engine in this process, no scheduler, no sampling, no links.
///
/// A decode step takes one token of each of `batch` sequences at position `context` and computes
/// the logits of all. A prefill step takes a whole prompt and computes the logits of its last
/// token. Token ids are drawn at random once, so that experts are hit as in use.
public struct EngineBenchmark {
    static let blockSize = 16
    /// Steps before the first that counts: memory is touched, huge pages are made.
    static let warmUpSteps = 2

    public struct Figure: Sendable {
        public let name: String
        /// Sequences of a decode step.
        public let batch: Int
        /// Positions before a decode step's token, or tokens of a prompt.
        public let context: Int
        public let tokensPerSecond: Double
        public let fastest: Double
        public let slowest: Double
        /// Milliseconds a step, the median.
        public let milliseconds: Double
        /// Of the faster half of the steps, together: what another process took is in the rest.
        let stages: StageTimes
        let stagesSteps: Int

        /// One line of JSON.
        public var json: String {
            "{\"name\":\"\(name)\",\"batch\":\(batch),\"context\":\(context),"
                + "\"tokens_per_second\":\(tokensPerSecond),\"fastest\":\(fastest),"
                + "\"slowest\":\(slowest),\"milliseconds\":\(milliseconds)}"
        }

        /// One line for people.
        public var line: String {
            func rounded(_ value: Double) -> Double { (value * 10).rounded() / 10 }
            let what =
                name == "decode"
                ? "decode, \(batch) at context \(context)" : "prefill of \(context)"
            return "\(what): \(rounded(tokensPerSecond)) tokens/s "
                + "(\(rounded(slowest)) to \(rounded(fastest))), \(rounded(milliseconds)) ms"
        }
    }

    private let options: EngineBenchmarkOptions
    private let model: DeepSeekModel
    private let tokens: [Int32]
    private var tick: UInt64 = 0
    public let loadSeconds: Double

    public init(_ options: EngineBenchmarkOptions) throws(EngineBenchmarkError) {
        self.options = options
        let config: ModelConfig
        let backend: CPUBackend
        do throws(CheckpointError) {
            config = try ModelConfig(folder: options.model)
        } catch {
            throw EngineBenchmarkError("\(error)")
        }
        do throws(BackendError) {
            backend = try CPUBackend(
                kernels: .best, threads: options.threads, elementType: options.elementType,
                cacheType: options.cacheType, quantizesWeights: options.quantizesWeights,
                weightsCache: options.weightsCacheFolder.map { folder in
                    PackedWeightsCache(folder: folder) { print($0.text) }
                })
        } catch {
            throw EngineBenchmarkError("\(error)")
        }
        let batch = options.batches.max() ?? 1
        let longest = max(options.prefills.max() ?? 1, options.context + 1)
        let perSequence = (options.context + Self.blockSize) / Self.blockSize
        let blocks = max(
            batch * perSequence, (longest + Self.blockSize - 1) / Self.blockSize)
        let start = MonotonicClock.now()
        do throws(ModelLoadError) {
            model = try DeepSeekModel(
                folder: options.model,
                layout: ParallelLayout(dataParallelSize: 1, worker: 0),
                backend: backend, collectives: SingleRankCollectives(),
                limits: BackendLimits(
                    rowsMax: max(batch, longest), blockCount: blocks, blockSize: Self.blockSize))
        } catch {
            throw EngineBenchmarkError("\(error)")
        }
        loadSeconds = Self.seconds(since: start)
        backend.fillCache()
        var random = SplitMix(state: 1)
        tokens = (0..<max(longest, batch)).map { _ in
            Int32(random.next() % UInt64(config.vocabularySize))
        }
    }

    /// - Parameter report: called with each figure when it is there.
    public mutating func run(_ report: (Figure) -> Void) throws(EngineBenchmarkError) {
        for batch in options.batches {
            var plan = StepPlan()
            let perSequence = options.context / Self.blockSize + 1
            for sequence in 0..<batch {
                let first = Int32(sequence * perSequence)
                plan.append(
                    sequence: SequenceID(rawValue: UInt64(sequence)),
                    tokens: tokens[sequence...sequence], firstPosition: options.context,
                    blocks: Array(first..<(first + Int32(perSequence))),
                    blockSize: Self.blockSize, samples: true, isDecode: true, allLogits: false)
            }
            report(
                try time(plan, "decode", batch: batch, context: options.context, tokens: batch))
        }
        for length in options.prefills {
            var plan = StepPlan()
            let blocks = Int32((length + Self.blockSize - 1) / Self.blockSize)
            plan.append(
                sequence: SequenceID(rawValue: 0), tokens: tokens[0..<length], firstPosition: 0,
                blocks: Array(0..<blocks), blockSize: Self.blockSize, samples: true,
                isDecode: false, allLogits: false)
            report(try time(plan, "prefill", batch: 1, context: length, tokens: length))
        }
    }

    private mutating func time(
        _ plan: StepPlan, _ name: String, batch: Int, context: Int, tokens: Int
    ) throws(EngineBenchmarkError) -> Figure {
        var steps: [(seconds: Double, stages: StageTimes)] = []
        for step in 0..<(Self.warmUpSteps + options.steps) {
            tick += 1
            let before = model.clock.times
            let start = MonotonicClock.now()
            model.clock.start()
            do throws(CollectiveError) {
                _ = try model.forward(
                    plan, view: 1, tick: tick, deadline: start + .seconds(3600))
            } catch {
                throw EngineBenchmarkError("\(error)")
            }
            guard step >= Self.warmUpSteps else { continue }
            steps.append((Self.seconds(since: start), model.clock.times.since(before)))
        }
        steps.sort { $0.seconds < $1.seconds }
        let times = steps.map(\.seconds)
        let faster = steps.prefix(steps.count / 2 + 1)
        let middle = times[times.count / 2]
        let count = Double(tokens)
        return Figure(
            name: name, batch: batch, context: context, tokensPerSecond: count / middle,
            fastest: count / times[0], slowest: count / times[times.count - 1],
            milliseconds: middle * 1000,
            stages: faster.reduce(StageTimes()) { $0.adding($1.stages) },
            stagesSteps: faster.count)
    }

    private static func seconds(since start: Instant) -> Double {
        Double((MonotonicClock.now() - start).nanoseconds) / 1e9
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
