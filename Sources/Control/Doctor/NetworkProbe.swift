internal import DaemonRuntime
internal import Glibc
internal import Protocol

/// What the network of this host is, and what answers from here.
enum NetworkProbe {
    struct Interface: Hashable, Sendable {
        let name: String
        var addresses: [String]
        let mtu: Int
        let isUp: Bool
        let isLoopback: Bool
    }

    static func interfaces() -> [Interface] {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { return [] }
        defer { freeifaddrs(first) }
        var found: [Interface] = []
        var next = first
        while let entry = next {
            next = entry.pointee.ifa_next
            let name = String(cString: entry.pointee.ifa_name)
            if !found.contains(where: { $0.name == name }) {
                let flags = Int32(bitPattern: entry.pointee.ifa_flags)
                found.append(
                    Interface(
                        name: name, addresses: [],
                        mtu: SystemFiles.integer("/sys/class/net/\(name)/mtu") ?? 0,
                        isUp: flags & Int32(IFF_UP) != 0,
                        isLoopback: flags & Int32(IFF_LOOPBACK) != 0))
            }
            guard let address = entry.pointee.ifa_addr, let text = numeric(address) else {
                continue
            }
            for index in found.indices where found[index].name == name {
                found[index].addresses.append(text)
            }
        }
        return found.sorted { $0.name < $1.name }
    }

    private static func numeric(_ address: UnsafeMutablePointer<sockaddr>) -> String? {
        let size: Int
        switch Int32(address.pointee.sa_family) {
        case AF_INET: size = MemoryLayout<sockaddr_in>.size
        case AF_INET6: size = MemoryLayout<sockaddr_in6>.size
        default: return nil
        }
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let result = getnameinfo(
            address, socklen_t(size), &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST)
        guard result == 0 else { return nil }
        let bytes = host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        // The scope of a link-local address is the interface that it stands at.
        return String(String(decoding: bytes, as: UTF8.self).prefix { $0 != "%" })
    }

    /// Whether sockets can listen on it here, that is whether the address is one of this host. The
    /// number of a port decides nothing, so the system picks one.
    static func isLocal(_ host: String) -> Bool {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "0", &hints, &list) == 0, let first = list else { return false }
        defer { freeaddrinfo(list) }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(first.pointee.ai_family, type, 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return bind(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0
    }

    /// Why nobody could listen on that port now, as `errno`; 0 when one could. As daemons do, it
    /// takes no notice of connections that wait for their end.
    static func problemListening(_ host: String, _ port: Int) -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "\(port)", &hints, &list) == 0, let first = list else {
            return EADDRNOTAVAIL
        }
        defer { freeaddrinfo(list) }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(first.pointee.ai_family, type, 0)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(
            descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        guard bind(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0,
            listen(descriptor, 1) == 0
        else { return errno }
        return 0
    }

    static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host == "::1" || host == "[::1]" || host.hasPrefix("127.")
    }

    /// Of `tcp://host:port`, with an IPv6 address in brackets.
    static func parts(of endpoint: String) -> (host: String, port: Int)? {
        ConnectionProbe.Target(endpoint: endpoint).map { ($0.host, $0.port) }
    }
}
