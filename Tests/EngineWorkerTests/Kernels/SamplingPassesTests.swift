import CKernels
import Foundation
import Testing

/// Every pass at every level against the plainest form of it, over sizes around the lanes' and the
/// blocks', between guards; and every level against the portable one, bit by bit.
@Suite struct SamplingPassesTests {
    static let sizes = [1, 2, 15, 16, 17, 31, 33, 255, 256, 257, 511, 700, 1024, 4099]
    static let levels = [CK_PORTABLE, CK_AVX2, CK_AVX512].map { Int32($0) }
        .filter { ck_sampling_select($0) != nil }

    /// Plain noise, coarse noise with ties, -infinity everywhere but once, and mixed.
    static func rows(_ count: Int, _ random: inout KernelRandom) -> [[Float]] {
        let noise = random.floats(count, scale: 30)
        var lonely = [Float](repeating: -.infinity, count: count)
        lonely[Int.random(in: 0..<count, using: &random)] = 3
        let mixed = noise.map { $0 < -10 ? -.infinity : $0 }
        return [noise, noise.map { ($0 / 4).rounded() }, lonely, mixed]
    }

    static func maxima(_ row: [Float]) -> [Float] {
        stride(from: 0, to: row.count, by: Int(CK_SAMPLING_BLOCK)).map { start in
            row[start..<min(start + Int(CK_SAMPLING_BLOCK), row.count)].max() ?? 0
        }
    }

    /// A level without passes of its own must get those of the level below, not the plain ones.
    @Test func theBestLevelHasTheBestPasses() {
        let best = ck_kernels_best()
        guard best > CK_AVX512 else { return }
        #expect(ck_sampling_select(best) == ck_sampling_select(Int32(CK_AVX512)))
    }

    @Test(arguments: levels)
    func scanFindsMaximaAndTheFirstThatIsNotFinite(level: Int32) throws {
        let passes = try #require(ck_sampling_select(level)).pointee
        var random = KernelRandom(seed: 11)
        for count in Self.sizes {
            for row in Self.rows(count, &random) {
                let values = guarded(row)
                let blocks = guarded([Float](repeating: 0, count: Self.maxima(row).count))
                #expect(passes.scan(blocks.pointer, values.pointer, count) == count)
                #expect(blocks.values == Self.maxima(row) && blocks.isIntact, "\(count)")
                for bad in [Float.nan, .infinity] {
                    let place = Int.random(in: 0..<count, using: &random)
                    values.pointer[place] = bad
                    values.pointer[count - 1] = bad
                    let found = passes.scan(blocks.pointer, values.pointer, count)
                    #expect(found == place, "\(count) \(bad)")
                    (values.pointer + place).update(from: Array(row[place...]), count: 1)
                    (values.pointer + count - 1).update(from: [row[count - 1]], count: 1)
                }
            }
        }
    }

    @Test(arguments: levels)
    func sumsAreThoseOfTheCLibraryAndOfEveryLevel(level: Int32) throws {
        let passes = try #require(ck_sampling_select(level)).pointee
        let portable = try #require(ck_sampling_select(Int32(CK_PORTABLE))).pointee
        var random = KernelRandom(seed: 12)
        for count in Self.sizes {
            for row in Self.rows(count, &random) {
                let values = guarded(row)
                let largest = try #require(row.max())
                let maxima = Self.maxima(row)
                let expected = row.reduce(0) { $0 + exp(Double($1) - Double(largest)) }
                let sum = passes.sum(values.pointer, count, largest)
                #expect(abs(sum / expected - 1) < 2e-7, "\(count)")
                #expect(sum == portable.sum(values.pointer, count, largest))

                let factor = Float.random(in: 0.2...2, using: &random)
                var thresholds = random.floats(8, scale: 30).sorted(by: >)
                thresholds[0] = .infinity
                thresholds[7] = -.greatestFiniteMagnitude
                let masses = Guarded([Double](repeating: 0, count: 8), filler: .nan)
                passes.masses(
                    masses.pointer, values.pointer, maxima, count, largest, factor, thresholds)
                for (mass, threshold) in zip(masses.values, thresholds) {
                    let expected = row.filter { $0 >= threshold }.reduce(0) {
                        $0 + exp((Double($1) - Double(largest)) * Double(factor))
                    }
                    // A weight at depth d has the error of d's rounding on top of its own; what is
                    // below e^-87 counts as 0.
                    #expect(abs(mass - expected) <= 8e-6 * expected + 1e-33, "\(count)")
                }
                var others = [Double](repeating: 0, count: 8)
                portable.masses(
                    &others, values.pointer, maxima, count, largest, factor, thresholds)
                #expect(masses.values == others && masses.isIntact)
            }
        }
    }

    @Test(arguments: levels)
    func listsAndCountsAreThoseOfAFilter(level: Int32) throws {
        let passes = try #require(ck_sampling_select(level)).pointee
        var random = KernelRandom(seed: 13)
        for count in Self.sizes {
            for row in Self.rows(count, &random) {
                let values = guarded(row)
                let maxima = Self.maxima(row)
                let some = try #require(row.randomElement(using: &random))
                for low in [some, -Float.infinity, -3, 40] {
                    #expect(
                        passes.count_above(values.pointer, maxima, count, low)
                            == row.count { $0 > low })
                    for high in [Float.infinity, some, low.nextUp, 5] {
                        let ids = Guarded([Int32](repeating: -1, count: count), filler: 77)
                        let found = passes.gather(
                            ids.pointer, values.pointer, maxima, count, low, high)
                        let expected = row.indices.filter { row[$0] >= low && row[$0] < high }
                        #expect(ids.values.prefix(found).map { Int($0) } == expected)
                        #expect(ids.isIntact)
                    }
                }
            }
        }
    }

    @Test(arguments: levels)
    func drawsAreThoseOfSplitMix64(level: Int32) throws {
        let passes = try #require(ck_sampling_select(level)).pointee
        var random = KernelRandom(seed: 14)
        for count in Self.sizes {
            let start = random.next()
            let first = Int32.random(in: 0...100_000, using: &random)
            var stream = KernelRandom(seed: start &+ UInt64(first) &* 0x9e37_79b9_7f4a_7c15)
            let outputs = (0..<count).map { _ in stream.next() }
            for least in [0, .max, 1 << 63, ~0 << 58, outputs[count / 2]] as [UInt64] {
                let ids = Guarded([Int32](repeating: -1, count: count), filler: 77)
                let found = passes.draws(ids.pointer, start, least, first, count)
                let expected = outputs.indices.filter { outputs[$0] >= least }
                #expect(ids.values.prefix(found).map { Int($0 - first) } == expected, "\(count)")
                #expect(ids.isIntact)
            }
        }
    }
}
