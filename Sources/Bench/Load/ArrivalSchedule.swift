internal import Glibc

/// When each request is due, in seconds after the start.
///
/// Gaps follow a gamma distribution of shape `burstiness` and mean 1/rate: 1 is a Poisson process,
/// less is burstier, infinity is a constant gap. The times are then stretched so that the last one
/// is count/rate: a short run has exactly the rate that was asked for.
struct ArrivalSchedule: Hashable, Sendable {
    let seconds: [Double]

    /// - Parameter rate: requests a second; infinity puts all at 0.
    init(count: Int, rate: Double, burstiness: Double, seed: UInt64) {
        precondition(rate > 0 && burstiness > 0, "rate \(rate), burstiness \(burstiness)")
        guard rate.isFinite else {
            seconds = Array(repeating: 0, count: count)
            return
        }
        // A stream of its own, so that the arrivals do not change with the lengths.
        var random = GammaSource(random: PCG64(entropy: [seed, 1]), shape: burstiness)
        var times: [Double] = []
        times.reserveCapacity(count)
        var time = 0.0
        for _ in 0..<count {
            time += random.next()
            times.append(time)
        }
        let last = times.last ?? 0
        let stretch = last > 0 ? Double(count) / rate / last : 0
        seconds = times.map { $0 * stretch }
    }
}

/// Gamma-distributed numbers of scale 1 (Marsaglia and Tsang, "A Simple Method for Generating Gamma
/// Variables", 2000). An infinite shape gives 1, the limit once the mean is scaled away.
struct GammaSource: Sendable {
    var random: PCG64
    let shape: Double

    mutating func next() -> Double {
        if shape == .infinity { return 1 }
        if shape == 1 { return -log(1 - random.nextUnit()) }
        if shape > 1 { return squeezed(shape) }
        // A larger shape, brought down by a power of a uniform number (their section 6).
        return squeezed(shape + 1) * pow(1 - random.nextUnit(), 1 / shape)
    }

    private mutating func squeezed(_ shape: Double) -> Double {
        let d = shape - 1.0 / 3
        let c = 1 / sqrt(9 * d)
        while true {
            let x = normal()
            let v = pow(1 + c * x, 3)
            if v <= 0 { continue }
            if log(1 - random.nextUnit()) < 0.5 * x * x + d - d * v + d * log(v) { return d * v }
        }
    }

    /// Box and Muller's method; the second number of the pair is not used.
    private mutating func normal() -> Double {
        let radius = sqrt(-2 * log(1 - random.nextUnit()))
        return radius * cos(2 * Double.pi * random.nextUnit())
    }
}
