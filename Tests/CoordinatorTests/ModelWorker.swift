import Protocol
import TestSupport

/// A worker process as the coordinator meets it: what its link thread and its engine thread hold,
/// without sockets and without a model. It does what `EngineWorkerService`, `EngineThread` and
/// `ExpertPreparation` do with control messages.
final class ModelWorker {
    enum Command {
        case connect(View)
        case prepare(GroupPosition)
        case leaveView
    }

    static let exchangeTimeout = Interval.seconds(30)
    static let releaseWithin = Interval.seconds(20)

    let number: UInt64
    let device: UInt32
    var isAlive = true
    /// It is stopped and goes on then.
    var pausedUntil: Instant?
    /// How it ended, where that was not as asked.
    private(set) var failure: String?

    // The link thread.
    private(set) var place: UInt32?
    private(set) var stage = WorkerStage.joining
    private(set) var view: View?
    private(set) var isDraining = false
    private var isConfigured = false
    private var toldPlace: UInt32?
    private var known: UInt32 = 0
    private var ready: Ready?
    private var joinedView: UInt32?
    private var brokenView: ControlBody?
    private var asking: (since: Instant, last: Instant)?
    private var sequencesEnd = Instant(nanoseconds: 0)
    private var lastBeat = Instant(nanoseconds: 0)
    private var lastRepeat = Instant(nanoseconds: 0)
    private var said: [ControlMessage] = []
    private var sequence: UInt64 = 0

    // The engine thread.
    private var commands: [Command] = []
    private var loadedAt: Instant?
    private(set) var isLoaded = false
    private(set) var layout = GroupPosition(rank: 0, worldSize: 1)
    private(set) var prepared: GroupPosition?
    private(set) var loading: (position: GroupPosition, until: Instant, fails: Bool)?
    private var wanted: GroupPosition?
    private(set) var connecting: (view: View, since: Instant)?
    private(set) var group: View?
    private(set) var address: [UInt8] = []
    private var addressCount: UInt8 = 0
    /// Divisions of the experts that it had in memory at once.
    private(set) var sharesMax = 0

    private var random: SeededGenerator
    var failureChance = 0.0

    init(_ number: UInt64, device: UInt32, seed: UInt64) {
        self.number = number
        self.device = device
        random = SeededGenerator(seed: seed)
    }

    private var nextPosition: GroupPosition { prepared ?? layout }

    // MARK: The link thread

    func takeSaid() -> [ControlMessage] {
        defer { said = [] }
        return said
    }

    private func say(_ body: ControlBody) {
        sequence += 1
        said.append(
            ControlMessage(
                incarnation: Incarnation(rawValue: number), view: known, sequence: sequence,
                body: body))
    }

    private func sayHello() {
        var hello = Hello(
            role: .worker, node: "a", device: device, pid: 1, softwareVersion: "0", declared: [])
        hello.worker = toldPlace
        say(.hello(hello))
    }

    func hear(_ body: ControlBody, at now: Instant) {
        switch body {
        case .config(let configuration): onConfigured(configuration, at: now)
        case .refuse(let refusal): onRefused(refusal)
        case .view(let view): onView(view, at: now)
        case .prepare(let position): commands.append(.prepare(position))
        default: break
        }
    }

    private func onConfigured(_ configuration: AssignedConfiguration, at now: Instant) {
        guard !isConfigured || configuration.worker != toldPlace else { return }
        isConfigured = true
        toldPlace = configuration.worker
        if let place, place != configuration.worker {
            return end("the place changed from \(place) to \(configuration.worker)")
        }
        place = configuration.worker
        if stage != .joining {
            (view, known) = (nil, 0)
            return leaveView()
        }
        layout = configuration.position ?? layout
        stage = .loading
        loadedAt = now + .milliseconds(Int.random(in: 100...6000, using: &random))
    }

    private func onRefused(_ refusal: Refusal) {
        switch refusal.reason {
        case .unknownPeer where asking != nil, .draining where asking != nil:
            isAlive = false
        case .unknownPeer:
            guard isConfigured else { return }
            isConfigured = false
            sayHello()
        case .groupFull:
            break
        case .protocolVersion, .configuration, .model, .deadline, .draining, .malformed:
            end(refusal.text)
        }
    }

    private func end(_ text: String) {
        failure = text
        isAlive = false
        say(.leave(reason: text))
    }

    private func onView(_ view: View, at now: Instant) {
        guard view.number > (self.view?.number ?? 0) || view.state != self.view?.state else {
            return repeatReport(of: view)
        }
        let held = self.view
        self.view = view
        known = view.number
        let isMember = view.members.contains { $0.incarnation.rawValue == number }
        switch view.state {
        case .forming where isMember:
            stage = .connecting
            commands.append(.connect(view))
        case .active where isMember:
            stage = .idle
        case .forming, .active:
            if stage != .loading && stage != .joining { stage = .standby }
        case .retired:
            if held != nil { leaveView() } else if let ready { say(.ready(ready)) }
        }
    }

