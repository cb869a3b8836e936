public import DaemonRuntime
internal import Glibc
internal import Protocol

/// The worker's link thread: the control plane to the coordinator, the request plane to the
/// gateways, and nothing that can take long. The engine thread computes; two bounded mailboxes join
/// them, so that heartbeats go on while a tick runs.
public final class EngineWorkerService {
    static let commandsMax = 1 << 16
    /// Some hundred ticks of a full batch.
    static let eventsMax = 1 << 17
    /// What the link thread finds waiting in general.
    static let eventsReserved = 1024
    static let sweepEvery = Interval.milliseconds(500)
    static let securityDomain = "requests"
    /// Between two reports to a gateway that gets no outputs.
    static let loadEvery = Interval.milliseconds(100)

    let loop = EventLoop()
    let logger: Logger
    let notifier = ServiceNotifier()
    let commands = Mailbox<EngineCommand>(capacity: EngineWorkerService.commandsMax)
    let events = Mailbox<EngineEvent>(
        capacity: EngineWorkerService.eventsMax, reserving: EngineWorkerService.eventsReserved)
    let progress = EngineProgress()
    let incarnation = Incarnation(rawValue: MonotonicClock.randomUInt64())
    private let context = ZeroMQContext()
    var options: Options
    /// What this process speaks.
    let protocols: ProtocolRange
    let requests: ZeroMQSocket
    let endpoint: String
    var security: LinkSecurity
    let authenticator: LinkAuthenticator?
    private(set) var control: ControlLink?
    private var engine: NamedThread?

    private var taken: [EngineEvent] = []
    private var outputs: [SequenceOutput] = []

    var sessions = GatewaySessions()
    var stage = WorkerStage.joining
    var percent: UInt32 = 0
    var load = RankLoad()
    /// The last that went to gateways without outputs.
    var toldLoad = RankLoad()
    var facts: EngineFacts?
    var view: View?
    var worker: UInt32 = 0
    /// Among the view's workers; nil: it is a view of others.
    var rank: Int?
    var requestsMax: UInt32 = 0
    var isDraining: Bool { departure.began }
    /// What the coordinator must hear until it has ended the view: the engine is out of it.
    var brokenView: ControlBody?
    /// Told to the coordinator since the last view ended, and told again if that was lost.
    var ready: Ready?
    var joinedView: UInt32?
    /// Whom the coordinator has heard that this worker waits for.
    var toldWait: [UInt32] = []
    var departure = Departure()
    private(set) var isLeader = true
    /// The service manager has heard that the start is over.
    private var isAnnounced = false
    private var exitCode: Int32 = 0
    private var fedProgress: UInt64 = 0

    public init(options: Options, logger: Logger) throws {
        self.options = options
        self.logger = logger
        protocols = DaemonProcess.protocols(options)
        var limits = SocketLimits()
        limits.messageBytesMax = Int64(CodecLimits.gatewayMessageBytesMax)
        limits.receivedMax = CodecLimits.receivedMessagesMax
        taken.reserveCapacity(Self.eventsReserved)
        security = try Self.links.security(options)
        authenticator = try security.authenticator(
            [Self.securityDomain: [.gateway]], context: context, loop: loop, logger: logger)
        requests = try ZeroMQSocket(
            .router, context: context, limits: limits,
            security: security.server(domain: Self.securityDomain))
        endpoint = try requests.bind(
            "tcp://\(Self.bracketed(options.requiredText("worker-address"))):*")
    }

    private static func bracketed(_ address: String) -> String {
        address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address
    }

    /// Runs until the worker has left the deployment.
    ///
    /// - Returns: the process's exit code.
    public func run() -> Int32 {
        loop.onSignals([SIGTERM, SIGINT, SIGHUP]) { [weak self] signal in
            if signal == SIGHUP { self?.reload() } else { self?.drain() }
        }
        let (commands, events, progress) = (commands, events, progress)
        engine = NamedThread("engine") {
            EngineThread(commands: commands, events: events, progress: progress).run()
        }
        logger.info("listening", ["endpoint": endpoint])
        loop.watch(events.descriptor, for: .readable) { [weak self] _ in self?.takeEvents() }
        logFailedHandshakes()
        requests.attach(to: loop) { [weak self] identity, frame in
            self?.receive(frame, from: identity)
        }
        do {
            try connectToCoordinator()
        } catch {
            fail("\(error)")
        }
        sweep()
        feedWatchdog()
        notifier.status(
            "saying HELLO to the coordinator at \(DaemonProcess.coordinatorEndpoint(options))")
        loop.run()
        _ = commands.post(.stop)
        engine?.join()
        requests.detach()
        control?.close()
        return exitCode
    }

    private func connectToCoordinator() throws {
        let control = try ControlLink(
            endpoint: DaemonProcess.coordinatorEndpoint(options),
            hello: DaemonProcess.hello(.worker, options),
            incarnation: incarnation,
            patience: .seconds(options.requiredInteger("ready-timeout")),
            security: security,
            context: context,
            loop: loop,
            logger: logger
        ) { [weak self] event in self?.onControl(event) }
        control.heartbeat = { [weak self] in
            guard let self else {
                return Heartbeat(stage: .draining, percent: 0, load: RankLoad(), tickAge: .zero)
            }
            return Heartbeat(
                stage: isDraining ? .draining : stage, percent: percent, load: load,
                tickAge: progress.tickAge(at: MonotonicClock.now()),
                failedHandshakes: failedHandshakes, wait: reportedWait)
        }
        self.control = control
    }

    // MARK: Control plane

