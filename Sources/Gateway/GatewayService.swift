internal import CLinux
public import DaemonRuntime
internal import Glibc
internal import Protocol

/// The gateway's shell: HTTP on one side, the control and request planes on the other, all on one
/// loop. What it decides is decided by pure parts: `Admission`, `Routing`, `Requests`.
public final class GatewayService {
    static let bodyBytesMax = 32 << 20
    static let sweepEvery = Interval.milliseconds(250)
    /// How long a sequence waits for a rank to take it.
    static let parkedMax = Interval.seconds(60)
    /// Sequences that may wait at a new gateway before it knows what room the ranks have.
    static let followingCapacity = 256
    static let listenBacklog: Int32 = 4096
    /// How long connections may wait in the service manager's socket for a gateway that starts.
    static let takeOverMax = Interval.seconds(5)

    let loop = EventLoop()
    let logger: Logger
    let notifier = ServiceNotifier()
    var options: Options
    private let context = ZeroMQContext()
    private let incarnation = Incarnation(rawValue: MonotonicClock.randomUInt64())
    private(set) var control: ControlLink?
    private(set) var server: HTTPServer?

    var links: LeaderLinks?
    var model: ServedModel?
    var metrics: GatewayMetrics?
    var keys: APIKeys
    var admission = AdmissionControl()
    var router: RankRouter
    let servedRanks: ServedRanks
    var view: UInt32 = 0
    /// Since when no view is active.
    private var suspended: Instant?
    /// Sequences that the ranks took before that.
    var lastCapacity = 0
    /// DP ranks of the active view that this gateway serves.
    var viewRanks: [Int] = []
    /// Calls being answered, and their choices by request.
    var calls: [HTTPExchangeID: ActiveCall] = [:]
    var owners: [RequestID: (call: ActiveCall, choice: Choice)] = [:]
    /// Choices that wait for a rank, in the order in which they came.
    var parked: [RequestID] = []
    var nextRequest: UInt64 = 1
    var seedCounter: UInt64 = 0
    private var drainDeadline: Instant?
    private var exitCode: Int32 = 0
    var security: LinkSecurity
    private var announced = false
    private var isStopping = false
    /// The listening socket is the service manager's and outlives this process: connections that
    /// come while one gateway drains and the next one starts wait in its queue.
    private let handsOver: Bool

    public init(options: Options, logger: Logger) throws {
        self.options = options
        self.logger = logger
        keys = APIKeys(options.list("api-key"))
        security = try Self.linkOptions.security(options)
        servedRanks = try ServedRanks(
            hybrid: options.flag("data-parallel-hybrid-lb"),
            external: options.flag("data-parallel-external-lb"),
            rank: options.integer("data-parallel-rank"), node: DaemonProcess.nodeName(options))
        router = RankRouter(rotation: incarnation.rawValue)
        let host = options.requiredText("host")
        let port = options.requiredInteger("port")
        var listeners = ServiceNotifier.inheritedListeners()
        handsOver = !listeners.isEmpty
        if listeners.isEmpty {
            let fd = cl_listen_tcp(host, UInt16(port), Self.listenBacklog)
            guard fd >= 0 else {
                let reason = String(cString: strerror(cl_errno()))
                throw OptionError(description: "--host \(host) --port \(port): \(reason)")
            }
            listeners = [fd]
        }
        var limits = HTTPLimits()
        limits.message.bodyBytesMax = Self.bodyBytesMax
        server = HTTPServer(
            loop: loop, listeners: listeners, limits: limits, tls: try Self.tls(options),
            handler: self)
        if handsOver { server?.holdBack() }
        let bound = cl_local_port(listeners[0])
        logger.notice("listening", ["host": host, "port": bound])
        let scheme = options.text("ssl-certfile") == nil ? "http" : "https"
        let name = host.contains(":") ? "[\(host)]" : host
        notifier.endpoint("\(scheme)://\(name):\(bound)")
    }

