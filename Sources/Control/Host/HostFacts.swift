internal import CLinux
internal import DaemonRuntime
internal import Glibc

/// What a plan needs to know of the host on which it is made.
struct HostFacts {
    let name: String
    let processors: Int
    let interfaces: [HostInterface]
    /// Where this command runs.
    let folder: String

    func absolutePath(_ path: String) -> String {
        path.hasPrefix("/") ? path : "\(folder)/\(path)"
    }

    static func current() -> HostFacts {
        HostFacts(
            name: HostName.current, processors: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
            interfaces: readInterfaces(), folder: currentFolder())
    }

    private static func currentFolder() -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        guard getcwd(&buffer, buffer.count) != nil else { return "." }
        return String(
            decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// All IPv4 and IPv6 addresses of interfaces that are up (`getifaddrs(3)`).
    private static func readInterfaces() -> [HostInterface] {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { return [] }
        defer { freeifaddrs(first) }
        var found: [HostInterface] = []
        var next = first
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard entry.ifa_flags & UInt32(IFF_UP) != 0,
                let address = NetworkAddress(entry.ifa_addr),
                let mask = NetworkAddress(entry.ifa_netmask)
            else { continue }
            let prefix = mask.bytes.reduce(0) { $0 + $1.nonzeroBitCount }
            found.append(
                HostInterface(
                    name: String(cString: entry.ifa_name), address: address, prefixLength: prefix))
        }
        return found
    }

    /// The address of this host from which packets to `destination` leave; nothing is sent.
    static func sourceAddress(towards destination: String) -> String? {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard cl_source_address(destination, &text, text.count) == 0 else { return nil }
        return String(
            decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension NetworkAddress {
    /// nil: `text` is no IP address.
    init?(_ text: String) {
        var (four, six) = (in_addr(), in6_addr())
        if inet_pton(AF_INET, text, &four) == 1 {
            self.init(text: text, bytes: withUnsafeBytes(of: &four) { Array($0) })
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            self.init(text: text, bytes: withUnsafeBytes(of: &six) { Array($0) })
        } else {
            return nil
        }
    }

    /// nil: of another family, or none.
    init?(_ socketAddress: UnsafeMutablePointer<sockaddr>?) {
        guard let socketAddress else { return nil }
        let family = Int32(socketAddress.pointee.sa_family)
        let raw = UnsafeRawPointer(socketAddress)
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let bytes: [UInt8]
        switch family {
        case AF_INET:
            let address = raw.loadUnaligned(as: sockaddr_in.self).sin_addr
            bytes = withUnsafeBytes(of: address) { Array($0) }
        case AF_INET6:
            let address = raw.loadUnaligned(as: sockaddr_in6.self).sin6_addr
            bytes = withUnsafeBytes(of: address) { Array($0) }
        default:
            return nil
        }
        guard inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else { return nil }
        self.init(
            text: String(
                decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self),
            bytes: bytes)
    }
}
