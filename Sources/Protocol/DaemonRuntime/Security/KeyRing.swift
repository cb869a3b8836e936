internal import Glibc

/// What is wrong with a folder of keys, and what to do.
public struct KeyError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}

/// The keys of one process: its own pair, and the public keys of those that it talks to.
///
/// A folder holds `ROLE.secret` (one key; readable by its owner alone) and `ROLE.public` (a key a
/// line: the first is the role's current one, all are accepted, and clients try all of a server, so
/// that keys can be changed while daemons run). A process needs its own secret and the public keys
/// of its peers, no more.
public struct KeyRing: Hashable, Sendable {
    static let fileBytesMax = 64 << 10
    static let keysMax = 256

    public let role: KeyRole
    let own: CurveKeyPair
    private let known: [KeyRole: [String]]
    /// What the authenticator calls the owners of these keys; see ``userID(_:_:)``.
    private let userIDs: [String: KeyRole]

    /// - Parameter peers: the roles whose public keys must be there.
    public init(folder: String, role: KeyRole, peers: [KeyRole]) throws(KeyError) {
        self.role = role
        own = try Self.secret(folder, role)
        var known: [KeyRole: [String]] = [:]
        for peer in peers { known[peer] = try Self.publicKeys(folder, peer) }
        self.known = known
        var userIDs: [String: KeyRole] = [:]
        for peer in peers {
            for key in known[peer] ?? [] { userIDs[Self.userID(peer, key)] = peer }
        }
        self.userIDs = userIDs
    }

    /// Whether a daemon of `role` could be meant to take its keys from there.
    static func holds(_ folder: String, _ role: KeyRole) -> Bool {
        access("\(folder)/\(role.rawValue).secret", F_OK) == 0
    }

    /// Those of `role`, the current one first.
    func keys(of role: KeyRole) -> [String] { known[role] ?? [] }

    /// Whose key it is, among `roles`, and the key as text.
    func owner(of key: [UInt8], among roles: [KeyRole]) -> (role: KeyRole, key: String)? {
        for role in roles {
            for known in keys(of: role) where CurveKeyPair.bytes(of: known) == key {
                return (role, known)
            }
        }
        return nil
    }

    /// What libzmq attaches to every message of a connection: who was let in, and by which key.
    static func userID(_ role: KeyRole, _ key: String) -> String { "\(role.rawValue) \(key)" }

    /// The role of whom the authenticator let in under that name, if the key is still valid.
    func role(ofUserID userID: String) -> KeyRole? { userIDs[userID] }

    /// What another reading of the folder has changed, for people.
    func changes(to new: KeyRing) -> [String] {
        var changes = own == new.own ? [] : ["\(role.rawValue).secret is another one"]
        for role in KeyRole.allCases where keys(of: role) != new.keys(of: role) {
            let (old, now) = (Set(keys(of: role)), Set(new.keys(of: role)))
            changes.append(
                "\(role.rawValue).public has \(now.subtracting(old).count) new keys and "
                    + "\(old.subtracting(now).count) fewer")
        }
        return changes
    }

    private static func secret(_ folder: String, _ role: KeyRole) throws(KeyError) -> CurveKeyPair {
        let path = "\(folder)/\(role.rawValue).secret"
        var status = stat()
        guard stat(path, &status) == 0 else { throw missing(path, role) }
        guard status.st_mode & 0o077 == 0 else {
            throw KeyError(
                description: "\(path) can be read by others than its owner: chmod 600 \(path)")
        }
        let lines = try lines(of: path)
        guard lines.count == 1, let pair = CurveKeyPair(secretKey: lines[0]) else {
            throw malformed(path)
        }
        return pair
    }

    private static func publicKeys(
        _ folder: String, _ role: KeyRole
    ) throws(KeyError) -> [String] {
        let path = "\(folder)/\(role.rawValue).public"
        guard access(path, F_OK) == 0 else { throw missing(path, role) }
        let keys = try lines(of: path)
        guard !keys.isEmpty, keys.count <= keysMax,
            keys.allSatisfy({ CurveKeyPair.bytes(of: $0) != nil })
        else { throw malformed(path) }
        return keys
    }

    /// Without empty ones and comments.
    private static func lines(of path: String) throws(KeyError) -> [String] {
        let bytes: [UInt8]
        do throws(FileError) {
            bytes = try FileContents.read(path, bytesMax: fileBytesMax)
        } catch {
            throw KeyError(description: "\(path) \(error)")
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map { line in
            String(line.drop { $0 == " " }.prefix { $0 != " " && $0 != "\r" })
        }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }

    private static func missing(_ path: String, _ role: KeyRole) -> KeyError {
        KeyError(
            description:
                "\(path) is missing: copy it from where `phalanxctl keys` made the keys of "
                + "this deployment")
    }

    private static func malformed(_ path: String) -> KeyError {
        KeyError(
            description: "\(path) does not hold keys of \(CurveKeyPair.characterCount) characters, "
                + "one a line: copy it again")
    }
}
