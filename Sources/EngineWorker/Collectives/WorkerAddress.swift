/// Where another process finds this worker's shared memory.
struct SharedMemoryAddress: Hashable {
    var pid: Int32
    var fd: Int32
    var byteCount: UInt64
    var key: UInt64
    var incarnation: UInt64
}

/// What a worker publishes so that its peers can reach it: one blob for all transports.
///
/// Layout, little-endian: magic (4), version (2), requested kind (1), zero (1), host identity (32),
/// pid (4), fd (4), bytes (8), key (8), incarnation (8), length of the UCX address (4), that
/// address, FNV-1a of everything before (8). The shared memory part is zero when there is none.
///
/// It is outside input: parsing checks every length and the sum, and never traps. The sum is no
/// protection against malice; who may publish addresses is the control plane's affair. It keeps
/// damaged bytes from UCX, whose own unpacking trusts what it is given.
struct WorkerAddress: Hashable {
    static let ucxBytesMax = 32 * 1024
    private static let magic: UInt32 = 0x4150_4C58
    private static let version: UInt16 = 1
    private static let fixedByteCount = 76
    private static let sumByteCount = 8

    var requestedKind: CollectivesKind
    var host: HostIdentity
    var sharedMemory: SharedMemoryAddress?
    var ucx: [UInt8]

    init(
        requestedKind: CollectivesKind, host: HostIdentity, sharedMemory: SharedMemoryAddress?,
        ucx: [UInt8]
    ) {
        precondition(ucx.count <= Self.ucxBytesMax, "UCX address of \(ucx.count) bytes")
        self.requestedKind = requestedKind
        self.host = host
        self.sharedMemory = sharedMemory
        self.ucx = ucx
    }

    /// The address of `peer`, which is named in errors.
    init(parsing blob: [UInt8], peer: Int) throws(CollectiveError) {
        let place = "address of rank \(peer)"
        guard blob.count >= Self.fixedByteCount + Self.sumByteCount,
            blob.count <= Self.fixedByteCount + Self.ucxBytesMax + Self.sumByteCount
        else { throw .setup(reason: "\(place): \(blob.count) bytes is no length of an address") }
        guard Self.load(UInt32.self, blob, 0) == Self.magic else {
            throw .setup(reason: "\(place): wrong magic")
        }
        let version = Self.load(UInt16.self, blob, 4)
        guard version == Self.version else {
            throw .setup(
                reason: "\(place): version \(version), this worker speaks \(Self.version); "
                    + "run the same release everywhere")
        }
        let sumOffset = blob.count - Self.sumByteCount
        guard Self.load(UInt64.self, blob, sumOffset) == Digest.of(blob[..<sumOffset]) else {
            throw .setup(reason: "\(place): the bytes are damaged")
        }
        let ucxCount = Int(Self.load(UInt32.self, blob, 72))
        guard ucxCount == sumOffset - Self.fixedByteCount, blob[7] == 0,
            let kind = CollectivesKind(rawValue: blob[6])
        else { throw .setup(reason: "\(place): fields that make no sense") }
        requestedKind = kind
        host = HostIdentity(bytes: Array(blob[8..<40]))
        let memory = SharedMemoryAddress(
            pid: Self.load(Int32.self, blob, 40), fd: Self.load(Int32.self, blob, 44),
            byteCount: Self.load(UInt64.self, blob, 48), key: Self.load(UInt64.self, blob, 56),
            incarnation: Self.load(UInt64.self, blob, 64))
        sharedMemory = memory.key == 0 ? nil : memory
        ucx = Array(blob[Self.fixedByteCount..<sumOffset])
    }

    var blob: [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.fixedByteCount + ucx.count + Self.sumByteCount)
        Self.append(Self.magic, to: &bytes)
        Self.append(Self.version, to: &bytes)
        bytes.append(requestedKind.rawValue)
        bytes.append(0)
        bytes += host.bytes
        let memory =
            sharedMemory
            ?? SharedMemoryAddress(pid: 0, fd: 0, byteCount: 0, key: 0, incarnation: 0)
        Self.append(memory.pid, to: &bytes)
        Self.append(memory.fd, to: &bytes)
        Self.append(memory.byteCount, to: &bytes)
        Self.append(memory.key, to: &bytes)
        Self.append(memory.incarnation, to: &bytes)
        Self.append(UInt32(ucx.count), to: &bytes)
        bytes += ucx
        Self.append(Digest.of(bytes[...]), to: &bytes)
        return bytes
    }

    private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        for shift in stride(from: 0, to: value.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    private static func load<Value: FixedWidthInteger>(
        _ type: Value.Type, _ bytes: [UInt8], _ offset: Int
    ) -> Value {
        var value: Value = 0
        for index in 0..<(Value.bitWidth / 8) {
            value |= Value(truncatingIfNeeded: bytes[offset + index]) << (8 * index)
        }
        return value
    }
}

/// FNV-1a of 64 bits (Fowler, Noll, Vo), for sums over small inputs.
enum Digest {
    static let start: UInt64 = 0xCBF2_9CE4_8422_2325

    static func of(_ bytes: ArraySlice<UInt8>, after previous: UInt64 = start) -> UInt64 {
        var sum = previous
        for byte in bytes { sum = (sum ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return sum
    }
}
