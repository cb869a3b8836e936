internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// `phalanxctl top`.
enum TopCommand {
    static let synopsis = (
        arguments: "[--once]", summary: "rates, load and waiting of every rank, each second"
    )
    static let page = """
        usage: phalanxctl top [--once] [--option value ...]

        Draws the deployment each second until q or Ctrl-C; where the output is no terminal, it
        writes lines. IN/S and OUT/S are tokens of prompts and of answers. ROWS are a rank's rows as
        a multiple of the mean rank's, and imbalance is that of the busiest: ticks take so much
        longer than even ones. DUMMY is the part of the ticks in which a rank had no rows,
        WAITED the part of the time that it waited for others at the beginning of ticks. PREFILL are
        tokens of prompts that are not computed yet.

          --once                            one screen, as soon as there are rates
          --timeout SECONDS                 for the first answer (default: 5)
        \(ControlArguments.page)
        Exit codes: 0 after q, Ctrl-C or --once; 1 if nobody answers; 64 for a refused command line.

        """

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let arguments = try ControlArguments(arguments, command: "top", flags: ["once"])
        let link = try OperatorLink(
            endpoint: arguments.endpoint, security: arguments.security())
        defer { link.close() }
        let first = try link.status(within: arguments.timeout)
        let session = TopSession(link, output, isOnce: arguments.has("once"))
        return try session.run(first)
    }
}

/// The loop of `top`: asks each second, draws, and takes keys and signals.
private final class TopSession {
    static let every = Interval.seconds(1)
    /// Questions without an answer, after which the screen says so.
    static let unansweredMax = 3
    /// `--once` waits for this many heartbeats of every worker.
    static let heartbeatsAwaited: Int64 = 3

    private let link: OperatorLink
    private let output: ControlOutput
    private let isOnce: Bool
    private var state = TopState()
    private var screen: TerminalScreen?
    private var unanswered = 0
    private var isOver = false

    init(_ link: OperatorLink, _ output: ControlOutput, isOnce: Bool) {
        self.link = link
        self.output = output
        self.isOnce = isOnce
    }

    func run(_ first: StatusReport) throws(ControlError) -> ControlExit {
        if isOnce { return once(first) }
        link.loop.onSignals([SIGINT, SIGTERM, SIGHUP]) { [weak self] _ in self?.stop() }
        if output.isTerminal {
            let screen = TerminalScreen(write: output.write)
            self.screen = screen
            if screen.hasKeys {
                link.loop.watch(STDIN_FILENO, for: .readable) { [weak self] _ in self?.readKeys() }
            }
        }
        defer { screen?.restore() }
        link.onAnswer = { [weak self] body in
            guard case .statusReport(let report) = body else { return }
            self?.show(report)
        }
        show(first)
        link.loop.scheduleRepeating(every: Self.every) { [weak self] in self?.ask() }
        if !isOver { link.loop.run() }
        return .success
    }

    /// Two heartbeats of every worker are needed for rates; who has sent none has none.
    private func once(_ first: StatusReport) -> ControlExit {
        _ = state.onReport(first, at: MonotonicClock.now())
        link.onAnswer = { [weak self] body in
            guard case .statusReport(let report) = body else { return }
            _ = self?.state.onReport(report, at: MonotonicClock.now())
        }
        let patience = Interval(nanoseconds: first.lease.nanoseconds / 5 * Self.heartbeatsAwaited)
        let deadline = MonotonicClock.now() + patience
        while !state.isComplete, MonotonicClock.now() < deadline {
            link.send(.statusRequest)
            let next = min(MonotonicClock.now() + OperatorLink.askAgainAfter, deadline)
            _ = link.loop.run(until: next) { state.isComplete }
        }
        write(TopScreen.lines(state, endpoint: link.endpoint))
        return .success
    }

    private func stop() {
        isOver = true
        link.loop.stop()
    }

    private func ask() {
        unanswered += 1
        if unanswered > Self.unansweredMax { tell(state.onSilence(of: link.endpoint)) }
        link.send(.statusRequest)
    }

    private func show(_ report: StatusReport) {
        unanswered = 0
        let happened = state.onReport(report, at: MonotonicClock.now())
        if screen == nil { write(happened + TopScreen.plain(state)) }
        draw()
    }

    private func tell(_ lines: [String]) {
        if lines.isEmpty { return }
        if screen == nil { write(lines) }
        draw()
    }

    private func draw() { screen?.draw(TopScreen.lines(state, endpoint: link.endpoint)) }

    private func write(_ lines: [String]) {
        output.write(lines.map { $0 + "\n" }.joined())
    }

    private func readKeys() {
        var keys = [UInt8](repeating: 0, count: 64)
        let count = read(STDIN_FILENO, &keys, keys.count)
        // Nobody types any more; signals still end it.
        if count <= 0 { return link.loop.unwatch(STDIN_FILENO) }
        if keys.prefix(count).contains(where: { $0 == UInt8(ascii: "q") || $0 == 3 }) { stop() }
    }
}