    static func tls(_ options: Options) throws -> TLSContext? {
        let certificate = options.text("ssl-certfile")
        let key = options.text("ssl-keyfile")
        guard certificate != nil || key != nil else { return nil }
        guard let certificate, let key else {
            throw OptionError(description: "--ssl-certfile and --ssl-keyfile belong together")
        }
        return try TLSContext(certificateFile: certificate, keyFile: key)
    }

    /// Runs until SIGTERM or SIGINT and the end of what was running then.
    ///
    /// - Returns: the process's exit code.
    public func run() -> Int32 {
        loop.onSignals([SIGTERM, SIGINT, SIGHUP]) { [weak self] signal in
            if signal == SIGHUP { self?.reload() } else { self?.drain() }
        }
        links = LeaderLinks(
            context: context, loop: loop, logger: logger, incarnation: incarnation,
            protocols: DaemonProcess.protocols(options), security: security
        ) { [weak self] event in self?.onLeader(event) }
        do throws(TransportError) {
            let control = try ControlLink(
                endpoint: DaemonProcess.coordinatorEndpoint(options),
                hello: DaemonProcess.hello(.gateway, options),
                incarnation: incarnation,
                security: security,
                context: context,
                loop: loop,
                logger: logger
            ) { [weak self] event in self?.onControl(event) }
            control.heartbeat = { [weak self] in
                Heartbeat(
                    stage: .idle, percent: 0, load: RankLoad(), tickAge: .zero,
                    failedHandshakes: self?.tellFailedHandshakes() ?? 0)
            }
            self.control = control
        } catch {
            logger.error("\(error)")
            return 1
        }
        notifier.status(
            "saying HELLO to the coordinator at \(DaemonProcess.coordinatorEndpoint(options))")
        sweep()
        // Who does not serve by then says why.
        loop.schedule(after: Self.takeOverMax) { [weak self] in self?.server?.takeWaiting() }
        if let interval = notifier.watchdogInterval {
            loop.scheduleRepeating(every: interval) { [notifier] in notifier.watchdog() }
        }
        loop.run()
        server?.shutdown()
        control?.close()
        return exitCode
    }

    // MARK: Control plane

    private func onControl(_ event: ControlLink.Event) {
        switch event {
        case .configured(let configuration):
            onConfigured(configuration)
        case .refused(let refusal):
            for difference in refusal.differences { logger.error("\(difference)") }
            logger.error("the coordinator refused this gateway: \(refusal.text)")
            notServing(refusal.text)
            // A deployment that is late may still come; a configuration does not change by itself.
            if refusal.reason != .deadline { stop(exitCode: 1) }
        case .unanswered(let text):
            logger.error(text)
        case .view(let view):
            onView(view)
        case .loads(let loads):
            for load in loads {
                router.onRelayedReport(load)
                metrics?.onLoad(load, at: MonotonicClock.now())
            }
        case .limits(let entries):
            onLimits(entries)
        case .wake, .drain, .prepare, .released:
            break
        }
    }

    private func onConfigured(_ configuration: AssignedConfiguration) {
        if model != nil {
            // The coordinator has forgotten this gateway. The view that it tells next may have the
            // number of the one known here and be another.
            view = 0
            control?.view = 0
            return
        }
        do {
            let model = try ServedModel(try options.adopting(configuration.entries))
            if let problem = servedRanks.problem(rankCountMax: model.rankCountMax) {
                throw ServedRanksError(description: problem)
            }
            self.model = model
            if let blockSize = model.cachedBlockSize {
                router = RankRouter(rotation: incarnation.rawValue, blockSize: blockSize)
            }
            metrics = GatewayMetrics(model: model.defaults.servedModelNames[0])
            notServing("the workers are not ready")
            logger.info("configured", ["model": model.folder])
        } catch {
            logger.error("\(error)")
            stop(exitCode: 1)
        }
    }

