internal import CLinux
internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// Carries out what ``LauncherStateMachine`` decides: it starts and signals processes, shows their
/// lines, and hears from them by sd_notify(3), as a service manager does.
final class Launcher {
    private static let messageBytesMax = 8192
    private static let messagesPerTurnMax = 64
    /// Beyond `--shutdown-timeout`, for a process to end after its last request.
    private static let stopMargin = Interval.seconds(10)

    private let node: DeploymentPlan.Node
    private let loop = EventLoop()
    private let screen: ServeScreen
    private let notifier = ServiceNotifier()
    private let began = MonotonicClock.now()
    private var machine: LauncherStateMachine
    private var children: [Int: ChildProcess] = [:]
    private var statuses: [String]
    private var coordinatorPort: String?
    private var endpoint: String?
    private var isServing = false
    private var timer: EventLoop.TimerID?
    private var exit = ControlExit.finding
    private let hidesPartings: Bool
    private let notifySocket: Int32
    private let environment: [String]

    /// - Parameters:
    ///   - shutdownTimeout: what running requests may take.
    ///   - hidesPartings: while all stop, warnings are left out: that daemons leave is none then.
    init(
        _ node: DeploymentPlan.Node, shutdownTimeout: Interval, hidesPartings: Bool,
        _ output: ControlOutput
    ) throws(ControlError) {
        self.node = node
        self.hidesPartings = hidesPartings
        screen = ServeScreen(output)
        statuses = node.processes.map { _ in "starting" }
        let limit = Interval(
            nanoseconds: shutdownTimeout.nanoseconds + Self.stopMargin.nanoseconds)
        machine = LauncherStateMachine(node.processes, stopTimeout: limit)
        var name = [CChar](repeating: 0, count: 128)
        notifySocket = cl_notify_socket(&name, name.count)
        guard notifySocket >= 0 else {
            throw .failed("no socket for sd_notify: \(String(cString: strerror(cl_errno())))")
        }
        let address = String(
            decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        environment =
            Self.inherited(without: ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"])
            + ["NOTIFY_SOCKET=\(address)"]
    }

    deinit { close(notifySocket) }

    private static func inherited(without names: [String]) -> [String] {
        var variables: [String] = []
        var next = environ
        while let variable = next.pointee {
            let text = String(cString: variable)
            if !names.contains(where: { text.hasPrefix("\($0)=") }) { variables.append(text) }
            next += 1
        }
        return variables
    }

    /// Runs until all processes have ended.
    func run() -> ControlExit {
        var signals = [SIGTERM, SIGINT, SIGCHLD]
        if !ignoresHangUp() { signals.append(SIGHUP) }
        loop.onSignals(signals) { [weak self] signal in
            guard let self else { return }
            if signal == SIGCHLD { reap() } else { perform { $0.onSignal(at: $1) } }
        }
        loop.watch(notifySocket, for: .readable) { [weak self] _ in self?.hear() }
        let workers = node.processes.count { $0.role == .worker }
        let others = node.processes.filter { $0.role != .worker }.map(\.name)
        screen.line(
            "starting   "
                + ([workers == 1 ? "1 worker" : "\(workers) workers"] + others).joined(
                    separator: ", ")
                + " on node \(node.name)")
        perform { $0.onBegin(at: $1) }
        loop.run()
        return exit
    }

    /// As under `nohup`.
    private func ignoresHangUp() -> Bool {
        var action = sigaction()
        guard sigaction(SIGHUP, nil, &action) == 0 else { return false }
        return unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
    }

    private func perform(
        _ event: (inout LauncherStateMachine, Instant) -> [LauncherStateMachine.Action]
    ) {
        for action in event(&machine, MonotonicClock.now()) {
            switch action {
            case .start(let index): start(index)
            case .terminate(let index): children[index]?.send(SIGTERM)
            case .kill(let index): children[index]?.send(SIGKILL)
            case .say(let text): screen.line(text)
            case .serving: serve()
            case .finish(let exit): finish(exit)
            }
        }
        if let timer { loop.cancel(timer) }
        timer = machine.nextTimer.map { instant in
            loop.schedule(at: instant) { [weak self] in
                self?.timer = nil
                self?.perform { $0.onTimer(at: $1) }
            }
        }
        if machine.isStopping { notifier.stopping() }
    }

    private var portIsPicked: Bool {
        node.processes.contains {
            $0.role == .coordinator && $0.endpoint.hasSuffix(":(picked at start)")
        }
    }

    private func start(_ index: Int) {
        let process = node.processes[index]
        var command = process.command
        // The system picked the coordinator's port.
        if process.role != .coordinator, let coordinatorPort,
            portIsPicked
        {
            command.append("--data-parallel-rpc-port=\(coordinatorPort)")
        }
        let prefix = "[\(process.name)] "
        do throws(ControlError) {
            children[index] = try ChildProcess(command, environment: environment, loop: loop) {
                [weak self] line in self?.show(prefix, line)
            }
        } catch {
            let end = ProcessEnd.notStarted("\(command.first ?? ""): \(error.description)")
            loop.schedule(after: .zero) { [weak self] in
                self?.perform { $0.onEnd(index, end, at: $1) }
            }
        }
    }

    private func show(_ prefix: String, _ line: String) {
        if hidesPartings && machine.isStopping && line.hasPrefix("warning") { return }
        screen.line(prefix + line)
    }

    private func reap() {
        for (index, child) in children.sorted(by: { $0.key < $1.key }) {
            guard let end = child.end() else { continue }
            children[index] = nil
            statuses[index] = end.text
            perform { $0.onEnd(index, end, at: $1) }
        }
    }

    // MARK: What the daemons say

    private func hear() {
        var text = [CChar](repeating: 0, count: Self.messageBytesMax)
        for _ in 0..<Self.messagesPerTurnMax {
            var sender: Int32 = 0
            let count = cl_notify_receive(notifySocket, &text, text.count, &sender)
            if count < 0 { return }
            // Anybody on this host can send; the kernel says who did.
            guard let index = children.first(where: { $0.value.id == sender })?.key else {
                continue
            }
            let message = String(
                decoding: text.prefix(Int(count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
            for line in message.split(separator: "\n") { take(String(line), from: index) }
        }
    }

    private func take(_ line: String, from index: Int) {
        let parts = line.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2 else { return }
        switch (parts[0], parts[1]) {
        case ("READY", "1"):
            perform { machine, _ in machine.onReady(index) }
        case ("STATUS", let text):
            statuses[index] = text
            showStatus()
        case (ServiceNotifier.endpointVariable, let text):
            switch node.processes[index].role {
            case .coordinator:
                coordinatorPort = text.split(separator: ":").last.map(String.init)
                screen.line("handshake  coordinator at \(text)")
            case .gateway: endpoint = text
            case .worker: break
            }
            perform { $0.onEndpoint(of: index, at: $1) }
        default:
            break
        }
    }

    private func showStatus() {
        let named = zip(node.processes, statuses).map { (name: $0.name, status: $1) }
        notifier.status(named.map { "\($0.name): \($0.status)" }.joined(separator: "; "))
        if machine.isStopping || isServing { return }
        screen.showLoading(
            named.filter { $0.name.hasPrefix("worker") }, for: MonotonicClock.now() - began)
    }

    private func serve() {
        isServing = true
        let tenths = Int((MonotonicClock.now() - began).seconds * 10)
        let place = endpoint ?? "workers on node \(node.name)"
        screen.line("ready      in \(tenths / 10).\(tenths % 10) s: \(place) (Ctrl-C stops)")
        if let endpoint { notifier.endpoint(endpoint) }
        notifier.ready()
    }

    private func finish(_ exit: ControlExit) {
        self.exit = exit
        screen.line("stopped")
        loop.stop()
    }
}
