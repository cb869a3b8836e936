internal import Glibc
public import Protocol

/// Opens TCP connections to several places at once, with one deadline for all of them, and closes
/// them again. Names are resolved before, by the system's resolver, which has its own deadline.
public enum ConnectionProbe {
    public struct Target: Hashable, Sendable {
        public let host: String
        public let port: Int

        public init(host: String, port: Int) {
            self.host = host
            self.port = port
        }

        /// Of `tcp://host:port`, with an IPv6 address in brackets.
        public init?(endpoint: String) {
            guard endpoint.hasPrefix("tcp://"), let colon = endpoint.lastIndex(of: ":"),
                let port = Int(endpoint[endpoint.index(after: colon)...])
            else { return nil }
            var host = endpoint[..<colon].dropFirst(6)
            if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
            guard !host.isEmpty else { return nil }
            self.init(host: String(host), port: port)
        }
    }

    public enum Attempt: Hashable, Sendable {
        case connected(Interval)
        case failed(String)
    }

    private enum State {
        case waiting(descriptor: Int32, since: Instant)
        case over(Attempt)
    }

    public static func connect(
        _ host: String, _ port: Int, within limit: Interval
    ) -> Attempt {
        connect([Target(host: host, port: port)], within: limit)[0]
    }

    /// - Parameter numericOnly: a host that is a name is no target: nobody is asked for it.
    /// - Returns: what became of each, in the order of `targets`.
    public static func connect(
        _ targets: [Target], within limit: Interval, numericOnly: Bool = false
    ) -> [Attempt] {
        var states = targets.map { start($0, numericOnly: numericOnly) }
        let deadline = MonotonicClock.now() + limit
        while true {
            var waiting: [pollfd] = []
            var places: [Int] = []
            for (index, state) in states.enumerated() {
                guard case .waiting(let descriptor, _) = state else { continue }
                waiting.append(pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0))
                places.append(index)
            }
            let left = deadline - MonotonicClock.now()
            if waiting.isEmpty || left <= .zero { break }
            let count = poll(
                &waiting, nfds_t(waiting.count), Int32(clamping: left.milliseconds + 1))
            if count < 0 && errno != EINTR { break }
            guard count > 0 else { continue }
            for (place, entry) in zip(places, waiting) where entry.revents != 0 {
                states[place] = .over(finish(states[place]))
            }
        }
        return states.map { state in
            switch state {
            case .over(let attempt): return attempt
            case .waiting(let descriptor, _):
                close(descriptor)
                return .failed("no answer within \(limit.seconds) s")
            }
        }
    }

    private static func start(_ target: Target, numericOnly: Bool) -> State {
        var hints = addrinfo()
        hints.ai_flags = numericOnly ? AI_NUMERICHOST : 0
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(target.host, "\(target.port)", &hints, &list)
        guard result == 0, let first = list else {
            return .over(.failed(String(cString: gai_strerror(result))))
        }
        defer { freeaddrinfo(list) }
        let type =
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
            | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(first.pointee.ai_family, type, 0)
        guard descriptor >= 0 else { return .over(.failed(String(cString: strerror(errno)))) }
        let began = MonotonicClock.now()
        if Glibc.connect(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0 {
            close(descriptor)
            return .over(.connected(MonotonicClock.now() - began))
        }
        let problem = errno
        if problem == EINPROGRESS { return .waiting(descriptor: descriptor, since: began) }
        close(descriptor)
        return .over(.failed(String(cString: strerror(problem))))
    }

    private static func finish(_ state: State) -> Attempt {
        switch state {
        case .over(let attempt): return attempt
        case .waiting(let descriptor, let began):
            defer { close(descriptor) }
            var problem: Int32 = 0
            var size = socklen_t(MemoryLayout<Int32>.size)
            getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &problem, &size)
            if problem != 0 { return .failed(String(cString: strerror(problem))) }
            return .connected(MonotonicClock.now() - began)
        }
    }
}
