internal import Glibc

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a random source that a printed seed repeats.
///
/// `PHALANX_TEST_SEED=<number> swift test --filter <test>` replays the run that printed it.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    public let seed: UInt64
    private var state: UInt64

    public init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// A new seed each run unless the environment gives one; printed, so that a failure can be
    /// repeated.
    public static func printingSeed(of test: String) -> SeededGenerator {
        let given = getenv("PHALANX_TEST_SEED").flatMap { UInt64(String(cString: $0)) }
        let seed = given ?? UInt64.random(in: 0...UInt64(UInt32.max))
        print("\(test): PHALANX_TEST_SEED=\(seed)")
        return SeededGenerator(seed: seed)
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    public mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}
