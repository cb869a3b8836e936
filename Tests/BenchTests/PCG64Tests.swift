import Testing

@testable import Bench

/// The expected numbers were printed by numpy 2.4 (`default_rng(seed)`).
@Suite struct PCG64Tests {
    @Test func itIsTheStreamOfNumpy() {
        var random = PCG64(seed: 0)
        let expected: [UInt64] = [
            0xa30f_ebcf_d9c2_825f, 0x4510_bdf8_82d9_d721, 0x0a7d_3da9_4ecd_e8b8,
            0x043b_27b6_1342_f01d,
        ]
        #expect(expected.map { _ in random.next64() } == expected)
    }

    @Test func integersAreThoseOfNumpyAcrossCalls() {
        var random = PCG64(seed: 0)
        #expect((0..<5).map { _ in random.integer(in: 0...9) } == [8, 6, 5, 2, 3])
        let lengths = (0..<5).map { _ in random.integer(in: 1000...1048) }
        #expect(lengths == [1002, 1003, 1000, 1008, 1039])
        let offsets = (0..<3).map { _ in random.integer(in: 0...127_999) }
        #expect(offsets == [83125, 116832, 64464])
        let units = [0.7294965609839984, 0.5436249914654229]
        #expect(units.map { _ in random.nextUnit() } == units)
    }

    @Test func aSeedOfTwoWordsIsThatOfNumpyAndOneValueDrawsNothing() {
        var random = PCG64(seed: 12_345_678_901)
        #expect((0..<3).map { _ in random.integer(in: 7...7) } == [7, 7, 7])
        let offsets = (0..<7).map { _ in random.integer(in: 0...129_279) }
        #expect(offsets == [11368, 108095, 95464, 40943, 10316, 8385, 110571])
    }
}
