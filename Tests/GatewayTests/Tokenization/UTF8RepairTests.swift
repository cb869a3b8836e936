import Testing

@testable import Gateway

@Suite struct UTF8RepairTests {
    /// Each is one maximal prefix that breaks off, or one byte that begins nothing.
    @Test(
        arguments: [
            ([0xC0, 0xAF], 2), ([0xE0, 0x80, 0xBF], 3), ([0xED, 0xA0, 0x80], 3),
            ([0xF4, 0x90, 0x80, 0x80], 4), ([0xF5], 1), ([0x80], 1), ([0xE2, 0x82], 1),
            ([0xF0, 0x9F, 0x92], 1), ([0xF0, 0x9F, 0xC3], 2),
            ([0xE1, 0x80, 0xE2, 0xF0, 0x91, 0x92], 3),
        ] as [([UInt8], Int)])
    func brokenSequencesBecomeReplacements(bytes: [UInt8], count: Int) {
        #expect(UTF8Repair.text(bytes) == String(repeating: "\u{FFFD}", count: count))
    }

    @Test func everyScalarPassesUnchanged() {
        for value in stride(from: UInt32(0), to: 0x110000, by: 97) {
            guard let scalar = Unicode.Scalar(value) else { continue }
            let text = String(scalar)
            #expect(UTF8Repair.text(text.utf8) == text)
        }
    }
}
