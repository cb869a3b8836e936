/// What stands before every message between two workers, 32 bytes, little-endian:
/// magic (4), view (4), tick (8), operation (4), sending rank (4), bytes that follow (8).
///
/// A header is outside input: parsing it never traps, and nothing is allocated for a message
/// before its header was accepted.
struct MessageHeader: Hashable {
    static let byteCount = 32
    static let magic: UInt32 = 0x5048_584D

    var tag: OperationTag
    var rank: UInt32
    var payloadByteCount: UInt64

    init(tag: OperationTag, rank: Int, payloadByteCount: Int) {
        self.tag = tag
        self.rank = UInt32(rank)
        self.payloadByteCount = UInt64(payloadByteCount)
    }

    /// `nil` when the magic is wrong: these bytes do not come from a worker.
    init?(reading bytes: UnsafeRawPointer) {
        guard Self.load(UInt32.self, bytes, 0) == Self.magic else { return nil }
        tag = OperationTag(
            view: Self.load(UInt32.self, bytes, 4),
            tick: Self.load(UInt64.self, bytes, 8),
            operation: Self.load(UInt32.self, bytes, 16)
        )
        rank = Self.load(UInt32.self, bytes, 20)
        payloadByteCount = Self.load(UInt64.self, bytes, 24)
    }

    func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: Self.magic.littleEndian, toByteOffset: 0, as: UInt32.self)
        bytes.storeBytes(of: tag.view.littleEndian, toByteOffset: 4, as: UInt32.self)
        bytes.storeBytes(of: tag.tick.littleEndian, toByteOffset: 8, as: UInt64.self)
        bytes.storeBytes(of: tag.operation.littleEndian, toByteOffset: 16, as: UInt32.self)
        bytes.storeBytes(of: rank.littleEndian, toByteOffset: 20, as: UInt32.self)
        bytes.storeBytes(of: payloadByteCount.littleEndian, toByteOffset: 24, as: UInt64.self)
    }

    private static func load<Value: FixedWidthInteger>(
        _ type: Value.Type, _ bytes: UnsafeRawPointer, _ offset: Int
    ) -> Value {
        Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: type))
    }
}