    private func onView(_ view: View) {
        switch view.state {
        case .active:
            guard view.number != self.view else { return }
            self.view = view.number
            suspended = nil
            control?.view = view.number
            var leaders = servedRanks.leaders(of: view.members)
            let problem = leaders.lazy.compactMap { [security] in
                security.problem(connectingTo: $0.endpoint)
            }.first
            if problem != nil { leaders = [] }
            viewRanks = leaders.map { Int($0.dpRank) }
            notServing(
                leaders.isEmpty
                    ? problem ?? servedRanks.emptyReason(members: view.members)
                    : "the leaders are being connected")
            links?.connect(to: leaders, view: view.number)
            if leaders.isEmpty, let reason = admission.notReadyReason {
                logger.error(reason)
                notifier.status("not ready: \(reason)")
            }
        case .forming, .retired:
            if self.view != 0 { logger.notice("no view is active", ["reason": view.reason]) }
            self.view = 0
            suspended = suspended ?? MonotonicClock.now()
            control?.view = 0
            links?.suspend()
            // Behind what the links say of it: this is the reason.
            notServing(view.reason)
            if view.hasServed { followAnother() }
            notifier.status("not ready: \(view.reason)")
        }
        metrics?.onView(self.view, ranks: view.members.filter(\.isLeader).map { Int($0.dpRank) })
    }

    /// Until a rank opens again; calls that come meanwhile find the room that there was.
    func notServing(_ reason: String) {
        if admission.notReadyReason == nil { lastCapacity = router.capacity }
        admission.onNotServing(reason, at: MonotonicClock.now())
    }

    /// Calls wait for the next view, as many as a small group takes.
    private func followAnother() {
        admission.onFollowing(at: MonotonicClock.now())
        if !announced { lastCapacity = Self.followingCapacity }
    }

    /// The first rank that opens makes the gateway ready.
    func onServing() {
        admission.onServing()
        lastCapacity = 0
        notifier.status("serving, view \(view)")
        server?.takeWaiting()
        guard !announced else { return }
        announced = true
        notifier.ready()
        logger.notice("serving", ["view": view])
    }

    // MARK: The end

    private func drain() {
        guard !isStopping else { return stop(exitCode: exitCode) }
        isStopping = true
        if handsOver {
            // The next gateway answers who connects from now on, and this one whom it has let in.
            server?.stopAccepting()
        } else {
            admission.isDraining = true
        }
        notifier.stopping()
        logger.notice("draining", ["calls": calls.count])
        drainDeadline =
            MonotonicClock.now() + .seconds(options.requiredInteger("shutdown-timeout"))
        checkDrained()
    }

    func checkDrained() {
        guard let drainDeadline else { return }
        let isBusy = !calls.isEmpty || (handsOver && server?.awaitsRequests == true)
        if isBusy && MonotonicClock.now() < drainDeadline { return }
        self.drainDeadline = nil
        for call in calls.values.sorted(by: { $0.arrived < $1.arrived }) {
            fail(call, .notReady(reason: "the gateway is stopping", retryAfterSeconds: 5))
        }
        control?.leave("stopped")
        stop(exitCode: exitCode)
    }

    private func stop(exitCode: Int32) {
        self.exitCode = exitCode
        // One more turn, so that the last bytes leave.
        loop.schedule(after: .milliseconds(50)) { [weak self] in self?.loop.stop() }
    }

    /// What no view goes on with is not waited for longer than what no rank takes.
    private func giveUpSuspended() {
        guard let since = suspended, MonotonicClock.now() - since > Self.parkedMax else { return }
        suspended = nil
        for (_, choice) in owners.values where choice.machine.rank != nil {
            choice.parkedSince = since
        }
        links?.disconnect()
        metrics?.onlyTheseRun([])
    }

    private func sweep() {
        giveUpSuspended()
        placeParked()
        failOverdue()
        failUnwoken()
        checkDrained()
        if isStopping || !announced { notifier.extendTimeout() }
        loop.schedule(after: Self.sweepEvery) { [weak self] in self?.sweep() }
    }
}
