import Protocol
import TestSupport

@testable import EngineWorker
@testable import Gateway

/// Gateways that route a trace to DP ranks in lock-step, with a virtual clock: the daemons' own
/// routers, schedulers and lock-step machines, and a model that takes a time proportional to the
/// rows of each tick's busiest rank.
///
/// Messages are late by whole ticks: a submission reaches its rank in this tick or the next one, a
/// report its gateway when a whole tick has passed.
struct BalanceSimulation {
    enum Routing: Sendable {
        case roundRobin
        case router
    }

    struct Settings: Sendable {
        var ranks = 64
        var gateways = 1
        var routing = Routing.router
        var prefill = PrefillNegotiation.off
        var batchedTokensMax = 512
        var sequencesMax = 256
        /// What a tick takes besides its busiest rank's rows, in the time of a row: reading the
        /// weights, exchanges.
        var tickTime = 50
    }

    struct Rank {
        var scheduler: Scheduler
        var machine: LockstepStateMachine
        var pending = PendingPrefill()
        var plan = StepPlan()
        /// By gateway.
        var known: [UInt64]
        var submissions: UInt64 = 0
        /// By sequence.
        var owners: [UInt64: Owner] = [:]
        var generated = 0
    }

    struct Owner {
        let gateway: Int
        let arrivedAt: Int
        var ticket: RankRouter.Ticket?
        var isPrefilled = false
    }

    struct Submission {
        let dueTick: Int
        let rank: Int
        let id: UInt64
        let owner: Owner
        let arrival: BalanceTrace.Arrival
    }

    struct Report {
        let dueTick: Int
        let gateway: Int
        let load: RankLoad
        let known: UInt64
        let ended: [RankRouter.Ticket]
        let prefilled: [RankRouter.Ticket]
    }

    let settings: Settings
    private var random: SeededGenerator
    private(set) var routers: [RankRouter] = []
    private(set) var ranks: [Rank] = []
    private var submissions: [Submission] = []
    private var reports: [Report] = []
    private var nextID: UInt64 = 1
    private var turns: [Int]
    private(set) var now = 0
    private(set) var tick = 0
    private(set) var figures = BalanceFigures()

    init(_ settings: Settings, random: SeededGenerator) throws {
        self.settings = settings
        self.random = random
        let limits = try SchedulerLimits(
            maxSequencesRunning: settings.sequencesMax,
            maxBatchedTokens: settings.batchedTokensMax, maxModelLength: 4096,
            maxSequencesWaiting: 100_000, blockCount: 1 << 16, blockSize: 16,
            eosTokenIDs: [], vocabularyCount: 100)
        turns = Array(0..<settings.gateways)
        var machine = LockstepStateMachine(syncInterval: 1, prefill: settings.prefill)
        machine.onViewActive(1, worldSize: settings.ranks)
        _ = machine.onWake(view: 1, fromTick: 0)
        for _ in 0..<settings.ranks {
            ranks.append(
                Rank(
                    scheduler: Scheduler(limits: limits), machine: machine,
                    known: Array(repeating: 0, count: settings.gateways)))
        }
        for gateway in 0..<settings.gateways {
            var router = RankRouter(rotation: UInt64(gateway * 31))
            for rank in 0..<settings.ranks {
                router.onRankOpened(rank, capacity: 100_000, cacheCapacity: 1 << 20)
            }
            routers.append(router)
        }
    }

    /// - Parameter warmUp: time from which figures are taken.
    mutating func run(_ trace: BalanceTrace, until end: Int, warmUp: Int) {
        var next = 0
        while now < end {
            deliverReports()
            while next < trace.arrivals.count, trace.arrivals[next].at <= now {
                route(trace.arrivals[next], gateway: next % settings.gateways)
                next += 1
            }
            deliverSubmissions()
            step(measures: now >= warmUp)
        }
    }

    // MARK: Gateways

