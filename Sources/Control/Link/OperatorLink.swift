internal import DaemonRuntime
internal import Protocol

/// An operator's connection to the coordinator: it asks and waits, with a deadline, and asks again
/// where nothing comes, because a question may be lost or dropped. It says no HELLO, so it takes no
/// place in the deployment.
final class OperatorLink {
    static let askAgainAfter = Interval.milliseconds(500)

    let endpoint: String
    let loop = EventLoop()
    private let socket: ZeroMQSocket
    private let incarnation = Incarnation(rawValue: MonotonicClock.randomUInt64())
    private var sequence: UInt64 = 0
    private var refusedFrames = 0
    /// What the loop hands every answer to.
    var onAnswer: (ControlBody) -> Void = { _ in }

    init(endpoint: String, security: LinkSecurity) throws(ControlError) {
        self.endpoint = endpoint
        var limits = SocketLimits()
        limits.messageBytesMax = Int64(CodecLimits.controlMessageBytesMax)
        let identity = ControlIdentity.bytes(
            role: ControlIdentity.operatorRole, incarnation: incarnation,
            secret: MonotonicClock.randomUInt64())
        do throws(TransportError) {
            let socket = try ZeroMQSocket(
                .dealer(identity: identity), context: ZeroMQContext(), limits: limits,
                security: security.client(of: .coordinator))
            self.socket = socket
            try socket.connect(endpoint)
        } catch {
            throw .failed(
                "\(endpoint) is no address to connect to: \(error); see --data-parallel-address "
                    + "and --data-parallel-rpc-port")
        }
        socket.attach(to: loop) { [weak self] _, frame in self?.receive(frame) }
    }

    func close() { socket.detach() }

    func send(_ body: ControlBody) {
        sequence += 1
        // A queue that is full holds questions that nobody has taken: this one adds nothing.
        _ = socket.send(
            ControlMessage(incarnation: incarnation, view: 0, sequence: sequence, body: body)
                .encoded())
    }

    private func receive(_ frame: UnsafeRawBufferPointer) {
        do throws(CodecError) {
            onAnswer(try ControlMessage.decode(frame).body)
        } catch {
            refusedFrames += 1
        }
    }

    /// The first answer for which `match` has a value.
    func ask<Answer>(
        _ question: ControlBody, within timeout: Interval,
        _ match: @escaping (ControlBody) -> Answer?
    ) throws(ControlError) -> Answer {
        var answer: Answer?
        onAnswer = { body in if answer == nil { answer = match(body) } }
        defer { onAnswer = { _ in } }
        let deadline = MonotonicClock.now() + timeout
        while MonotonicClock.now() < deadline {
            send(question)
            let next = min(MonotonicClock.now() + Self.askAgainAfter, deadline)
            if loop.run(until: next, { answer != nil }), let answer { return answer }
        }
        throw .failed(noAnswer(within: timeout))
    }

    func status(within timeout: Interval) throws(ControlError) -> StatusReport {
        try ask(.statusRequest, within: timeout) { body -> StatusReport? in
            guard case .statusReport(let report) = body else { return nil }
            return report
        }
    }

    func noAnswer(within timeout: Interval) -> String {
        if refusedFrames > 0 {
            return "what answers at \(endpoint) is no coordinator of version "
                + "\(DaemonProcess.version): install one release everywhere"
        }
        return "no coordinator answers at \(endpoint) within \(Readable.time(timeout)): start "
            + "phalanx-coordinator, or name its address with --data-parallel-address and "
            + "--data-parallel-rpc-port"
    }
}
