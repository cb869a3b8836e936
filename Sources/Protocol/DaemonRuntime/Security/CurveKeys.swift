internal import CZeroMQ
internal import Glibc

/// Who a link's key stands for.
public enum KeyRole: String, CaseIterable, Hashable, Sendable {
    case coordinator
    case worker
    case gateway
    case `operator`

    /// First byte of the identities under which this role connects; nil: it never does.
    var identityByte: UInt8? {
        switch self {
        case .coordinator: nil
        case .worker: 1
        case .gateway: 2
        case .operator: 3
        }
    }
}

/// A key pair of CurveZMQ (elliptic curve 25519), as 40 characters of Z85 each.
public struct CurveKeyPair: Hashable, Sendable {
    public static let characterCount = 40

    public let publicKey: String
    public let secretKey: String

    public static func generate() -> CurveKeyPair {
        var (publicKey, secretKey) = (
            [CChar](repeating: 0, count: characterCount + 1),
            [CChar](repeating: 0, count: characterCount + 1)
        )
        let result = zmq_curve_keypair(&publicKey, &secretKey)
        precondition(result == 0, "zmq_curve_keypair: \(TransportError.last("zmq_curve_keypair"))")
        return CurveKeyPair(publicKey: text(publicKey), secretKey: text(secretKey))
    }

    /// The pair of a secret key; nil for what is none.
    init?(secretKey: String) {
        var publicKey = [CChar](repeating: 0, count: Self.characterCount + 1)
        guard Self.bytes(of: secretKey) != nil, zmq_curve_public(&publicKey, secretKey) == 0 else {
            return nil
        }
        self.init(publicKey: Self.text(publicKey), secretKey: secretKey)
    }

    private init(publicKey: String, secretKey: String) {
        self.publicKey = publicKey
        self.secretKey = secretKey
    }

    /// The 32 bytes that a key's text stands for; nil for what is none.
    static func bytes(of key: String) -> [UInt8]? {
        guard key.utf8.count == characterCount else { return nil }
        var bytes = [UInt8](repeating: 0, count: 32)
        return zmq_z85_decode(&bytes, key) == nil ? nil : bytes
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
