import Protocol
import Testing

@testable import EngineWorker

/// Drives a scheduler with the fake model and the real sampler through random operations, and
/// compares what each sequence yields with ``LoneSequence``.
struct SchedulerSimulation {
    /// One stream, perhaps resubmitted under several ids.
    struct Stream {
        let prompt: [Int32]
        let parameters: SamplingParameters
        let priority: Int32
        var id: SequenceID
        var yielded = LoneSequence()
        var isCancelled = false
    }

    let seed: UInt64
    let limits: SchedulerLimits
    var random: TestRandom
    var scheduler: Scheduler
    var model: PagedFakeModel
    let sampler: Sampler
    var streams: [Stream] = []
    /// By raw id: index of its stream, nil once it ended.
    var owners: [Int?] = []
    var plans: [StepPlan] = []
    var rejectedCount = 0
    var moveCount = 0
    /// Steps in which two sequences had a block in common.
    var sharingCount = 0
    /// Sequences that were preempted, and admitted again behind cached blocks.
    var resumedHitCount = 0
    private var position: [SequenceID: Int] = [:]
    /// What prompts begin with, so that some of them have blocks in common.
    var openings: [[Int32]] = []

    init(seed: UInt64) throws {
        self.seed = seed
        var random = TestRandom(seed: seed)
        let blockSize = random.next(in: 1...6)
        let sequences = random.next(in: 1...7)
        let modelLength = random.next(in: 12...40)
        let chunked = random.chance(3, of: 4)
        limits = try SchedulerLimits(
            maxSequencesRunning: sequences,
            maxBatchedTokens: chunked ? sequences + random.next(in: 0...12) : modelLength + 5,
            maxLogitRows: sequences + random.next(in: 0...10), maxModelLength: modelLength,
            maxSequencesWaiting: random.next(in: 3...12),
            blockCount: random.next(in: 18...80) / blockSize + 1,
            blockSize: blockSize,
            chunkedPrefill: chunked,
            prefillFirst: !chunked && random.chance(1, of: 2),
            prefixCaching: random.chance(3, of: 4),
            policy: random.chance(1, of: 2) ? .priority : .firstComeFirstServed,
            eosTokenIDs: [0, 1],
            vocabularyCount: PagedFakeModel.vocabularyCount)
        scheduler = Scheduler(limits: limits)
        model = PagedFakeModel(blockCount: limits.blockCount, blockSize: blockSize)
        sampler = Sampler(
            vocabularyCount: PagedFakeModel.vocabularyCount, tokenizerVocabularyCount: 30,
            eosTokenIDs: limits.eosTokenIDs)
        openings = (0..<3).map { _ in (0..<20).map { _ in Int32(random.next(in: 0...31)) } }
        self.random = random
    }

    mutating func run(operations: Int) throws {
        for _ in 0..<operations {
            switch random.next(in: 0...9) {
            case 0...2: try submit()
            case 3: if random.chance(1, of: 2) { try cancel() } else { try move() }
            default: try step(allowPrefill: random.chance(4, of: 5))
            }
        }
        var left = 5000
        while scheduler.hasWork && left > 0 {
            try step(allowPrefill: true)
            left -= 1
        }
        #expect(left > 0, "the scheduler makes no progress, SEED=\(seed)")
    }

    func check() {
        do {
            try scheduler.checkInvariants()
        } catch {
            Issue.record("\(error) SEED=\(seed)")
        }
    }

    mutating func submit() throws {
        var parameters = SamplingParameters()
        parameters.seed = random.next()
        parameters.maxTokens = Int32(random.next(in: 1...20))
        parameters.minTokens = Int32(random.next(in: 0...Int(parameters.maxTokens)))
        parameters.ignoreEOS = random.chance(1, of: 2)
        parameters.stopTokenIDs = random.chance(1, of: 2) ? [3, 1] : []
        parameters.temperature = random.chance(1, of: 4) ? 0 : 1
        if random.chance(1, of: 3) { parameters.frequencyPenalty = 0.7 }
        if random.chance(1, of: 3) { parameters.repetitionPenalty = 1.3 }
        if random.chance(1, of: 3) { parameters.logprobs = 2 }
        if random.chance(1, of: 3) {
            parameters.promptLogprobs = 1
            if random.chance(1, of: 4) { (parameters.maxTokens, parameters.minTokens) = (0, 0) }
        }
        var prompt = (0..<random.next(in: 1...24)).map { _ in Int32(random.next(in: 0...31)) }
        if random.chance(1, of: 2) {
            let opening = openings[random.next(in: 0...2)].prefix(random.next(in: 1...20))
            prompt = Array((opening + prompt).prefix(random.next(in: 1...24)))
        }
        let stream = Stream(
            prompt: prompt, parameters: parameters, priority: Int32(random.next(in: -1...1)),
            id: SequenceID(rawValue: 0))
        submit(stream, delivered: [])
    }

