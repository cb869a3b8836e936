internal import Glibc

/// What became of a write to a stream.
public enum HTTPWriteResult: Hashable, Sendable {
    case accepted
    /// Accepted, but the client reads slowly: write less until `onDrained`.
    case congested
    /// The exchange is over: the client left before, or it has read so slowly that this write ended
    /// it. `onHangUp` is not called for the latter.
    case gone
}

/// What the handler does.
extension HTTPServer {
    /// A complete answer. False when the exchange is over.
    ///
    /// Content-Length, Connection, Date, Server and Transfer-Encoding are the server's to write.
    @discardableResult
    public func respond(
        _ exchange: HTTPExchangeID, status: HTTPStatus, headers: HTTPHeaderFields = [:],
        body: [UInt8] = []
    ) -> Bool {
        guard let connection = connection(of: exchange) else { return false }
        precondition(!isStreaming(connection), "the answer to \(exchange) has begun already")
        if isDraining { connection.keepsAlive = false }
        writeHead(connection, status, headers)
        if !status.isBodiless { connection.output.append("Content-Length: \(body.count)\r\n") }
        connection.output.append("\r\n")
        if !status.isBodiless, !connection.isHeadRequest { connection.output.append(body) }
        finish(connection)
        return true
    }

    /// The head of an answer whose body is written piece by piece. False when the exchange is over.
    @discardableResult
    public func beginStream(
        _ exchange: HTTPExchangeID, status: HTTPStatus, headers: HTTPHeaderFields = [:]
    ) -> Bool {
        guard let connection = connection(of: exchange) else { return false }
        precondition(!isStreaming(connection), "the answer to \(exchange) has begun already")
        if isDraining || connection.isVersion10 { connection.keepsAlive = false }
        writeHead(connection, status, headers)
        if status.isBodiless {
            connection.stream = .bodiless
        } else {
            if !connection.isVersion10 {
                connection.output.append("Transfer-Encoding: chunked\r\n")
            }
            connection.stream = connection.isVersion10 ? .untilClose : .chunked
            if connection.isHeadRequest { connection.stream = .bodiless }
        }
        connection.output.append("\r\n")
        markDirty(connection)
        return true
    }

    /// A piece of a stream's body. An empty one is nothing (an empty chunk would end the stream).
    @discardableResult
    public func write(_ exchange: HTTPExchangeID, _ bytes: some Collection<UInt8>)
        -> HTTPWriteResult
    {
        guard let connection = connection(of: exchange) else { return .gone }
        switch connection.stream {
        case .none:
            preconditionFailure("\(exchange) has no stream")
        case .bodiless:
            return .accepted
        case .chunked where !bytes.isEmpty:
            connection.output.append(String(bytes.count, radix: 16))
            connection.output.append("\r\n")
            connection.output.append(bytes)
            connection.output.append("\r\n")
        case .chunked, .untilClose:
            connection.output.append(bytes)
        }
        if connection.unsentBytes > limits.unsentBytesMax {
            takeExchange(of: connection)
            closeAbruptly(connection)
            return .gone
        }
        markDirty(connection)
        if connection.unsentBytes > limits.unsentBytesHigh { connection.isCongested = true }
        return connection.isCongested ? .congested : .accepted
    }

    /// Completes a stream. False when the exchange is over.
    @discardableResult
    public func finishStream(_ exchange: HTTPExchangeID) -> Bool {
        guard let connection = connection(of: exchange) else { return false }
        precondition(isStreaming(connection), "\(exchange) has no stream")
        if connection.stream == .chunked { connection.output.append("0\r\n\r\n") }
        finish(connection)
        return true
    }

    /// Cuts the answer short, so that the client sees that it is not complete. False when the
    /// exchange is over.
    @discardableResult
    public func abort(_ exchange: HTTPExchangeID) -> Bool {
        guard let connection = connection(of: exchange) else { return false }
        takeExchange(of: connection)
        closeAbruptly(connection)
        return true
    }

    /// The bytes of an exchange's connection that the client has not taken; 0 when it is over.
    public func unsentBytes(of exchange: HTTPExchangeID) -> Int {
        connection(of: exchange)?.unsentBytes ?? 0
    }

    private func isStreaming(_ connection: HTTPConnection) -> Bool { connection.stream != .none }

    private func writeHead(
        _ connection: HTTPConnection, _ status: HTTPStatus, _ headers: HTTPHeaderFields
    ) {
        connection.output.append("HTTP/1.1 \(status.code) \(status.reason)\r\n")
        connection.output.append("Server: phalanx\r\nDate: ")
        connection.output.append(dateText())
        connection.output.append("\r\n")
        for field in headers.fields {
            precondition(!Self.ownFields.contains(field.name), "\(field.name) is the server's")
            connection.output.append(field.name)
            connection.output.append(": ")
            connection.output.append(field.value)
            connection.output.append("\r\n")
        }
        if !connection.keepsAlive { connection.output.append("Connection: close\r\n") }
    }

    private static let ownFields = [
        "connection", "content-length", "date", "server", "transfer-encoding",
    ]

    private func finish(_ connection: HTTPConnection) {
        takeExchange(of: connection)
        if connection.keepsAlive {
            connection.phase = .reading
        } else {
            connection.phase = .finishing
            connection.input.removeAll()
        }
        // What follows in the input is parsed after sending: never from within the handler.
        markDirty(connection)
    }

    /// Answers what never became a request, in the form of the API's errors, and closes.
    func refuse(_ connection: HTTPConnection, _ status: HTTPStatus, _ message: String) {
        let type = status == .serviceUnavailable ? "server_error" : "invalid_request_error"
        let text = """
            {"error":{"message":"\(message)","type":"\(type)","param":null,\
            "code":\(status.code)}}
            """
        connection.keepsAlive = false
        connection.phase = .finishing
        connection.deadline = nil
        connection.input.removeAll()
        writeHead(connection, status, ["content-type": "application/json"])
        connection.output.append("Content-Length: \(text.utf8.count)\r\n\r\n")
        connection.output.append(text)
        markDirty(connection)
    }

    // MARK: Sending

    func flush(_ connection: HTTPConnection) {
        if connection.phase == .closed { return }
        connection.takeProduced()
        let (result, sentBytes) = connection.send()
        switch result {
        case .broken:
            hangUp(connection)
            return
        case .blocked:
            if sentBytes > 0 || !connection.isBlocked { setStallDeadline(connection) }
            connection.isBlocked = true
        case .done:
            connection.isBlocked = false
            connection.stallDeadline = nil
            if connection.phase == .finishing { beginLingering(connection) }
        }
        if connection.isCongested, connection.unsentBytes <= limits.unsentBytesLow {
            connection.isCongested = false
            handler?.onDrained(
                exchange: HTTPExchangeID(slot: connection.slot, serial: connection.serial))
        }
        advance(connection)
    }

    private func beginLingering(_ connection: HTTPConnection) {
        if let tls = connection.tls {
            tls.finish()
            connection.takeProduced()
            // A full socket loses close_notify only: each answer says where it ends.
            if connection.send().result == .broken {
                close(connection)
                return
            }
        }
        connection.phase = .lingering
        Glibc.shutdown(connection.descriptor, Int32(SHUT_WR))
        setDeadline(connection, after: limits.lingerDeadline)
    }
}