    private mutating func route(_ arrival: BalanceTrace.Arrival, gateway: Int) {
        let candidate = RankRouter.Candidate(
            tokens: arrival.promptTokens, outputTokensMax: 1024)
        let rank: Int
        switch settings.routing {
        case .roundRobin:
            rank = turns[gateway] % settings.ranks
            turns[gateway] += settings.gateways
        case .router:
            guard let chosen = routers[gateway].choose(candidate) else {
                preconditionFailure("no rank has room")
            }
            rank = chosen
        }
        let ticket = routers[gateway].onSubmitted(candidate, to: rank)
        submissions.append(
            Submission(
                dueTick: tick + Int.random(in: 0...1, using: &random), rank: rank, id: nextID,
                owner: Owner(gateway: gateway, arrivedAt: now, ticket: ticket), arrival: arrival))
        nextID += 1
    }

    private mutating func deliverReports() {
        let due = reports.filter { $0.dueTick <= tick }
        reports.removeAll { $0.dueTick <= tick }
        for report in due {
            routers[report.gateway].onReport(report.load, known: report.known)
            for var ticket in report.prefilled { routers[report.gateway].onPrefilled(&ticket) }
            for ticket in report.ended { routers[report.gateway].onEnded(ticket) }
        }
    }

    // MARK: Ranks

    private mutating func deliverSubmissions() {
        // A link keeps its order: what is behind a late one waits for it.
        var late: [Submission] = []
        for submission in submissions {
            let waits = late.contains {
                $0.rank == submission.rank && $0.owner.gateway == submission.owner.gateway
            }
            guard submission.dueTick <= tick, !waits else {
                late.append(submission)
                continue
            }
            take(submission)
        }
        submissions = late
    }

    private mutating func take(_ submission: Submission) {
        let id = SequenceID(rawValue: submission.id)
        var parameters = SamplingParameters()
        parameters.maxTokens = Int32(submission.arrival.outputTokens)
        parameters.ignoreEOS = true
        let prompt = Array(repeating: Int32(50), count: submission.arrival.promptTokens)
        let action = ranks[submission.rank].scheduler.submit(
            NewSequence(id: id, promptTokens: prompt, parameters: parameters))
        precondition(action == .accepted, "\(action)")
        ranks[submission.rank].pending.onSubmitted(id, tokens: prompt.count)
        ranks[submission.rank].owners[submission.id] = submission.owner
        ranks[submission.rank].submissions += 1
        ranks[submission.rank].known[submission.owner.gateway] += 1
    }

    private mutating func step(measures: Bool) {
        var entries: [TickEntry?] = []
        for index in ranks.indices { entries.append(schedule(index)) }
        var tokensMax = 0
        for index in ranks.indices {
            guard case .decided(let decision) = ranks[index].machine.onVector(entries) else {
                preconditionFailure("ranks disagree in tick \(tick)")
            }
            precondition(ranks[index].machine.rowLevel == ranks[0].machine.rowLevel)
            tokensMax = decision.tokensMax
            // This group does not sleep.
            if case .idle(_, let next) = ranks[index].machine.state {
                _ = ranks[index].machine.onWake(view: 1, fromTick: next)
            }
        }
        now += settings.tickTime + tokensMax
        if measures { figures.onTick(entries.compactMap { $0 }) }
        for index in ranks.indices { complete(index, measures: measures) }
        tick += 1
    }

    private mutating func schedule(_ index: Int) -> TickEntry {
        let level = ranks[index].machine.rowLevel
        var plan = ranks[index].plan
        ranks[index].scheduler.schedule(into: &plan, allowPrefill: true, rowLevel: level)
        let left = ranks[index].scheduler.prefillRowsLeft(behind: plan)
        ranks[index].plan = plan
        return TickEntry(
            view: 1, tick: UInt64(tick), tokens: UInt32(plan.rowCount),
            prefillTokens: UInt32(plan.prefillRowCount), kvUsage: 0,
            hasWork: ranks[index].scheduler.hasWork, failed: false,
            wishedPrefillTokens: UInt32(clamping: left),
            nextDecodes: UInt32(plan.sampleCount))
    }