    private func repeatReport(of view: View) {
        if view.state == .forming && joinedView == view.number {
            say(.viewJoined(view: view.number))
        } else if view.state == .retired, let ready {
            say(.ready(ready))
        }
    }

    private func leaveView() {
        (brokenView, ready, joinedView) = (nil, nil, nil)
        guard isLoaded else { return }
        stage = .standby
        commands.append(.leaveView)
    }

    func drain(sequencesFor patience: Interval, at now: Instant) {
        guard !isDraining else { return }
        isDraining = true
        sequencesEnd = now + patience
        if isConfigured { beat(at: now) }
    }

    private func beat(at now: Instant) {
        lastBeat = now
        let told = isDraining ? WorkerStage.draining : stage
        say(.heartbeat(Heartbeat(stage: told, percent: 0, load: RankLoad(), tickAge: .zero)))
    }

    /// Timers of the link thread, and what the engine thread gets done.
    func turn(at now: Instant) {
        if now - lastBeat >= .seconds(1) {
            if isConfigured { beat(at: now) } else { (lastBeat, _) = (now, sayHello()) }
        }
        if let brokenView, now - lastRepeat >= .milliseconds(500) {
            lastRepeat = now
            say(brokenView)
        }
        if isDraining { leaveIfDrained(at: now) }
        if let loadedAt, now >= loadedAt {
            (isLoaded, self.loadedAt, stage) = (true, nil, .standby)
            standBy()
        }
        while connecting == nil, !commands.isEmpty { perform(commands.removeFirst(), at: now) }
        if connecting == nil, let loading, now >= loading.until { onShareLoaded(at: now) }
        sharesMax = max(sharesMax, 1 + (prepared == nil ? 0 : 1) + (loading == nil ? 0 : 1))
    }

    private func leaveIfDrained(at now: Instant) {
        guard let asking else {
            if now < sequencesEnd { return }
            guard isLoaded else {
                isAlive = false
                return say(.leave(reason: "stopped"))
            }
            self.asking = (now, now)
            return say(.askToLeave(reason: "stopped"))
        }
        if now - asking.since >= Self.releaseWithin {
            isAlive = false
            return say(.leave(reason: "stopped"))
        }
        guard now - asking.last >= .milliseconds(500) else { return }
        self.asking = (asking.since, now)
        say(.askToLeave(reason: "stopped"))
    }

    // MARK: The engine thread

    private func perform(_ command: Command, at now: Instant) {
        switch command {
        case .connect(let view): connecting = (view, now)
        case .prepare(let position): if isLoaded { onPrepare(position, at: now) }
        case .leaveView:
            group = nil
            wanted = nil
            standBy()
        }
    }

    private func standBy() {
        addressCount &+= 1
        address = [UInt8(truncatingIfNeeded: number), addressCount]
        let ready = Ready(
            endpoint: "tcp://w\(number):*", collectivesAddress: address, modelDigest: "same",
            blockCount: 10, blockSize: 16, position: nextPosition)
        self.ready = ready
        say(.ready(ready))
    }

    private func onPrepare(_ position: GroupPosition, at now: Instant) {
        wanted = position
        if position == nextPosition { return answer(position) }
        prepared = nil
        if position == layout { return answer(position) }
        guard loading == nil else { return }
        let takes = Interval.milliseconds(Int.random(in: 50...4000, using: &random))
        let fails = Double.random(in: 0..<1, using: &random) < failureChance
        loading = (position, now + takes, fails)
    }

    private func onShareLoaded(at now: Instant) {
        guard let (position, _, fails) = loading else { return }
        loading = nil
        guard position == wanted else {
            if let wanted { onPrepare(wanted, at: now) }
            return
        }
        if fails { return answer(position, "no memory") }
        prepared = position
        answer(position)
    }

    private func answer(_ position: GroupPosition, _ failure: String = "") {
        wanted = nil
        say(.prepared(position, failure: failure))
    }

    /// All members of the view that it connects to have met.
    ///
    /// - Returns: why it cannot be in it.
    func join() -> String? {
        guard let view = connecting?.view,
            let rank = view.members.firstIndex(where: { $0.incarnation.rawValue == number })
        else { return nil }
        connecting = nil
        let place = GroupPosition(rank: UInt32(rank), worldSize: UInt32(view.members.count))
        if prepared == place { layout = place }
        guard layout == place else {
            let text = "worker \(number) has \(layout) and \(String(describing: prepared)), not "
            breakView(view, [], "no experts")
            return text + "\(place)"
        }
        prepared = nil
        group = view
        joinedView = view.number
        say(.viewJoined(view: view.number))
        return nil
    }

    func breakView(_ view: View, _ workers: [UInt32], _ reason: String) {
        (connecting, group) = (nil, nil)
        let report = ControlBody.peerSilent(
            view: view.number, tick: 0, workers: workers, reason: reason)
        if self.view?.number == view.number { brokenView = report }
        say(report)
    }
}
