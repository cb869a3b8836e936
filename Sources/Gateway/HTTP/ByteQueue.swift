/// Bytes appended at one end and taken from the other. Taken bytes are moved over only when they
/// are more than half of the storage, so that each byte is moved once at most on average.
struct ByteQueue {
    private var storage: [UInt8] = []
    private var start = 0

    var count: Int { storage.count - start }
    var isEmpty: Bool { storage.count == start }

    mutating func append(_ bytes: some Collection<UInt8>) { storage.append(contentsOf: bytes) }
    mutating func append(_ text: StaticString) {
        storage.append(
            contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
    mutating func append(_ text: String) { storage.append(contentsOf: text.utf8) }

    func withSpan<Result>(_ body: (Span<UInt8>) -> Result) -> Result {
        body(storage.span.extracting(start..<storage.count))
    }

    func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        storage.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[start...])) }
    }

    mutating func removeFirst(_ count: Int) {
        precondition(count >= 0 && count <= self.count, "\(count) of \(self.count) bytes")
        start += count
        if start == storage.count {
            removeAll()
        } else if start > storage.count / 2 {
            storage.removeFirst(start)
            start = 0
        }
    }

    mutating func removeAll() {
        storage.removeAll(keepingCapacity: storage.capacity <= HTTPLimits.idleBufferBytesMax)
        start = 0
    }
}
