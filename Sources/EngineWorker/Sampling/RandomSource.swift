/// The sampler's randomness: a pure function of (seed, position, token id), with no state.
///
/// So a token comes out the same alone or in any batch, on any rank, and after a preemption or a
/// resubmission. It must never be replaced by a stream that advances.
///
/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), used as a counter-based generator: output n of
/// the stream that starts at s is `mix(s + (n + 1) * gamma)`. Output `position` of the stream that
/// starts at the request's seed is the start of the position's own stream, whose output `tokenID`
/// is the token's.
///
/// Part of the deployment's contract: ranks that differ here give different streams, so the
/// constants never change.
struct RandomSource: Sendable {
    let start: UInt64

    init(seed: UInt64, position: Int) {
        start = Self.output(start: seed, index: UInt64(truncatingIfNeeded: position))
    }

    /// Uniform over the 2^52 midpoints of (0, 1); never 0 or 1.
    @inline(__always)
    func uniform(tokenID: Int32) -> Double {
        let bits = Self.output(start: start, index: UInt64(truncatingIfNeeded: tokenID))
        return (Double(bits >> 12) + 0.5) * 0x1p-52
    }

    @inline(__always)
    static func output(start: UInt64, index: UInt64) -> UInt64 {
        var bits = start &+ (index &+ 1) &* 0x9E37_79B9_7F4A_7C15
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return bits ^ (bits >> 31)
    }
}
