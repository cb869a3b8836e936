internal import DaemonRuntime
internal import Glibc

/// What the clients do: bytes, hang-ups and silence.
extension HTTPServer {
    func onReady(_ connection: HTTPConnection, _ readiness: EventLoop.Readiness) {
        if connection.phase == .closed { return }
        if !readiness.isDisjoint(with: .hangUp) {
            hangUp(connection)
            return
        }
        if readiness.contains(.writable) { flush(connection) }
        if readiness.contains(.readable), connection.phase != .closed { receive(connection) }
    }

    private func receive(_ connection: HTTPConnection) {
        let count = recv(connection.descriptor, scratch.baseAddress, scratch.count, 0)
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        guard count > 0 else {
            hangUp(connection)
            return
        }
        if connection.phase == .lingering || connection.phase == .finishing { return }
        let bytes = UnsafeRawBufferPointer(rebasing: scratch.prefix(count))
        if let tls = connection.tls {
            guard tls.receive(bytes), decrypt(connection, tls) else {
                hangUp(connection)
                return
            }
        } else {
            connection.input.append(bytes)
        }
        advance(connection)
    }

    /// Moves what `tls` holds to the connection's input; false when the connection is over.
    private func decrypt(_ connection: HTTPConnection, _ tls: TLSSession) -> Bool {
        if connection.phase == .handshaking {
            let result = tls.handshake()
            markDirty(connection)  // Its records, or the alert that says why it failed.
            switch result {
            case .needsMore:
                return true
            case .failed:
                flush(connection)
                return false
            case .done:
                connection.phase = .reading
                setDeadline(connection, after: limits.headDeadline)
            }
        }
        while true {
            switch tls.read(into: scratch) {
            case .bytes(let count):
                connection.input.append(scratch.prefix(count))
            case .needsMore:
                return true
            case .closed:
                return false
            case .failed:
                flush(connection)
                return false
            }
        }
    }

    /// Parses what is there, as far as requests may be handed over.
    func advance(_ connection: HTTPConnection) {
        // A client that sends requests and reads no answers must wait with them.
        while connection.phase == .reading, !connection.input.isEmpty,
            connection.unsentBytes <= limits.unsentBytesLow
        {
            let (consumed, outcome) = connection.input.withSpan { connection.parser.parse($0) }
            connection.input.removeFirst(consumed)
            switch outcome {
            case .needsMore:
                break
            case .continueExpected:
                // A body that is here already was sent without waiting.
                if connection.input.isEmpty {
                    connection.output.append("HTTP/1.1 100 Continue\r\n\r\n")
                    markDirty(connection)
                }
            case .request(let request):
                handOver(request, on: connection)
            case .refused(let error):
                refuse(connection, error.status, error.description)
            }
        }
        updateStage(connection)
        if isDraining, connection.phase == .reading, connection.stage == .idle,
            connection.unsentBytes == 0
        {
            close(connection)
        }
        updateInterest(connection)
    }

    private func handOver(_ request: HTTPRequest, on connection: HTTPConnection) {
        connection.phase = .answering
        connection.deadline = nil
        connection.isHeadRequest = request.method == "HEAD"
        connection.isVersion10 = request.isVersion10
        connection.keepsAlive = request.isKeepAlive
        // Whatever comes next begins a stage of its own.
        connection.stage = .idle
        let exchange = beginExchange(on: connection)
        guard let handler else {
            takeExchange(of: connection)
            refuse(connection, .serviceUnavailable, "The server is starting or stopping.")
            return
        }
        var request = request
        request.peer = connection.peer
        handler.onRequest(request, exchange: exchange)
    }

    /// Each stage of reading has its deadline, which more bytes do not move.
    func updateStage(_ connection: HTTPConnection) {
        guard connection.phase == .reading else { return }
        let stage: HTTPConnection.ReadingStage =
            if connection.parser.isReadingBody {
                .body
            } else if !connection.parser.isIdle || !connection.input.isEmpty {
                .head
            } else {
                connection.stage == .fresh ? .fresh : .idle
            }
        if stage == connection.stage, connection.deadline != nil { return }
        // A fresh connection's time runs from its start.
        let isHeadOfFresh = stage == .head && connection.stage == .fresh
        connection.stage = stage
        if isHeadOfFresh, connection.deadline != nil { return }
        switch stage {
        case .fresh, .head: setDeadline(connection, after: limits.headDeadline)
        case .body: setDeadline(connection, after: limits.bodyDeadline)
        case .idle: setDeadline(connection, after: limits.idleDeadline)
        }
    }

    func onDeadline(_ connection: HTTPConnection) {
        connection.deadline = nil
        switch (connection.phase, connection.stage) {
        case (.reading, .head), (.reading, .body):
            refuse(connection, .requestTimeout, "The request did not arrive in time.")
        case (.reading, .fresh), (.reading, .idle), (.handshaking, _), (.lingering, _):
            close(connection)
        case (.answering, _), (.finishing, _), (.closed, _):
            break
        }
    }

    func updateInterest(_ connection: HTTPConnection) {
        var interest: EventLoop.Readiness = [.hangUp]
        switch connection.phase {
        case .handshaking, .lingering:
            interest.insert(.readable)
        case .reading, .answering:
            if connection.input.count < limits.pipelinedBytesMax { interest.insert(.readable) }
        case .finishing:
            break
        case .closed:
            return
        }
        if connection.isBlocked { interest.insert(.writable) }
        if interest.rawValue == connection.interest { return }
        connection.interest = interest.rawValue
        loop.changeInterest(of: connection.descriptor, to: interest)
    }
}
