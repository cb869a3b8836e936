import Testing

@testable import EngineWorker

@Suite struct TickEntryTests {
    static let entry = TickEntry(
        view: 0x0102_0304, tick: 0x0506_0708_090A_0B0C, tokens: 17, prefillTokens: 16,
        kvUsage: 0.5, hasWork: true, failed: false, wishedPrefillTokens: 18, nextDecodes: 19,
        planBytes: 0x0A0B, protocolVersion: 2)

    static func bytes(_ entry: TickEntry) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: TickEntry.byteCount)
        bytes.withUnsafeMutableBytes { entry.encode(into: $0) }
        return bytes
    }

    static func decode(_ bytes: [UInt8]) -> TickEntry? {
        bytes.withUnsafeBytes { TickEntry.decode($0) }
    }

    @Test func theLayoutIsTheDocumentedOne() {
        let head: [UInt8] = [
            0x31, 0x54, 0x58, 0x50, 4, 3, 2, 1, 0x0C, 0x0B, 0x0A, 9, 8, 7, 6, 5,
            17, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0x3F, 1, 0, 0, 0,
            18, 0, 0, 0, 19, 0, 0, 0,
        ]
        let tail: [UInt8] =
            Array(repeating: 0, count: 16) + [0x0B, 0x0A, 0, 0, 2, 0, 0, 0]
        #expect(Self.bytes(Self.entry) == head + tail)
    }

    @Test func versionOneHasNoVersionInItsEntries() {
        var entry = Self.entry
        entry.protocolVersion = 1
        #expect(Self.bytes(entry).suffix(4) == [0, 0, 0, 0])
        #expect(Self.decode(Self.bytes(entry)) == entry)
    }

    @Test(arguments: [false, true], [false, true])
    func everyFlagArrives(hasWork: Bool, failed: Bool) {
        var entry = Self.entry
        entry.hasWork = hasWork
        entry.failed = failed
        entry.tokens = .max
        entry.wishedPrefillTokens = .max
        entry.nextDecodes = .max
        entry.tick = .max
        #expect(Self.decode(Self.bytes(entry)) == entry)
    }

    @Test func otherSizesAndOtherMagicAreNoEntry() {
        let bytes = Self.bytes(Self.entry)
        for count in 0..<bytes.count { #expect(Self.decode(Array(bytes.prefix(count))) == nil) }
        #expect(Self.decode(bytes + [0]) == nil)
        for bit in 0..<32 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(Self.decode(damaged) == nil)
        }
        #expect(Self.decode([UInt8](repeating: 0, count: TickEntry.byteCount)) == nil)
    }

    @Test func anEntryIsReadAtAnyAddress() {
        let bytes = [0] + Self.bytes(Self.entry)
        let decoded = bytes.withUnsafeBytes {
            TickEntry.decode(UnsafeRawBufferPointer(rebasing: $0[1...]))
        }
        #expect(decoded == Self.entry)
    }
}
