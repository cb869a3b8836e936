import Testing

@testable import Bench

@Suite struct StatisticsTests {
    static let values = [0.3, 1.1, 2.5, 0.7, 9.0, 4.2]

    /// By hand, sorted 0.3 0.7 1.1 2.5 4.2 9.0: position 5p/100, e.g. P90 at 4.5 is between 4.2
    /// and 9.0. numpy gives the same.
    @Test(arguments: [
        (0, 0.3), (10, 0.5), (25, 0.8), (50, 1.8), (75, 3.775), (90, 6.6), (99, 8.76),
        (99.9, 8.976), (100, 9.0),
    ])
    func percentilesAreInterpolatedBetweenRanks(percent: Double, expected: Double) {
        #expect(abs(Statistics(Self.values).percentile(percent) - expected) < 1e-12)
    }

    @Test func meanMedianAndDeviationAreOfThePopulation() {
        let statistics = Statistics(Self.values)
        #expect(abs(statistics.mean - 17.8 / 6) < 1e-12)
        #expect(abs(statistics.median - 1.8) < 1e-12)
        #expect(abs(statistics.deviation - 2.996479415729213) < 1e-12)
        #expect(Statistics([3, 1, 2]).median == 2)
    }

    @Test func oneValueIsEverythingAndNoneIsZero() {
        let one = Statistics([4])
        #expect([one.mean, one.median, one.percentile(1), one.percentile(99)] == [4, 4, 4, 4])
        #expect(one.deviation == 0)
        let none = Statistics([])
        #expect([none.mean, none.median, none.deviation, none.percentile(99)] == [0, 0, 0, 0])
    }

    @Test(arguments: [
        (1_234_567.891, "1234567.89"), (0.005, "0.01"), (0, "0.00"), (2.675, "2.67"),
        (1e22, "10000000000000000000000.00"),
    ])
    func decimalsAreThoseOfC(value: Double, text: String) {
        #expect(fixed(value, decimals: 2) == text)
    }
}
