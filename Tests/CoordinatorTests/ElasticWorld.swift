import Protocol
import TestSupport

@testable import Coordinator

/// A coordinator, workers that come and go, a gateway, and the lines between them, which delay and
/// lose messages but keep their order, as ZeroMQ's connections do. Time goes in steps.
struct ElasticWorld {
    static let stepTime = Interval.milliseconds(50)
    static let gatewayNumber: UInt64 = 1
    private static let beginning = Instant(nanoseconds: 1_000_000_000_000)

    struct Line {
        var up: [(at: Instant, message: ControlMessage)] = []
        var down: [(at: Instant, body: ControlBody)] = []
    }

    let tensorParallelSize: UInt32
    let ranks: ClosedRange<UInt32>
    private(set) var core: CoordinatorCore
    private(set) var now = Self.beginning
    private(set) var workers: [ModelWorker] = []
    private var lines: [UInt64: Line] = [:]
    private var nextNumber: UInt64 = 2
    private var random: SeededGenerator
    var delayMax = 200
    var failureChance = 0.0

    // The gateway.
    private(set) var gatewayView: UInt32 = 0
    private var gatewayIsKnown = false
    private var gatewayBeat = Instant(nanoseconds: 0)

    // What was seen.
    private(set) var problems: [String] = []
    private(set) var activeViews = 0
    private(set) var restarts = 0
    private var lastNumber: UInt32 = 0
    /// The last of what happened.
    private(set) var log: [String] = []
    /// Members that had no experts for their place in a view that formed.
    private(set) var misfits = 0

    init(
        tensorParallelSize: UInt32, ranks: ClosedRange<UInt32>, begins: UInt32,
        random: SeededGenerator
    ) {
        self.tensorParallelSize = tensorParallelSize
        self.ranks = ranks
        self.random = random
        core = Self.coordinator(tensorParallelSize, ranks, begins, at: now)
        self.begins = begins
        lines[Self.gatewayNumber] = Line()
        for device in 0..<(begins * tensorParallelSize) { start(device: device) }
    }

    private let begins: UInt32

    private static func coordinator(
        _ tensorParallelSize: UInt32, _ ranks: ClosedRange<UInt32>, _ begins: UInt32,
        at now: Instant
    ) -> CoordinatorCore {
        CoordinatorCore(
            CoordinatorCore.Settings(
                worldSize: begins * tensorParallelSize, tensorParallelSize: tensorParallelSize,
                ranksMin: ranks.lowerBound, ranksMax: ranks.upperBound,
                configuration: Deployment.configuration, lease: Deployment.lease,
                readyTimeout: .seconds(600)),
            at: now)
    }

    var devicesMax: UInt32 { ranks.upperBound * tensorParallelSize }
    var living: [ModelWorker] { workers.filter(\.isAlive) }

    // MARK: What happens to processes

    mutating func start(device: UInt32) {
        guard !living.contains(where: { $0.device == device }) else { return }
        let worker = ModelWorker(nextNumber, device: device, seed: random.next())
        nextNumber += 1
        lines[worker.number] = Line()
        workers.removeAll { !$0.isAlive }
        workers.append(worker)
        note("worker \(worker.number) starts on device \(device)")
    }

    mutating func kill(_ worker: ModelWorker) {
        worker.isAlive = false
        note("worker \(worker.number) is killed")
    }

    mutating func restartCoordinator() {
        core = Self.coordinator(tensorParallelSize, ranks, begins, at: now)
        for number in lines.keys.sorted() { loseMessages(of: number) }
        lastNumber = 0
        restarts += 1
        note("the coordinator is restarted")
    }

    /// The connection breaks, and is there again at once.
    mutating func loseMessages(of number: UInt64) {
        lines[number] = Line()
        note("messages of \(number) are lost")
    }

    mutating func note(_ text: String) {
        log.append("\((now - Self.beginning).milliseconds) ms: \(text)")
        if log.count > 80 { log.removeFirst() }
    }

    private mutating func complain(_ text: String) {
        problems.append("\((now - Self.beginning).milliseconds) ms: \(text)")
    }

    // MARK: Time

    mutating func step() {
        now = now + Self.stepTime
        deliverUp()
        if now.nanoseconds / 1_000_000 % 100 == 0 { perform(core.onTimer(at: now)) }
        deliverDown()
        for worker in living {
            if let until = worker.pausedUntil {
                if now < until { continue }
                worker.pausedUntil = nil
            }
            worker.failureChance = failureChance
            worker.turn(at: now)
        }
        meet()
        breakViews()
        for worker in workers {
            for message in worker.takeSaid() { send(message, of: worker.number) }
            if worker.sharesMax > 2 {
                complain("worker \(worker.number) holds \(worker.sharesMax) divisions")
            }
        }
        turnGateway()
    }

    private func delay(_ random: inout SeededGenerator) -> Interval {
        .milliseconds(Int.random(in: 0...delayMax, using: &random))
    }

    private mutating func send(_ message: ControlMessage, of number: UInt64) {
        let at = max(now + delay(&random), lines[number]?.up.last?.at ?? now)
        lines[number]?.up.append((at, message))
    }

    private mutating func deliverUp() {
        for number in lines.keys.sorted() {
            while let first = lines[number]?.up.first, first.at <= now {
                lines[number]?.up.removeFirst()
                perform(core.onMessage(first.message, from: Self.identity(number), at: now))
            }
        }
    }

