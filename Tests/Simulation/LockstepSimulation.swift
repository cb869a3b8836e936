import Protocol
import TestSupport

@testable import Coordinator
@testable import EngineWorker

/// N ranks and the coordinator's wake machine with a virtual clock: messages take random times and
/// may come twice, work arrives at random, and an exchange completes when all ranks are in it.
///
/// It runs the machines of the daemons unchanged. A step is one millisecond.
struct LockstepSimulation {
    struct Settings: Sendable {
        var ranks: Int
        var syncInterval: UInt64
        /// Milliseconds that a message takes at most.
        var delayMax = 40
        /// Of 1000 messages, those that arrive twice.
        var duplicated = 100
        /// Of 1000 messages, those that are lost (a broken connection).
        var lost = 50
        /// Milliseconds, in the middle, until a rank takes a complete vector.
        var slowness = 2
    }

    enum Message {
        case request(fromTick: UInt64)
        case wake(rank: Int, fromTick: UInt64)
        case acknowledgement(rank: Int, fromTick: UInt64)
    }

    struct Rank {
        var machine: LockstepStateMachine
        /// Ticks of work that wait here.
        var work = 0
        var done = 0
        /// It has given its entry to the exchange of its tick.
        var entry: TickEntry?
        var log: [Executed] = []
    }

    struct Executed: Hashable {
        let tick: UInt64
        let decision: TickDecision
    }

    static let view: UInt32 = 7

    let settings: Settings
    var random: SeededGenerator
    var ranks: [Rank]
    var wake: WakeStateMachine
    /// What ranks have given to the exchange of each tick.
    var given: [UInt64: [TickEntry?]] = [:]
    var inFlight: [(at: Int, message: Message)] = []
    var millisecond = 0
    var problem: String?
    var timesIdle = 0

    var now: Instant { Instant(nanoseconds: Int64(millisecond) * 1_000_000) }

    init(_ settings: Settings, random: SeededGenerator) {
        self.settings = settings
        self.random = random
        wake = WakeStateMachine(
            view: Self.view, workers: WorkerSet(worldSize: UInt32(settings.ranks), isFull: true))
        var machine = LockstepStateMachine(syncInterval: settings.syncInterval)
        machine.onViewActive(Self.view, worldSize: settings.ranks)
        ranks = Array(repeating: Rank(machine: machine), count: settings.ranks)
    }

    // MARK: Steps

    mutating func step(workArrives: Bool) {
        millisecond += 1
        if workArrives {
            let rank = Int.random(in: 0..<ranks.count, using: &random)
            ranks[rank].work += Int.random(in: 1...5, using: &random)
        }
        deliver()
        onTimer()
        for index in ranks.indices { stepRank(index) }
        exchange()
    }

    private mutating func stepRank(_ index: Int) {
        switch ranks[index].machine.state {
        case .detached:
            problem = "rank \(index) is detached"
        case .idle:
            guard ranks[index].work > 0 else { return }
            if case .requestWake(_, let fromTick) = ranks[index].machine.onWork(at: now) {
                send(.request(fromTick: fromTick))
            }
        case .running(let view, let tick):
            // A rank takes its time before it gives its entry.
            guard ranks[index].entry == nil, Bool.random(using: &random) else { return }
            let hasWork = ranks[index].work > 0
            ranks[index].entry = TickEntry(
                view: view, tick: tick, tokens: hasWork ? 1 : 0, prefillTokens: 0, kvUsage: 0,
                hasWork: hasWork, failed: false)
        }
    }

    /// The all-gather: everybody gets the vector once everybody has given an entry, but not at the
    /// same time: a rank may sleep, and ask to be woken, while another has yet to look.
    private mutating func exchange() {
        for index in ranks.indices {
            guard let entry = ranks[index].entry else { continue }
            // Nobody is more than one tick behind.
            if entry.tick >= 2 { given[entry.tick - 2] = nil }
            given[entry.tick, default: Array(repeating: nil, count: ranks.count)][index] = entry
        }
        for index in ranks.indices {
            guard let entry = ranks[index].entry, let vector = given[entry.tick],
                vector.allSatisfy({ $0 != nil }),
                Int.random(in: 0..<settings.slowness, using: &random) == 0
            else { continue }
            ranks[index].entry = nil
            take(vector, entry, index)
        }
        let states = Set(ranks.map { "\($0.machine.state)" })
        if states.count == 1, case .idle = ranks[0].machine.state { timesIdle += 1 }
    }

    private mutating func take(_ vector: [TickEntry?], _ entry: TickEntry, _ index: Int) {
        switch ranks[index].machine.onVector(vector) {
        case .disagreement(let rank):
            problem = "rank \(index) says that rank \(rank) is somewhere else"
        case .decided(let decision):
            ranks[index].log.append(Executed(tick: entry.tick, decision: decision))
            if entry.tokens > 0 {
                ranks[index].work -= 1
                ranks[index].done += 1
            }
        }
    }

    // MARK: Messages

    private mutating func send(_ message: Message) {
        let fate = Int.random(in: 0..<1000, using: &random)
        if fate < settings.lost { return }
        let copies = fate < settings.lost + settings.duplicated ? 2 : 1
        for _ in 0..<copies {
            let delay = Int.random(in: 1...settings.delayMax, using: &random)
            inFlight.append((millisecond + delay, message))
        }
    }

    private mutating func deliver() {
        let due = inFlight.filter { $0.at <= millisecond }
        inFlight.removeAll { $0.at <= millisecond }
        for (_, message) in due {
            switch message {
            case .request(let fromTick):
                perform(wake.onRequest(view: Self.view, fromTick: fromTick, at: now))
            case .wake(let rank, let fromTick):
                if ranks[rank].machine.onWake(view: Self.view, fromTick: fromTick) == .acknowledge {
                    send(.acknowledgement(rank: rank, fromTick: fromTick))
                }
            case .acknowledgement(let rank, let fromTick):
                wake.onAcknowledgement(
                    view: Self.view, fromTick: fromTick, worker: UInt32(rank))
            }
        }
    }

    private mutating func onTimer() { perform(wake.onTimer(at: now)) }

    private mutating func perform(_ action: WakeStateMachine.WakeAction) {
        switch action {
        case .none: break
        case .giveUp(let workers): problem = "the coordinator gives up \(workers)"
        case .send(let fromTick, let workers):
            for worker in workers { send(.wake(rank: Int(worker), fromTick: fromTick)) }
        }
    }

    // MARK: Reading

    var isQuiet: Bool {
        inFlight.isEmpty
            && ranks.allSatisfy { rank in
                guard case .idle = rank.machine.state else { return false }
                return rank.work == 0
            }
    }

    var description: String {
        "seed \(random.seed) at \(millisecond) ms: "
            + ranks.map { "\($0.machine.state) work \($0.work)" }.joined(separator: ", ")
    }
}