    private func onControl(_ event: ControlLink.Event) {
        switch event {
        case .configured(let configuration):
            onConfigured(configuration)
        case .refused(let refusal):
            for difference in refusal.differences { logger.error("\(difference)") }
            fail("the coordinator refused this worker: \(refusal.text)")
        case .unanswered(let text):
            fail(text)
        case .view(let view):
            onView(view)
        case .wake(let view, let fromTick):
            command(.wake(view: view, fromTick: fromTick))
        case .loads:
            break
        case .drain(let reason):
            if !isDraining { logger.notice("asked to drain", ["reason": reason]) }
            drain()
        case .prepare(let position):
            command(.prepare(position))
        case .limits(let entries):
            onLimits(entries)
        case .released:
            onReleased()
        }
    }

    private func onConfigured(_ configuration: AssignedConfiguration) {
        if stage != .joining {
            // The coordinator was restarted and knows nothing of the view that this worker is in,
            // or of which it has heard while it loads.
            guard configuration.worker == worker else {
                return fail("the place changed from \(worker) to \(configuration.worker)")
            }
            view = nil
            control?.view = 0
            return leaveView("the coordinator was restarted")
        }
        do throws(OptionError) {
            let options = try options.adopting(configuration.entries)
            worker = configuration.worker
            load.dpRank = configuration.dpRank
            isLeader = configuration.tpRank == 0
            let engine = try EngineConfiguration(
                options, position: configuration.position ?? .first(of: worker, options),
                dpRank: configuration.dpRank)
            requestsMax = UInt32(engine.maxSequencesWaiting)
            stage = .loading
            logger.info(
                "configured",
                [
                    "worker": worker, "dp_rank": configuration.dpRank,
                    "tp_rank": configuration.tpRank,
                ])
            command(.load(engine))
        } catch {
            fail("\(error)")
        }
    }

    private func onView(_ view: View) {
        guard view.number > (self.view?.number ?? 0) || view.state != self.view?.state else {
            return repeatReport(of: view)
        }
        let held = self.view
        self.view = view
        control?.view = view.number
        rank = view.members.firstIndex { $0.incarnation == incarnation }
        guard view.state == .retired || rank != nil else { return onOthersView(view) }
        switch view.state {
        case .forming:
            guard let rank else { return }
            stage = .connecting
            notifier.status("view \(view.number): connecting to \(view.members.count - 1) workers")
            command(.connect(view, rank: rank))
        case .active:
            stage = .idle
            command(.activate(view: view.number))
            notifier.ready()
            isAnnounced = true
            notifier.status(
                "view \(view.number) is active, worker \(worker), \(view.members.count) in all")
            logger.info("view is active", ["view": view.number])
            tellGateways()
        case .retired:
            if held != nil {
                leaveView(view.reason)
            } else if let ready {
                control?.send(.ready(ready))
            }
        }
    }

    /// The coordinator says again what is known here: it has not heard what this worker said of it.
    private func repeatReport(of view: View) {
        switch view.state {
        case .forming where joinedView == view.number:
            control?.send(.viewJoined(view: view.number))
        case .retired:
            if let ready { control?.send(.ready(ready)) }
        case .active where rank == nil:
            if let ready { control?.send(.ready(ready)) }
        case .forming, .active:
            break
        }
    }

    func leaveView(_ reason: String) {
        brokenView = nil
        ready = nil
        joinedView = nil
        guard facts != nil else { return }
        logger.warning("left the view", ["reason": reason])
        stage = .standby
        command(.leaveView)
    }

    // MARK: Engine

    /// The outputs of a step stand in a row behind its load.
    private func takeEvents() {
        taken.removeAll(keepingCapacity: true)
        events.takeAll(into: &taken)
        for event in taken {
            if case .output(let output) = event {
                outputs.append(output)
            } else {
                deliverOutputs()
                onEngine(event)
            }
        }
        deliverOutputs()
        tellLoads()
    }

    private func deliverOutputs() {
        deliver(outputs)
        outputs.removeAll(keepingCapacity: true)
    }

    /// Commands are bounded by what gateways may submit; the rest is a handful.
    func command(_ command: EngineCommand) {
        if !commands.post(command) { fail("the engine takes no commands") }
    }

    func sendToGateway(_ message: LeaderMessage, _ identity: [UInt8]) {
        let version = sessions.protocolVersion(of: identity)
        switch requests.send(message.encoded(in: version), to: identity) {
        case .sent: return
        case .unroutable: break
        case .wouldBlock: logger.throttledWarning("a gateway takes no messages")
        }
        for orphan in sessions.onLoss(identity) { command(.cancel(orphan)) }
    }

    // MARK: Timers and the end

    private func sweep() {
        for orphan in sessions.expire(at: MonotonicClock.now()) { command(.cancel(orphan)) }
        if let brokenView { control?.send(brokenView) }
        tellWait()
        if isDraining || !isAnnounced { notifier.extendTimeout() }
        checkDrained()
        loop.schedule(after: Self.sweepEvery) { [weak self] in self?.sweep() }
    }

    private func feedWatchdog() {
        guard let interval = notifier.watchdogInterval else { return }
        // Only progress of the engine feeds it, or that there is nothing to do. (A worker that is
        // no leader knows of work only inside a tick.)
        let isResting = stage != .running && progress.tickAge(at: MonotonicClock.now()) == .zero
        if progress.count != fedProgress || isResting {
            fedProgress = progress.count
            notifier.watchdog()
        }
        loop.schedule(after: interval) { [weak self] in self?.feedWatchdog() }
    }

    func fail(_ text: String) {
        logger.error(text)
        notifier.status("failed: \(text)")
        exitCode = 1
        control?.leave(text)
        loop.schedule(after: .milliseconds(50)) { [weak self] in self?.loop.stop() }
    }
}