    static func identity(_ number: UInt64) -> PeerIdentity {
        let role: UInt8 = number == gatewayNumber ? 2 : 1
        return [role, UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
    }

    private mutating func perform(_ actions: [CoordinatorCore.Action]) {
        for action in actions {
            switch action {
            case .send(let identity, let body):
                let number = UInt64(identity[1]) << 8 | UInt64(identity[2])
                let at = max(now + delay(&random), lines[number]?.down.last?.at ?? now)
                lines[number]?.down.append((at, body))
                if case .view(let view) = body, number != Self.gatewayNumber { check(view) }
            case .log(let text), .warn(let text): note(text)
            case .fail(let text): complain(text)
            case .report, .status, .serving: break
            }
        }
    }

    private mutating func check(_ view: View) {
        if view.number < lastNumber { complain("view \(view.number) after \(lastNumber)") }
        if view.state == .active && view.number > lastNumber { complain("active, never forming") }
        lastNumber = view.number
        let numbers = view.members.map(\.incarnation.rawValue)
        if Set(numbers).count != numbers.count { complain("a member is there twice") }
        let places = view.members.map(\.worker)
        if places != places.sorted() { complain("members \(places)") }
        for place in places where place % tensorParallelSize == 0 {
            let rank = place..<(place + tensorParallelSize)
            if !rank.allSatisfy(places.contains) { complain("DP rank of \(place) is not whole") }
        }
        if view.state != .retired && places.count < ranks.lowerBound * tensorParallelSize {
            complain("only \(places.count) workers")
        }
    }

    private mutating func deliverDown() {
        for number in lines.keys.sorted() {
            let worker = living.first { $0.number == number }
            if worker?.pausedUntil != nil { continue }
            while let first = lines[number]?.down.first, first.at <= now {
                lines[number]?.down.removeFirst()
                if number == Self.gatewayNumber {
                    hearAtGateway(first.body)
                } else if let worker, worker.isAlive {
                    worker.hear(first.body, at: now)
                }
            }
            if number != Self.gatewayNumber, worker == nil, lines[number]?.up.isEmpty == true {
                lines[number] = nil
            }
        }
    }

    // MARK: Workers among themselves

    /// Those who connect to one view meet when all do, and fail when one of them is gone.
    private mutating func meet() {
        for worker in living {
            guard let (view, since) = worker.connecting else { continue }
            let peers = view.members.map { member in
                living.first { $0.number == member.incarnation.rawValue }
            }
            let gone = zip(view.members, peers).filter { $0.1 == nil }.map(\.0.worker)
            if !gone.isEmpty || now - since > ModelWorker.exchangeTimeout {
                worker.breakView(view, gone, "not connected")
                continue
            }
            let everybody = peers.compactMap { $0 }
            let isMeeting = zip(view.members, everybody).allSatisfy { member, peer in
                peer.connecting?.view == view && peer.address == member.collectivesAddress
                    && peer.pausedUntil == nil
            }
            guard isMeeting else { continue }
            for peer in everybody {
                guard let problem = peer.join() else { continue }
                misfits += 1
                note("view \(view.number): \(problem)")
            }
        }
    }

    /// Who computes with one that is gone notices it, sooner or later.
    private mutating func breakViews() {
        for worker in living {
            guard let group = worker.group else { continue }
            let gone = group.members.filter { member in
                let peer = living.first { $0.number == member.incarnation.rawValue }
                return peer?.group != group
            }
            let isWaiting = worker.view?.state != .active
            guard !gone.isEmpty, !isWaiting, Int.random(in: 0..<20, using: &random) == 0 else {
                continue
            }
            worker.breakView(group, gone.map(\.worker), "peer lost")
        }
    }

    // MARK: The gateway

    private mutating func hearAtGateway(_ body: ControlBody) {
        switch body {
        case .config: (gatewayIsKnown, gatewayView) = (true, 0)
        case .refuse: gatewayIsKnown = false
        case .view(let view):
            let number = view.state == .active ? view.number : 0
            if number != 0 && number != gatewayView { activeViews += 1 }
            gatewayView = number
        default: break
        }
    }

    private mutating func turnGateway() {
        guard now - gatewayBeat >= .seconds(1) else { return }
        gatewayBeat = now
        let body =
            gatewayIsKnown ? Deployment.heartbeat() : Deployment.hello(role: .gateway)
        let message = ControlMessage(
            incarnation: Incarnation(rawValue: Self.gatewayNumber), view: gatewayView, sequence: 1,
            body: body)
        send(message, of: Self.gatewayNumber)
    }

    // MARK: The end

    /// Why things are not as they should be when nothing happens any more; nil when they are.
    var unsettled: String? {
        let staying = living.filter { !$0.isDraining }
        if staying.count != living.count { return "somebody drains still" }
        guard core.view.state == .active else { return "view \(core.view)" }
        var wanted: Set<UInt64> = []
        let byRank = Dictionary(grouping: staying) {
            ($0.place ?? .max) / tensorParallelSize
        }
        for (_, workers) in byRank where workers.count == tensorParallelSize {
            wanted.formUnion(workers.map(\.number))
        }
        let members = core.view.members.map(\.incarnation.rawValue)
        if Set(members) != wanted { return "members \(members), not \(wanted.sorted())" }
        for worker in staying {
            if wanted.contains(worker.number) && worker.group?.number != core.view.number {
                return "worker \(worker.number) is in \(String(describing: worker.group?.number))"
            }
            if worker.prepared != nil || worker.loading != nil {
                return "worker \(worker.number) holds experts of another division"
            }
            if core.membership.worker(worker.place ?? .max)?.incarnation.rawValue != worker.number {
                return "worker \(worker.number) is not in its place \(worker.place ?? .max)"
            }
        }
        if gatewayView != core.view.number { return "the gateway is in view \(gatewayView)" }
        return nil
    }
}
