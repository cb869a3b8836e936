/// A seeded generator for randomised tests (xorshift64*), apart from the code under test.
struct TestRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x2545_F491_4F6C_DD1D | 1 }

    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_F491_4F6C_DD1D
    }

    mutating func next(in range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(next() >> 33) % range.count
    }

    /// In [-bound, bound).
    mutating func float(bound: Float) -> Float {
        (Float(next() >> 40) / Float(1 << 24) * 2 - 1) * bound
    }

    mutating func chance(_ numerator: Int, of denominator: Int) -> Bool {
        next(in: 1...denominator) <= numerator
    }
}
