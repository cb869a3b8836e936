internal import Protocol

/// How a process ended.
enum ProcessEnd: Hashable, Sendable {
    case code(Int32)
    case signal(Int32)
    case notStarted(String)

    var text: String {
        switch self {
        case .code(let code): "ended with code \(code)"
        case .signal(let signal): "was killed by signal \(signal)"
        case .notStarted(let reason): "could not be started: \(reason)"
        }
    }
}

/// The life of one node's processes under `phalanxctl serve`: the service manager's part.
///
/// The coordinator is first, the others follow when it listens. A worker that was killed, or that
/// has served, is started again after a pause that doubles while its lives are short; every other
/// end stops all. They stop by kind: gateways, so that requests finish while there are workers,
/// then workers, then the coordinator, each kind within a deadline.
struct LauncherStateMachine {
    enum Action: Hashable, Sendable {
        case start(Int)
        case terminate(Int)
        case kill(Int)
        case say(String)
        /// Everything answers.
        case serving
        /// Nothing is left.
        case finish(ControlExit)
    }

    static let listenTimeout = Interval.seconds(30)
    static let pauseMin = Interval.milliseconds(100)
    static let pauseMax = Interval.seconds(5)
    /// A worker that lived this long was a good one.
    static let goodAfter = Interval.seconds(10)
    private static let stopOrder: [Deployment.Role] = [.gateway, .worker, .coordinator]

    private struct Member {
        let name: String
        let role: Deployment.Role
        var isRunning = false
        var isReady = false
        var started: Instant?
        /// When it is started (again).
        var due: Instant?
        var shortLives = 0
    }

    private enum Phase {
        case waitingForCoordinator(until: Instant)
        case starting
        case serving
        /// The place in ``stopOrder``, when the rest of that kind is killed, and how all ends.
        case stopping(Int, deadline: Instant?, ControlExit)
        case over
    }

    private var members: [Member]
    private let stopTimeout: Interval
    private var phase = Phase.starting

    /// - Parameter stopTimeout: of each kind of process.
    init(_ processes: [DeploymentPlan.Process], stopTimeout: Interval) {
        members = processes.map { Member(name: $0.name, role: $0.role) }
        self.stopTimeout = stopTimeout
    }

    var isStopping: Bool {
        switch phase {
        case .stopping, .over: true
        case .waitingForCoordinator, .starting, .serving: false
        }
    }

    /// When ``onTimer(at:)`` has something to do.
    var nextTimer: Instant? {
        let dues = members.compactMap(\.due)
        switch phase {
        case .waitingForCoordinator(let until): return (dues + [until]).min()
        case .starting, .serving: return dues.min()
        case .stopping(_, let deadline, _): return deadline
        case .over: return nil
        }
    }

    // MARK: Events

    mutating func onBegin(at now: Instant) -> [Action] {
        guard let coordinator = members.firstIndex(where: { $0.role == .coordinator }) else {
            return members.indices.flatMap { start($0, at: now) }
        }
        phase = .waitingForCoordinator(until: now + Self.listenTimeout)
        return start(coordinator, at: now)
    }

    /// A process says where it listens.
    mutating func onEndpoint(of index: Int, at now: Instant) -> [Action] {
        guard case .waitingForCoordinator = phase, members[index].role == .coordinator else {
            return []
        }
        phase = .starting
        return members.indices.filter { $0 != index }.flatMap { start($0, at: now) }
    }

    mutating func onReady(_ index: Int) -> [Action] {
        members[index].isReady = true
        guard case .starting = phase else { return [] }
        let gates = members.filter { $0.role == .gateway }
        let awaited = gates.isEmpty ? members.filter { $0.role == .worker } : gates
        guard awaited.allSatisfy(\.isReady) else { return [] }
        phase = .serving
        return [.serving]
    }

