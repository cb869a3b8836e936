/// Exponential and logarithm from IEEE 754 basic operations alone.
///
/// The C library's differ between versions in the last bit, and a bit can decide which token is
/// chosen; these give the same bits on every host, so that a stream resumed on another host does
/// not branch. (Swift never contracts a multiply and an add into one operation.)
enum ElementaryFunctions {
    /// Below it, `exponential` is 0: the result would not be a normal number.
    static let exponentialArgumentMin = -708.0

    /// e to the `x`, for x <= 0; 0 below ``exponentialArgumentMin``.
    ///
    /// Relative error below 4e-16. `x` is n ln 2 + r with |r| <= ln 2 / 2; the Taylor series of
    /// e^r to r^13 is exact to 2^-56.
    @inline(__always)
    static func exponential(_ x: Double) -> Double {
        let clamped = x >= exponentialArgumentMin ? x : exponentialArgumentMin
        // Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits.
        let shifted = clamped * 1.442_695_040_888_963_4 + 0x1.8p52
        let n = shifted - 0x1.8p52
        // ln 2 in two parts: n times the first is exact.
        let r = (clamped - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33
        var sum = 1.0 / 6_227_020_800
        sum = sum * r + 1.0 / 479_001_600
        sum = sum * r + 1.0 / 39_916_800
        sum = sum * r + 1.0 / 3_628_800
        sum = sum * r + 1.0 / 362_880
        sum = sum * r + 1.0 / 40_320
        sum = sum * r + 1.0 / 5_040
        sum = sum * r + 1.0 / 720
        sum = sum * r + 1.0 / 120
        sum = sum * r + 1.0 / 24
        sum = sum * r + 1.0 / 6
        sum = sum * r + 0.5
        sum = sum * r + 1
        sum = sum * r + 1
        let exponent = (shifted.bitPattern &+ 1023) << 52
        let result = sum * Double(bitPattern: exponent)
        return x >= exponentialArgumentMin ? result : 0
    }

    /// Natural logarithm of a positive, normal `x`; absolute error below 4e-16 near 1, relative
    /// error below 4e-16 elsewhere.
    ///
    /// x is m * 2^n with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m - 1) / (m + 1)), whose
    /// series in s^2 <= 0.0295 is summed to s^21.
    @inline(__always)
    static func logarithm(_ x: Double) -> Double {
        var n = Int64(x.bitPattern >> 52) &- 1023
        var m = Double(bitPattern: (x.bitPattern & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000)
        if m > 1.414_213_562_373_095_1 {
            m *= 0.5
            n &+= 1
        }
        let s = (m - 1) / (m + 1)
        let square = s * s
        var sum = 1.0 / 21
        sum = sum * square + 1.0 / 19
        sum = sum * square + 1.0 / 17
        sum = sum * square + 1.0 / 15
        sum = sum * square + 1.0 / 13
        sum = sum * square + 1.0 / 11
        sum = sum * square + 1.0 / 9
        sum = sum * square + 1.0 / 7
        sum = sum * square + 1.0 / 5
        sum = sum * square + 1.0 / 3
        let tail = 2 * s * square * sum
        return Double(n) * 0x1.62e42feep-1 + (2 * s + (tail + Double(n) * 0x1.a39ef35793c76p-33))
    }
}
