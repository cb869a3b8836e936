public import DaemonRuntime
internal import Glibc
internal import Protocol

/// The coordinator's shell: one ROUTER socket, one loop, and the core that decides.
public final class CoordinatorService {
    static let timerEvery = Interval.milliseconds(100)
    private static let securityDomain = "control"
    private static let links = LinkOptions(
        role: .coordinator, peers: [.worker, .gateway, .operator],
        addresses: ["data-parallel-address"], listens: true)

    private let loop = EventLoop()
    private let context = ZeroMQContext()
    private let authenticator: LinkAuthenticator?
    private let socket: ZeroMQSocket
    private var options: Options
    private var security: LinkSecurity
    private let logger: Logger
    private let notifier = ServiceNotifier()
    private let incarnation = Incarnation(rawValue: MonotonicClock.randomUInt64())
    private let endpoint: String
    private var core: CoordinatorCore
    private var sequence: UInt64 = 0
    private var exitCode: Int32 = 0

    /// - Throws: ``OptionError`` when the deployment cannot be what the options say.
    public init(options: Options, logger: Logger) throws {
        self.options = options
        self.logger = logger
        let dataParallelSize = options.requiredInteger("data-parallel-size")
        let tensorParallelSize = options.requiredInteger("tensor-parallel-size")
        let settings = CoordinatorCore.Settings(
            worldSize: UInt32(dataParallelSize * tensorParallelSize),
            tensorParallelSize: UInt32(tensorParallelSize),
            ranksMin: UInt32(options.dataParallelSizeMin),
            ranksMax: UInt32(options.dataParallelSizeMax),
            configuration: options.effective,
            lease: .milliseconds(options.requiredInteger("lease")),
            readyTimeout: .seconds(options.requiredInteger("ready-timeout")),
            protocols: DaemonProcess.protocols(options),
            softwareVersion: DaemonProcess.version)
        try DeploymentRules.check(options)
        let additional = try AdditionalConfiguration(options.requiredText("additional-config"))
        for note in additional.notes { logger.notice("--additional-config: \(note)") }
        core = CoordinatorCore(settings, at: MonotonicClock.now())
        var limits = SocketLimits()
        limits.messageBytesMax = Int64(CodecLimits.peerMessageBytesMax)
        limits.receivedMax = CodecLimits.receivedMessagesMax
        security = try Self.links.security(options)
        authenticator = try security.authenticator(
            [Self.securityDomain: [.worker, .gateway, .operator]], context: context, loop: loop,
            logger: logger)
        socket = try ZeroMQSocket(
            .router, context: context, limits: limits,
            security: security.server(domain: Self.securityDomain))
        let port = options.requiredInteger("data-parallel-rpc-port")
        let address = options.requiredText("data-parallel-address")
        let host = address.contains(":") && !address.hasPrefix("[") ? "[\(address)]" : address
        endpoint = try socket.bind("tcp://\(host):\(port == 0 ? "*" : "\(port)")")
    }

    /// Runs until SIGTERM or SIGINT, or until the deployment cannot come up.
    ///
    /// - Returns: the process's exit code.
    public func run() -> Int32 {
        loop.onSignals([SIGTERM, SIGINT, SIGHUP]) { [weak self] signal in
            if signal == SIGHUP { return self?.reload() ?? () }
            self?.notifier.stopping()
            self?.loop.stop()
        }
        socket.onHandshakeFailure = { [logger] failure in
            logger.throttledWarning("a handshake failed: \(failure.text)")
        }
        socket.attach(to: loop) { [weak self] identity, frame in
            self?.receive(frame, from: identity)
        }
        scheduleTimer()
        if let interval = notifier.watchdogInterval {
            loop.scheduleRepeating(every: interval) { [notifier] in notifier.watchdog() }
        }
        logger.notice("listening", ["endpoint": endpoint])
        notifier.endpoint(endpoint)
        // Workers are ordered after the coordinator and only need its socket.
        notifier.ready()
        loop.run()
        socket.detach()
        return exitCode
    }

    private func reload() {
        let reload = Reload.run(
            options, security, links: Self.links, logger: logger, notifier: notifier
        ) { options, _ in
            try DeploymentRules.check(options)
            return {}
        }
        guard let reload else { return }
        (options, security) = (reload.options, reload.security)
        authenticator?.adopt(security)
        socket.adopt(security.server(domain: Self.securityDomain))
        perform(
            core.onReload(
                configuration: options.effective,
                lease: .milliseconds(options.requiredInteger("lease")),
                readyTimeout: .seconds(options.requiredInteger("ready-timeout")),
                at: MonotonicClock.now()))
    }

    private func scheduleTimer() {
        perform(core.onTimer(at: MonotonicClock.now()))
        loop.schedule(after: Self.timerEvery) { [weak self] in self?.scheduleTimer() }
    }

    private func receive(_ frame: UnsafeRawBufferPointer, from identity: [UInt8]) {
        do throws(CodecError) {
            let message = try ControlMessage.decode(frame)
            perform(core.onMessage(message, from: identity, at: MonotonicClock.now()))
        } catch {
            logger.throttledWarning("dropped a message", ["reason": error])
        }
    }

    private func perform(_ actions: [CoordinatorCore.Action]) {
        // What goes to many is encoded once; a view is as long as the group.
        var last: (body: ControlBody, version: UInt32, frame: [UInt8])?
        for action in actions {
            switch action {
            case .send(let identity, let body):
                let version = max(core.protocolVersion(toward: identity), body.firstVersion)
                let known = last.flatMap {
                    $0.version == version && $0.body == body ? $0.frame : nil
                }
                let frame = known ?? encoded(body, in: version)
                last = (body, version, frame)
                send(frame, to: identity)
            case .report(let identity, var report, let version):
                report.softwareVersion = DaemonProcess.version
                report.failedHandshakes = socket.failedHandshakes
                report.wallClockMicroseconds = MonotonicClock.wallMicroseconds()
                send(encoded(.statusReport(report), in: version), to: identity)
            case .log(let text):
                logger.info(text)
            case .warn(let text):
                logger.warning(text)
            case .status(let text):
                notifier.status(text)
            case .serving:
                logger.notice("the deployment serves")
            case .fail(let text):
                logger.error(text)
                exitCode = 1
                // One more turn, so that the refusals leave.
                loop.schedule(after: Self.timerEvery) { [weak self] in self?.loop.stop() }
            }
        }
    }

    private func encoded(_ body: ControlBody, in version: UInt32) -> [UInt8] {
        sequence += 1
        return ControlMessage(
            protocolVersion: version, incarnation: incarnation, view: core.activeView ?? 0,
            sequence: sequence, body: body
        ).encoded()
    }

    private func send(_ frame: [UInt8], to identity: [UInt8]) {
        // A peer that is gone or takes nothing is found by its lease.
        if socket.send(frame, to: identity) == .wouldBlock {
            logger.throttledWarning("a peer takes no messages")
        }
    }
}