    mutating func submit(_ stream: Stream, delivered: [Int32]) {
        var stream = stream
        stream.id = SequenceID(rawValue: UInt64(owners.count))
        stream.isCancelled = false
        let action = scheduler.submit(
            NewSequence(
                id: stream.id, promptTokens: stream.prompt, deliveredTokens: delivered,
                parameters: stream.parameters, priority: stream.priority))
        switch action {
        case .accepted:
            owners.append(streams.count)
            streams.append(stream)
        case .rejected:
            owners.append(nil)
            rejectedCount += 1
        }
        check()
    }

    /// A live stream's place, or nil.
    mutating func pick() -> Int? {
        let live = streams.indices.filter { owners[Int(streams[$0].id.rawValue)] != nil }
        return live.isEmpty ? nil : live[random.next(in: 0...(live.count - 1))]
    }

    @discardableResult
    mutating func cancel() throws -> Int? {
        guard let index = pick() else { return nil }
        let id = streams[index].id
        let (once, twice) = (scheduler.cancel(id), scheduler.cancel(id))
        #expect(once != .unknown && twice == .unknown, "SEED=\(seed)")
        owners[Int(id.rawValue)] = nil
        streams[index].isCancelled = true
        check()
        return index
    }

    /// What a gateway does when a rank is lost: the rest of the stream under another id.
    mutating func move() throws {
        guard let index = try cancel() else { return }
        submit(streams[index], delivered: streams[index].yielded.tokens.map(\.tokenID))
        moveCount += 1
    }

    mutating func step(allowPrefill: Bool) throws {
        var plan = StepPlan()
        scheduler.schedule(into: &plan, allowPrefill: allowPrefill)
        #expect(allowPrefill || plan.prefillRowCount == 0, "SEED=\(seed)")
        #expect(plan.rowCount <= limits.maxBatchedTokens, "SEED=\(seed)")
        #expect(plan.logitRows.count <= limits.maxLogitRows, "SEED=\(seed)")
        #expect(plan.entries.count <= limits.maxSequencesRunning, "SEED=\(seed)")
        plans.append(plan)
        check()
        note(plan)
        let logits = model.forward(plan)
        if random.chance(1, of: 6) { try submit() }
        if random.chance(1, of: 12) { try cancel() }
        if random.chance(1, of: 12) { try move() }
        if random.chance(1, of: 15) {
            scheduler.abandon(plan)
            check()
            return
        }
        var results: [EntryResult] = []
        logits.withUnsafeBufferPointer {
            sampler.sample(plan: plan, logits: $0, scheduler: scheduler, into: &results)
        }
        for update in scheduler.complete(plan, results: results) { take(update) }
        check()
    }

    private mutating func note(_ plan: StepPlan) {
        var seen: Set<Int32> = []
        var shares = false
        for entry in plan.entries {
            let blocks = plan.blockTables[entry.firstBlock..<(entry.firstBlock + entry.blockCount)]
            shares = shares || !seen.isDisjoint(with: blocks)
            seen.formUnion(blocks)
            // Only a preemption takes a sequence back, and only cached blocks not to the start.
            let before = position[entry.sequence] ?? 0
            if entry.firstPosition > 0, entry.firstPosition < before { resumedHitCount += 1 }
            position[entry.sequence] = entry.firstPosition
        }
        if shares { sharingCount += 1 }
    }

    mutating func take(_ update: SequenceUpdate) {
        guard let index = owners[Int(update.sequence.rawValue)] else {
            Issue.record("\(update.sequence) was heard of after its end, SEED=\(seed)")
            return
        }
        if let token = update.token { streams[index].yielded.tokens.append(token) }
        if let promptLogprobs = update.promptLogprobs {
            #expect(streams[index].yielded.promptLogprobs == nil, "twice, SEED=\(seed)")
            streams[index].yielded.promptLogprobs = promptLogprobs
        }
        if let finish = update.finish {
            streams[index].yielded.finish = finish
            owners[Int(update.sequence.rawValue)] = nil
        }
    }
}
