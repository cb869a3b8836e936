internal import CLinux
internal import Glibc

/// From where this host talks to a peer: what an error about a silent peer must say, because the
/// wrong interface is the usual reason.
public enum NetworkRoute {
    private static let addressBytesMax = 64
    private static let interfaceBytesMax = 64

    /// - Parameter endpoint: `tcp://host:port`
    /// - Returns: for people: `from 10.0.0.2 on eth0`, or why there is no way.
    public static func description(toward endpoint: String) -> String {
        guard let (host, port) = parts(of: endpoint) else { return "no address" }
        var address = [CChar](repeating: 0, count: addressBytesMax)
        var interface = [CChar](repeating: 0, count: interfaceBytesMax)
        let result = cl_source_toward(
            host, port, &address, address.count, &interface, interface.count)
        guard result == 0 else { return "no route: \(String(cString: strerror(errno)))" }
        let name = text(interface)
        return "from \(text(address))" + (name.isEmpty ? "" : " on \(name)")
    }

    /// Host (without brackets) and port.
    static func parts(of endpoint: String) -> (host: String, port: UInt16)? {
        let prefix = "tcp://"
        guard endpoint.hasPrefix(prefix) else { return nil }
        let rest = endpoint.dropFirst(prefix.count)
        guard let colon = rest.lastIndex(of: ":"), colon > rest.startIndex,
            let port = UInt16(rest[rest.index(after: colon)...])
        else { return nil }
        var host = rest[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        return host.isEmpty ? nil : (String(host), port)
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
