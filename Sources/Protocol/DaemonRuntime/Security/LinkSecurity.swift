internal import Glibc
internal import Protocol

/// How the links of a process are protected: by the keys of `--keys`, or not at all. Links that
/// leave the host without keys are an explicit choice (`--plaintext-links`).
public enum LinkSecurity: Hashable, Sendable {
    /// On this host alone.
    case plaintext
    case plaintextAcrossHosts
    case keys(KeyRing)

    /// - Parameters:
    ///   - peers: the roles that this one talks to.
    ///   - addresses: option names whose values are addresses of links.
    ///   - isReload: the keys may lie in `--keys-at-reload` by now.
    public init(
        _ options: Options, role: KeyRole, peers: [KeyRole], addresses: [String],
        isReload: Bool = false
    ) throws(KeyError) {
        let later = options.text("keys-at-reload")
        if let folder = options.text("keys") {
            let later = isReload ? later.flatMap { KeyRing.holds($0, role) ? $0 : nil } : nil
            self = .keys(try KeyRing(folder: later ?? folder, role: role, peers: peers))
            return
        }
        if let later {
            throw KeyError(
                description: "--keys-at-reload \(later): belongs to --keys, whose keys count until "
                    + "the first reload")
        }
        let outside = addresses.first { !Self.isLoopback(options.text($0) ?? "127.0.0.1") }
        if let outside, !options.flag("plaintext-links") {
            throw KeyError(
                description: "--\(outside) \(options.text(outside) ?? ""): links leave this host, "
                    + "and there are no keys: make some with `phalanxctl keys DIR` and give --keys "
                    + "DIR to every daemon, or say --plaintext-links on a network that nobody else "
                    + "reaches")
        }
        self = options.flag("plaintext-links") ? .plaintextAcrossHosts : .plaintext
    }

    /// Why this process must not connect there, or nil. Addresses of options are checked when it
    /// starts, those that others tell when it hears them.
    public func problem(connectingTo endpoint: String) -> String? {
        guard self == .plaintext else { return nil }
        let address = endpoint.split(separator: "/").last ?? ""
        let host = address.prefix { $0 != "]" }
        let name = host.hasPrefix("[") ? host.dropFirst() : address.prefix { $0 != ":" }
        if endpoint.hasPrefix("tcp://"), Self.isLoopback(String(name)) { return nil }
        return "\(endpoint) is not on this host, and there are no keys: make some with "
            + "`phalanxctl keys DIR` and give --keys DIR to every daemon, or say --plaintext-links "
            + "on a network that nobody else reaches"
    }

    static func isLoopback(_ address: String) -> Bool {
        if ["localhost", "::1", "[::1]"].contains(address) { return true }
        var bits = in_addr()
        guard inet_pton(AF_INET, address, &bits) == 1 else { return false }
        return UInt32(bigEndian: bits.s_addr) >> 24 == 127
    }

    /// Of a socket that connects to a server of that role.
    public func client(of server: KeyRole) -> SocketSecurity {
        switch self {
        case .plaintext, .plaintextAcrossHosts: .plaintext
        case .keys(let ring): .client(ring, server: server)
        }
    }

    /// Of a socket that binds, under a domain that the authenticator knows.
    public func server(domain: String) -> SocketSecurity {
        switch self {
        case .plaintext, .plaintextAcrossHosts: .plaintext
        case .keys(let ring): .server(ring, domain: domain)
        }
    }

    /// What another reading of the folder has changed, for people.
    func changes(to new: LinkSecurity) -> [String] {
        guard case .keys(let ring) = self, case .keys(let newRing) = new else { return [] }
        return ring.changes(to: newRing)
    }

    func hasOtherOwnKey(than other: LinkSecurity) -> Bool {
        guard case .keys(let ring) = self, case .keys(let otherRing) = other else { return false }
        return ring.own != otherRing.own
    }

    /// What must live as long as the server sockets; nil without keys.
    public func authenticator(
        _ roles: [String: [KeyRole]], context: ZeroMQContext, loop: EventLoop, logger: Logger
    ) throws(TransportError) -> LinkAuthenticator? {
        switch self {
        case .plaintext, .plaintextAcrossHosts: nil
        case .keys(let ring):
            try LinkAuthenticator(
                ring: ring, roles: roles, context: context, loop: loop, logger: logger)
        }
    }
}
