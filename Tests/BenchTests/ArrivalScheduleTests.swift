import Testing

@testable import Bench

@Suite struct ArrivalScheduleTests {
    @Test func anInfiniteRateIsAllAtOnce() {
        let schedule = ArrivalSchedule(count: 4, rate: .infinity, burstiness: 1, seed: 0)
        #expect(schedule.seconds == [0, 0, 0, 0])
    }

    @Test(arguments: [0.3, 1, 4, Double.infinity])
    func theLastArrivalIsCountOverRate(burstiness: Double) {
        for seed in 0..<20 as Range<UInt64> {
            let times = ArrivalSchedule(
                count: 50, rate: 8, burstiness: burstiness, seed: seed
            ).seconds
            #expect(times.count == 50)
            #expect(abs((times.last ?? 0) - 50.0 / 8) < 1e-9)
            #expect(zip(times, times.dropFirst()).allSatisfy { $0 <= $1 })
            #expect(times[0] >= 0)
        }
    }

    @Test func infiniteBurstinessIsAConstantGap() {
        let times = ArrivalSchedule(count: 4, rate: 2, burstiness: .infinity, seed: 9).seconds
        #expect(times == [0.5, 1, 1.5, 2])
    }

    @Test func theSeedDecides() {
        let times = { ArrivalSchedule(count: 9, rate: 2, burstiness: 1, seed: $0).seconds }
        #expect(times(1) == times(1))
        #expect(times(1) != times(2))
    }

    /// A gamma distribution of shape k and scale 1 has mean k and variance k. Over 100000 numbers
    /// the mean's deviation is sqrt(k / 1e5) and the variance's below sqrt((2k² + 6k) / 1e5); five
    /// of them are allowed, and the seed is fixed.
    @Test(arguments: [0.2, 0.5, 1, 2, 7.5])
    func meanAndVarianceAreThoseOfTheShape(shape: Double) {
        var source = GammaSource(random: PCG64(seed: 3), shape: shape)
        let count = 100_000
        var sum = 0.0
        var squares = 0.0
        for _ in 0..<count {
            let value = source.next()
            sum += value
            squares += value * value
        }
        let mean = sum / Double(count)
        let variance = squares / Double(count) - mean * mean
        let meanError = 5 * (shape / Double(count)).squareRoot()
        let varianceError = 5 * ((2 * shape * shape + 6 * shape) / Double(count)).squareRoot()
        #expect(abs(mean - shape) < meanError)
        #expect(abs(variance - shape) < varianceError)
    }
}
