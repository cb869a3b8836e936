import Protocol
import Testing

@testable import EngineWorker

@Suite struct WaitForecastTests {
    private let longest = Interval(nanoseconds: 50_000)

    private func wait(
        _ forecast: inout WaitForecast, _ kind: WaitForecast.Kind, microseconds: Int64,
        times: Int
    ) {
        for _ in 0..<times {
            forecast.onWaited(Interval(nanoseconds: microseconds * 1000), kind, longest: longest)
        }
    }

    @Test func shortWaitsAreSpunForAndLongOnesSleptThrough() {
        var forecast = WaitForecast()
        #expect(forecast.spin(.dispatch, longest: longest) == longest)
        wait(&forecast, .dispatch, microseconds: 30, times: 100)
        #expect(forecast.spin(.dispatch, longest: longest) == longest)
        wait(&forecast, .dispatch, microseconds: 400, times: 4)
        #expect(forecast.spin(.dispatch, longest: longest) == .zero)
        #expect(forecast.spin(.combine, longest: longest) == longest)
        wait(&forecast, .dispatch, microseconds: 10, times: 20)
        #expect(forecast.spin(.dispatch, longest: longest) == longest)
    }

    @Test func onePauseOfAPeerChangesNothing() {
        var forecast = WaitForecast()
        wait(&forecast, .tickExchange, microseconds: 3, times: 50)
        wait(&forecast, .tickExchange, microseconds: 1_000_000, times: 1)
        #expect(forecast.spin(.tickExchange, longest: longest) == longest)
    }

    @Test func whoMayNotSpinNeverDoes() {
        var forecast = WaitForecast()
        #expect(forecast.spin(.combine, longest: .zero) == .zero)
        forecast.onWaited(.milliseconds(1), .combine, longest: .zero)
        #expect(forecast.spin(.combine, longest: .zero) == .zero)
    }
}
