internal import CAllocationCounter
internal import DaemonRuntime
internal import EngineWorker
internal import Glibc
internal import Protocol

/// Measures the scheduler in steady decode: time a call, and heap allocations a hundred ticks.
///
/// It is a program of its own, because it replaces the allocator of its process and because only
/// a release build says what schedules cost. With `--check` it fails where a bound is exceeded.
struct SchedulerBenchmark {
    static let runningCount = 256
    static let waitingCount = 1000
    static let promptCount = 512
    static let tickCount = 100
    static let passMicrosecondsMax = 50.0

    var scheduler: Scheduler
    var plan = StepPlan()
    var results: [EntryResult] = []
    var updates: [SequenceUpdate] = []
    var nextToken: Int32 = 7

    /// - Parameter slots: sequences that may run; above ``runningCount`` it is the lack of blocks
    ///   that keeps the others waiting, and admission is tried in every tick.
    init(slots: Int, prefixCaching: Bool) throws(SchedulerLimitsError) {
        let blockSize = 16
        let perSequence = (Self.promptCount + 2 * Self.tickCount) / blockSize + 1
        let admitted = Self.runningCount * perSequence
        let limits = try SchedulerLimits(
            maxSequencesRunning: slots, maxBatchedTokens: 8192, maxModelLength: 131_072,
            maxSequencesWaiting: 2 * Self.waitingCount,
            blockCount: slots > Self.runningCount ? admitted : 2 * admitted,
            blockSize: blockSize, prefixCaching: prefixCaching, eosTokenIDs: [1],
            vocabularyCount: 129_280)
        scheduler = Scheduler(limits: limits)
        plan.reserve(limits)
        results.reserveCapacity(slots)
        updates.reserveCapacity(slots)
    }

    mutating func submit(_ range: Range<Int>, promptCount: Int, seed: Int? = nil) {
        for index in range {
            var parameters = SamplingParameters()
            parameters.maxTokens = 2048
            let prompt = (0..<promptCount).map {
                Int32(2 + ((seed ?? index) * 7919 + $0 * 31) % 100_000)
            }
            let action = scheduler.submit(
                NewSequence(
                    id: SequenceID(rawValue: UInt64(index + 1)), promptTokens: prompt,
                    parameters: parameters))
            precondition(action == .accepted, "\(action)")
        }
    }

    /// Everything of a tick but the model and the sampler.
    mutating func tick() -> (schedule: Interval, complete: Interval) {
        let began = MonotonicClock.now()
        scheduler.schedule(into: &plan, allowPrefill: true)
        let scheduled = MonotonicClock.now()
        results.removeAll(keepingCapacity: true)
        for entry in plan.entries {
            let request = scheduler.samplingRequest(of: entry.sequence)
            precondition(request?.outputCount ?? 0 >= 0)
            nextToken = 2 + (nextToken &* 31 &+ 17) & 0xFFFF
            let token = SampledToken(tokenID: nextToken, logprobs: nil)
            results.append(EntryResult(outcome: entry.samples ? .sampled(token) : .notSampled))
        }
        let sampled = MonotonicClock.now()
        scheduler.complete(plan, results: results, into: &updates)
        return (scheduled - began, MonotonicClock.now() - sampled)
    }

    /// All are admitted and their prompts computed, and each array has its final size.
    mutating func warmUp(waitingPromptCount: Int) {
        submit(0..<Self.runningCount, promptCount: Self.promptCount)
        while scheduler.hasPrefillWork { _ = tick() }
        // The one that is to be admitted next begins like the first that runs.
        let (first, all) = (Self.runningCount, Self.runningCount + Self.waitingCount)
        submit(first..<(first + 1), promptCount: waitingPromptCount, seed: 0)
        submit((first + 1)..<all, promptCount: Self.promptCount)
        for _ in 0..<4 { _ = tick() }
        precondition(scheduler.statistics.running == Self.runningCount)
        precondition(scheduler.statistics.waiting == Self.waitingCount)
    }
}

func worst(_ values: [Interval]) -> Double {
    Double(values.map(\.nanoseconds).max() ?? 0) / 1000
}

func median(_ values: [Interval]) -> Double {
    let sorted = values.map(\.nanoseconds).sorted()
    return Double(sorted[sorted.count / 2]) / 1000
}

/// Whether the bounds hold.
func measure(
    _ name: String, slots: Int, prefixCaching: Bool, waitingPromptCount: Int
) throws(SchedulerLimitsError) -> Bool {
    var benchmark = try SchedulerBenchmark(slots: slots, prefixCaching: prefixCaching)
    benchmark.warmUp(waitingPromptCount: waitingPromptCount)
    var schedules: [Interval] = []
    var completes: [Interval] = []
    schedules.reserveCapacity(SchedulerBenchmark.tickCount)
    completes.reserveCapacity(SchedulerBenchmark.tickCount)
    let before = (all: allocation_count(), large: large_allocation_count())
    for _ in 0..<SchedulerBenchmark.tickCount {
        let times = benchmark.tick()
        schedules.append(times.schedule)
        completes.append(times.complete)
    }
    let allocations = allocation_count() - before.all
    let large = large_allocation_count() - before.large
    let (schedule, complete) = (median(schedules), median(completes))
    print(
        "\(name): schedule \(schedule) us (worst \(worst(schedules))), "
            + "complete \(complete) us (worst \(worst(completes))), "
            + "allocations \(allocations), of a kilobyte or more \(large)")
    let isCounted = before.all >= 0
    return isCounted && allocations == 0 && schedule <= SchedulerBenchmark.passMicrosecondsMax
}

do throws(SchedulerLimitsError) {
    var holds = true
    for prefixCaching in [false, true] {
        let name = prefixCaching ? "prefix caching" : "plain"
        holds =
            try measure(
                "\(name), every slot taken", slots: SchedulerBenchmark.runningCount,
                prefixCaching: prefixCaching, waitingPromptCount: 512) && holds
        holds =
            try measure(
                "\(name), too few blocks for the next", slots: 2 * SchedulerBenchmark.runningCount,
                prefixCaching: prefixCaching, waitingPromptCount: 65_000) && holds
    }
    if CommandLine.arguments.contains("--check"), !holds { exit(1) }
} catch {
    print("\(error)")
    exit(2)
}
