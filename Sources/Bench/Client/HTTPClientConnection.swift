internal import CLinux
internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// One connection of ``HTTPClient`` and the exchange on it.
final class HTTPClientConnection {
    private enum Phase: String {
        case idle, connecting, sending, waiting, receiving, closed
    }

    let number: Int
    private unowned let client: HTTPClient
    private let loop: EventLoop
    private var descriptor: Int32 = -1
    private var phase = Phase.idle
    private var exchange: (any HTTPExchange)?
    private var reader = HTTPResponseReader()
    private var sentBytes = 0
    private var start = Instant(nanoseconds: 0)
    private var connectStart = Instant(nanoseconds: 0)
    private var satisfiedAt: Instant?
    /// Exchanges that this connection has completed.
    private var completed = 0
    private var addressesTried = 0
    private var body: [UInt8] = []

    init(client: HTTPClient, number: Int) {
        self.client = client
        loop = client.loop
        self.number = number
    }

    func begin(_ exchange: any HTTPExchange, at start: Instant) {
        self.exchange = exchange
        self.start = start
        reader = HTTPResponseReader()
        sentBytes = 0
        satisfiedAt = nil
        if descriptor >= 0 {
            phase = .sending
            send()
        } else {
            addressesTried = 0
            connectStart = start
            connectNext(lastReason: "no address")
        }
    }

    func close() {
        if descriptor >= 0 {
            loop.unwatch(descriptor)
            Glibc.close(descriptor)
        }
        descriptor = -1
        phase = .closed
    }

    func checkDeadline(_ now: Instant) {
        guard let exchange else { return }
        let limits = client.limits
        if let satisfiedAt, now - satisfiedAt > limits.satisfiedDeadline {
            end(nil, reusable: false)
        } else if phase == .connecting, now - connectStart > limits.connectDeadline {
            connectFailed("no answer within \(limits.connectDeadline.seconds) s")
        } else if now - start > limits.exchangeDeadline {
            let failure = HTTPClientError.deadline(
                seconds: limits.exchangeDeadline.seconds, phase: phase.rawValue)
            end(exchange.isSatisfied ? nil : failure, reusable: false)
        }
    }

    // MARK: Connecting

    /// Tries the server's addresses in turn, from the one that worked last.
    private func connectNext(lastReason: String) {
        let count = client.addresses.count
        var reason = lastReason
        while addressesTried < count {
            let index = (client.preferredAddress + addressesTried) % count
            addressesTried += 1
            guard let opened = client.addresses[index].beginConnecting() else {
                reason = Self.text(of: errno)
                continue
            }
            descriptor = opened
            phase = .connecting
            connectStart = MonotonicClock.now()
            loop.watch(opened, for: .writable) { [weak self] readiness in
                self?.onReady(readiness)
            }
            return
        }
        // Not from within `HTTPClient.begin`.
        phase = .closed
        let failure = HTTPClientError.notConnected(authority: client.authority, reason: reason)
        loop.schedule(at: Instant(nanoseconds: 0)) { [weak self] in
            self?.end(failure, reusable: false)
        }
    }

    private func connectFailed(_ reason: String) {
        close()
        connectNext(lastReason: reason)
    }

    private func onConnected() {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        let result = getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        if result != 0 { code = errno }
        guard code == 0 else { return connectFailed(Self.text(of: code)) }
        _ = cl_set_nodelay(descriptor)
        client.preferredAddress =
            (client.preferredAddress + addressesTried - 1) % client.addresses.count
        addressesTried = 1
        phase = .sending
        send()
    }

    // MARK: Readiness

    private func onReady(_ readiness: EventLoop.Readiness) {
        switch phase {
        case .connecting: onConnected()
        case .sending where readiness.contains(.writable): send()
        case .sending, .waiting, .receiving: receive()
        case .idle:
            close()
            client.forget(self)
        case .closed: break
        }
    }

    private func send() {
        guard let message = exchange?.message else { return }
        while sentBytes < message.count {
            let count = message.withUnsafeBytes { bytes -> Int in
                guard let base = bytes.baseAddress else { return 0 }
                return Glibc.send(
                    descriptor, base + sentBytes, bytes.count - sentBytes, Int32(MSG_NOSIGNAL))
            }
            if count >= 0 {
                sentBytes += count
            } else if errno == EAGAIN {
                return loop.changeInterest(of: descriptor, to: [.readable, .writable])
            } else if errno != EINTR {
                // The server may have answered before it closed: the answer says more.
                break
            }
        }
        phase = .waiting
        loop.changeInterest(of: descriptor, to: [.readable, .hangUp])
    }

    private func receive() {
        while let exchange, phase != .closed {
            let count = recv(
                descriptor, client.scratch.baseAddress, client.scratch.count, Int32(MSG_DONTWAIT))
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return }
            if count <= 0 { return onClosed(by: count < 0 ? Self.text(of: errno) : nil) }
            let now = MonotonicClock.now()
            let isFirst = reader.head == nil
            if phase == .waiting { phase = .receiving }
            body.removeAll(keepingCapacity: true)
            do throws(HTTPResponseError) {
                try reader.receive(
                    Array(UnsafeRawBufferPointer(rebasing: client.scratch[..<count]))[...],
                    body: &body)
            } catch {
                return end(.answer(error), reusable: false)
            }
            if isFirst, let head = reader.head { exchange.onHead(head) }
            if !body.isEmpty { exchange.onBody(body, at: now) }
            if reader.isComplete { return end(nil, reusable: reader.keepsAlive) }
            if exchange.isSatisfied, satisfiedAt == nil { satisfiedAt = now }
            // A partly filled buffer: nothing more has come.
            if count < client.scratch.count { return }
        }
    }

    private func onClosed(by reason: String?) {
        guard let exchange else { return }
        if completed > 0, phase != .receiving {
            // A kept connection that the server closed meanwhile: not this request's failure.
            let start = self.start
            self.exchange = nil
            close()
            client.release(self, reusable: false)
            return client.beginAnew(exchange, at: start)
        }
        if let reason { return end(.broken(reason: reason), reusable: false) }
        do throws(HTTPResponseError) {
            try reader.end()
            end(nil, reusable: false)
        } catch {
            end(.answer(error), reusable: false)
        }
    }

    private func end(_ failure: HTTPClientError?, reusable: Bool) {
        guard let exchange else { return }
        self.exchange = nil
        // A request that was not taken whole leaves the connection in an unknown state.
        let isClean = reusable && failure == nil && sentBytes == exchange.message.count
        if isClean {
            completed += 1
            phase = .idle
        } else {
            close()
        }
        client.release(self, reusable: isClean)
        exchange.onEnd(failure)
    }

    private static func text(of code: Int32) -> String { String(cString: strerror(code)) }
}
