internal import Glibc

/// Makes and renews the keys of a deployment in a folder; see ``KeyRing`` for its layout.
public struct KeyFolder: Sendable {
    public let path: String

    public init(_ path: String) { self.path = path }

    private func file(_ role: KeyRole, _ kind: String) -> String {
        "\(path)/\(role.rawValue).\(kind)"
    }

    /// A pair for every role. Nothing that is there is overwritten: then nothing is made at all.
    public func create() throws(KeyError) {
        if mkdir(path, 0o700) != 0 && errno != EEXIST { throw Self.last(path) }
        for role in KeyRole.allCases {
            for kind in ["secret", "public"] where access(file(role, kind), F_OK) == 0 {
                throw KeyError(
                    description:
                        "\(file(role, kind)) is there already; keys in use are renewed with "
                        + "--rotate ROLE, or choose an empty folder")
            }
        }
        for role in KeyRole.allCases {
            let pair = CurveKeyPair.generate()
            try Self.write(pair.secretKey + "\n", to: file(role, "secret"), mode: 0o600)
            try Self.write(pair.publicKey + "\n", to: file(role, "public"), mode: 0o644)
        }
    }

    /// A new pair for one role. Its old public keys stay accepted, behind the new one.
    public func rotate(_ role: KeyRole) throws(KeyError) {
        let known = try KeyRing(folder: path, role: role, peers: [role]).keys(of: role)
        guard known.count < KeyRing.keysMax else {
            throw KeyError(
                description: "\(file(role, "public")) has \(known.count) keys: delete old ones")
        }
        let pair = CurveKeyPair.generate()
        // Public first: a crash in between leaves a key too many, not a secret that nobody knows.
        let keys = ([pair.publicKey] + known).map { $0 + "\n" }.joined()
        try replace(file(role, "public"), with: keys, mode: 0o644)
        try replace(file(role, "secret"), with: pair.secretKey + "\n", mode: 0o600)
    }

    private func replace(_ path: String, with text: String, mode: mode_t) throws(KeyError) {
        let temporary = path + ".new"
        unlink(temporary)
        try Self.write(text, to: temporary, mode: mode)
        if rename(temporary, path) != 0 { throw Self.last(path) }
    }

    private static func write(_ text: String, to path: String, mode: mode_t) throws(KeyError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw last(path) }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        // A few dozen bytes: the kernel takes them at once, or the disk is full.
        let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        guard count == bytes.count, fchmod(descriptor, mode) == 0, fsync(descriptor) == 0 else {
            let error = last(path)
            unlink(path)
            throw error
        }
    }

    private static func last(_ path: String) -> KeyError {
        KeyError(description: "\(path): \(String(cString: strerror(errno)))")
    }
}