    mutating func onEnd(_ index: Int, _ end: ProcessEnd, at now: Instant) -> [Action] {
        let member = members[index]
        members[index].isRunning = false
        members[index].isReady = false
        switch phase {
        case .over:
            return []
        case .stopping:
            return advance(at: now)
        case .waitingForCoordinator, .starting, .serving:
            if member.role == .worker, mayComeBack(member, end) {
                return restart(index, end, at: now)
            }
            let exit = Self.exit(of: end)
            return [.say("\(member.name) \(end.text); all stop")] + stop(exit, at: now)
        }
    }

    /// SIGTERM or SIGINT: the first stops in order, the second kills.
    mutating func onSignal(at now: Instant) -> [Action] {
        guard isStopping else {
            return [.say("stopping   (once more to kill)")] + stop(.success, at: now)
        }
        return members.indices.filter { members[$0].isRunning }.map { .kill($0) }
    }

    mutating func onTimer(at now: Instant) -> [Action] {
        switch phase {
        case .over:
            return []
        case .waitingForCoordinator(let until) where until <= now:
            let text = "the coordinator does not listen after \(Int(Self.listenTimeout.seconds)) s"
            return [.say(text)] + stop(.finding, at: now)
        case .waitingForCoordinator, .starting, .serving:
            let due = members.indices.filter { index in
                members[index].due.map { $0 <= now } ?? false
            }
            return due.flatMap { start($0, at: now) }
        case .stopping(let place, let deadline?, let exit) where deadline <= now:
            phase = .stopping(place, deadline: nil, exit)
            let left = members.indices.filter {
                members[$0].isRunning && members[$0].role == Self.stopOrder[place]
            }
            return left.flatMap { [.say("\(members[$0].name) does not stop: killed"), .kill($0)] }
        case .stopping:
            return []
        }
    }

    // MARK: Steps

    private mutating func start(_ index: Int, at now: Instant) -> [Action] {
        members[index].isRunning = true
        members[index].started = now
        members[index].due = nil
        return [.start(index)]
    }

    /// A worker that ended by itself before it ever served would do so again.
    private func mayComeBack(_ member: Member, _ end: ProcessEnd) -> Bool {
        switch end {
        case .signal: true
        case .code: member.isReady
        case .notStarted: false
        }
    }

    private mutating func restart(
        _ index: Int, _ end: ProcessEnd, at now: Instant
    ) -> [Action] {
        if let started = members[index].started, now - started >= Self.goodAfter {
            members[index].shortLives = 0
        }
        let doublings = min(members[index].shortLives, 16)
        members[index].shortLives += 1
        let pause = min(
            Interval(nanoseconds: Self.pauseMin.nanoseconds << Int64(doublings)), Self.pauseMax)
        members[index].due = now + pause
        return [
            .say(
                "\(members[index].name) \(end.text); it is started again in "
                    + "\(pause.milliseconds) ms")
        ]
    }

    private mutating func stop(_ exit: ControlExit, at now: Instant) -> [Action] {
        for index in members.indices { members[index].due = nil }
        phase = .stopping(-1, deadline: nil, exit)
        return advance(at: now)
    }

    /// To the next kind of which something runs, when nothing of this one does.
    private mutating func advance(at now: Instant) -> [Action] {
        guard case .stopping(let place, _, let exit) = phase else { return [] }
        func running(_ role: Deployment.Role) -> [Int] {
            members.indices.filter { members[$0].isRunning && members[$0].role == role }
        }
        if place >= 0, !running(Self.stopOrder[place]).isEmpty { return [] }
        for next in (place + 1)..<max(place + 1, Self.stopOrder.count) {
            let left = running(Self.stopOrder[next])
            if left.isEmpty { continue }
            phase = .stopping(next, deadline: now + stopTimeout, exit)
            return left.map { .terminate($0) }
        }
        phase = .over
        return [.finish(exit)]
    }

    private static func exit(of end: ProcessEnd) -> ControlExit {
        guard case .code(let code) = end else { return .finding }
        return ControlExit(rawValue: code) ?? .finding
    }
}