    private mutating func complete(_ index: Int, measures: Bool) {
        var ended: [[RankRouter.Ticket]] = Array(repeating: [], count: settings.gateways)
        var prefilled = ended
        if !ranks[index].plan.isDummy {
            let entries = ranks[index].plan.entries
            let results = entries.map { entry in
                EntryResult(
                    outcome: entry.samples
                        ? .sampled(SampledToken(tokenID: 60, logprobs: nil)) : .notSampled)
            }
            var updates: [SequenceUpdate] = []
            let plan = ranks[index].plan
            ranks[index].scheduler.complete(plan, results: results, into: &updates)
            for entry in entries where !entry.isDecode {
                ranks[index].pending.onComputed(
                    entry.sequence, through: entry.firstPosition + entry.rowCount)
            }
            for update in updates {
                ranks[index].generated += 1
                let id = update.sequence.rawValue
                guard var owner = ranks[index].owners[id], let ticket = owner.ticket else {
                    preconditionFailure("nobody owns \(id)")
                }
                if !owner.isPrefilled {
                    owner.isPrefilled = true
                    prefilled[owner.gateway].append(ticket)
                    if measures { figures.firstTokens.append(now - owner.arrivedAt) }
                }
                ranks[index].owners[id] = owner
                if update.finish != nil {
                    ended[owner.gateway].append(ticket)
                    ranks[index].pending.onEnded(update.sequence)
                    ranks[index].owners[id] = nil
                }
            }
        }
        report(index, ended: ended, prefilled: prefilled)
    }

    private mutating func report(
        _ index: Int, ended: [[RankRouter.Ticket]], prefilled: [[RankRouter.Ticket]]
    ) {
        var load = RankLoad()
        let statistics = ranks[index].scheduler.statistics
        load.dpRank = UInt32(index)
        load.running = UInt32(statistics.running)
        load.waiting = UInt32(statistics.waiting)
        load.pendingPrefillTokens = UInt64(ranks[index].pending.total)
        load.kvCacheUsage = Float(statistics.kvUsage)
        load.tick = UInt64(tick)
        load.submissions = ranks[index].submissions
        for gateway in 0..<settings.gateways {
            // A link keeps its order, so all reports of a tick are equally late.
            reports.append(
                Report(
                    dueTick: tick + 2, gateway: gateway, load: load,
                    known: ranks[index].known[gateway], ended: ended[gateway],
                    prefilled: prefilled[gateway]))
        }
    }
}

/// What a simulation measures.
struct BalanceFigures {
    private(set) var ticks = 0
    /// Rows of the busiest ranks, and of all, summed over the ticks.
    private(set) var rowsMax = 0
    private(set) var rows = 0
    private var ranks = 1
    /// The most rows of a tick in which somebody decoded.
    private(set) var longestDecodingTick = 0
    private(set) var decodingTicks: [Int] = []
    var firstTokens: [Int] = []

    mutating func onTick(_ entries: [TickEntry]) {
        ticks += 1
        ranks = entries.count
        let largest = entries.reduce(0) { max($0, Int($1.tokens)) }
        rowsMax += largest
        rows += entries.reduce(0) { $0 + Int($1.tokens) }
        if entries.contains(where: { $0.tokens > $0.prefillTokens }) {
            longestDecodingTick = max(longestDecodingTick, largest)
            decodingTicks.append(largest)
        }
    }

    /// Of a tick's busiest rank to the mean rank, weighted by rows; as `phalanx:tick_imbalance`.
    var imbalance: Double { Double(rowsMax * ranks) / Double(max(rows, 1)) }
    var meanRows: Double { Double(rows) / Double(max(ranks * ticks, 1)) }

    var meanFirstToken: Int { firstTokens.reduce(0, +) / max(firstTokens.count, 1) }

    static func quantile(_ values: [Int], _ part: Double) -> Int {
        let sorted = values.sorted()
        return sorted.isEmpty ? 0 : sorted[min(Int(Double(sorted.count) * part), sorted.count - 1)]
    }

    var description: String {
        let hundredths = Int((imbalance * 1000).rounded())
        return "imbalance \(Double(hundredths) / 1000), \(ticks) ticks of "
            + "\(Int(meanRows)) rows a rank, decoding ticks: median "
            + "\(Self.quantile(decodingTicks, 0.5)), longest \(longestDecodingTick) rows; first "
            + "tokens: mean \(meanFirstToken), 99 %: \(Self.quantile(firstTokens, 0.99))"
    }
}
