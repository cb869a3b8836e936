/// numpy's `default_rng(seed)`: PCG XSL RR 128/64 (O'Neill, "PCG", 2014), seeded by numpy's
/// `SeedSequence`. Integers are drawn as numpy draws them (Lemire, "Fast Random Integer Generation
/// in an Interval", 2019), so that one seed gives the prompts that `vllm bench serve` gives.
struct PCG64: Sendable {
    private var state: UInt128
    private let increment: UInt128
    /// The upper half of a draw whose lower half was handed out.
    private var spareHalf: UInt32?

    private static let multiplier: UInt128 =
        UInt128(2_549_297_995_355_413_924) << 64 | UInt128(4_865_540_595_714_422_341)

    /// - Parameter entropy: numbers as in `default_rng([first, second])`; one is `default_rng(it)`.
    init(entropy: [UInt64]) {
        let words = SeedSequence(entropy: entropy).state(count: 8)
        let halves = (0..<4).map { UInt128(words[2 * $0]) | UInt128(words[2 * $0 + 1]) << 32 }
        let start = halves[0] << 64 | halves[1]
        increment = (halves[2] << 64 | halves[3]) << 1 | 1
        // Two steps with the start added between them, from state 0.
        state = (increment &+ start) &* Self.multiplier &+ increment
    }

    init(seed: UInt64) { self.init(entropy: [seed]) }

    mutating func next64() -> UInt64 {
        state = state &* Self.multiplier &+ increment
        let folded = UInt64(truncatingIfNeeded: state >> 64) ^ UInt64(truncatingIfNeeded: state)
        let rotation = UInt64(truncatingIfNeeded: state >> 122)
        return folded >> rotation | folded << ((64 - rotation) & 63)
    }

    mutating func next32() -> UInt32 {
        if let half = spareHalf {
            spareHalf = nil
            return half
        }
        let both = next64()
        spareHalf = UInt32(truncatingIfNeeded: both >> 32)
        return UInt32(truncatingIfNeeded: both)
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    mutating func nextUnit() -> Double { Double(next64() >> 11) * 0x1p-53 }

    /// Uniform in `range`, whose width must fit in 32 bits; one value draws nothing.
    mutating func integer(in range: ClosedRange<Int>) -> Int {
        let width = range.upperBound - range.lowerBound
        precondition(width < Int(UInt32.max), "\(range) is too wide")
        if width == 0 { return range.lowerBound }
        let count = UInt32(width) + 1
        var product = UInt64(next32()) * UInt64(count)
        if UInt32(truncatingIfNeeded: product) < count {
            let threshold = (UInt32.max - UInt32(width)) % count
            while UInt32(truncatingIfNeeded: product) < threshold {
                product = UInt64(next32()) * UInt64(count)
            }
        }
        return range.lowerBound + Int(product >> 32)
    }
}

/// numpy's `SeedSequence` with a pool of four words: spreads a small seed over the whole state.
private struct SeedSequence {
    private var pool: [UInt32] = []
    private var hashConstant: UInt32 = 0x43b0_d7e5

    init(entropy: [UInt64]) {
        var words: [UInt32] = []
        for number in entropy {
            words.append(UInt32(truncatingIfNeeded: number))
            if number >> 32 != 0 { words.append(UInt32(number >> 32)) }
        }
        for index in 0..<4 { pool.append(hashed(index < words.count ? words[index] : 0)) }
        for source in 0..<4 {
            for target in 0..<4 where source != target {
                pool[target] = Self.mixed(pool[target], hashed(pool[source]))
            }
        }
        for word in words.dropFirst(4) {
            for target in 0..<4 { pool[target] = Self.mixed(pool[target], hashed(word)) }
        }
    }

    private mutating func hashed(_ word: UInt32) -> UInt32 {
        var word = word ^ hashConstant
        hashConstant = hashConstant &* 0x931e_8875
        word = word &* hashConstant
        return word ^ word >> 16
    }

    private static func mixed(_ left: UInt32, _ right: UInt32) -> UInt32 {
        let word = left &* 0xca01_f9dd &- right &* 0x4973_f715
        return word ^ word >> 16
    }

    func state(count: Int) -> [UInt32] {
        var constant: UInt32 = 0x8b51_f9dd
        return (0..<count).map { index in
            var word = pool[index % pool.count] ^ constant
            constant = constant &* 0x58f3_8ded
            word = word &* constant
            return word ^ word >> 16
        }
    }
}
