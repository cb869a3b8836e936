/// What one request may cost before it is refused. Read by ``HTTPParser`` and nothing else.
public struct HTTPMessageLimits: Hashable, Sendable {
    /// Longer targets are refused with 414.
    public var targetBytesMax = 8 << 10
    /// Of one header or trailer field, its line end not counted. Longer ones are refused with 431.
    public var headerLineBytesMax = 16 << 10
    /// Of all header and trailer fields of a request. More are refused with 431.
    public var headerBytesMax = 64 << 10
    /// Header and trailer fields of a request. More are refused with 431.
    public var headerFieldsMax = 100
    /// Of the decoded body. Longer ones are refused with 413.
    public var bodyBytesMax = 16 << 20

    /// No registered method is longer.
    static let methodBytesMax = 32
    /// The size in hexadecimal, and the extension if there is one.
    static let chunkLineBytesMax = 256
    /// More digits are refused, leading zeros too: the size must fit `Int`.
    static let chunkSizeDigitsMax = 15
    /// Of all chunk extensions of a body. They carry nothing that is read, so that a client that
    /// sends many only costs time (Go's CVE-2023-39326).
    static let chunkExtensionBytesMax = 16 << 10
    /// A body's storage grows as its bytes arrive, not as its Content-Length promises.
    static let bodyReservedBytesMax = 64 << 10

    public init() {}
}
