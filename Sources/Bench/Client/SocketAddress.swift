internal import Glibc

/// An address of the server, as the system resolved it.
struct SocketAddress: Hashable, Sendable {
    let family: Int32
    /// A `sockaddr` of that family.
    let bytes: [UInt8]

    /// All addresses of a host, in the system's order of preference. Blocks while it asks.
    static func resolve(_ host: String, port: UInt16) throws(BenchError) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, "\(port)", &hints, &found)
        guard code == 0 else {
            throw .unknownHost(name: host, reason: String(cString: gai_strerror(code)))
        }
        defer { freeaddrinfo(found) }
        var addresses: [SocketAddress] = []
        var next = found
        while let entry = next {
            let bytes = UnsafeRawBufferPointer(
                start: entry.pointee.ai_addr, count: Int(entry.pointee.ai_addrlen))
            addresses.append(SocketAddress(family: entry.pointee.ai_family, bytes: Array(bytes)))
            next = entry.pointee.ai_next
        }
        guard !addresses.isEmpty else { throw .unknownHost(name: host, reason: "has no address") }
        return addresses
    }

    /// Begins to connect a new non-blocking socket; nil, with errno, when that fails at once.
    func beginConnecting() -> Int32? {
        let kind = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
        let descriptor = socket(family, Int32(kind), 0)
        guard descriptor >= 0 else { return nil }
        let result = bytes.withUnsafeBytes { raw in
            raw.baseAddress.map {
                connect(
                    descriptor, $0.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
            }
        }
        if result == 0 || errno == EINPROGRESS { return descriptor }
        let reason = errno
        close(descriptor)
        errno = reason
        return nil
    }
}
