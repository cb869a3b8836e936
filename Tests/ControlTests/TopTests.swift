import Protocol
import Testing

@testable import Control

@Suite struct TopTests {
    private let start = Instant(nanoseconds: 1_000_000_000_000)

    private func load(tick: UInt64, tokens: UInt64 = 0) -> RankLoad {
        var load = RankLoad()
        load.tick = tick
        load.generationTokens = tokens
        return load
    }

    @Test func ratesAreOverTheTimeBetweenHeartbeats() throws {
        var state = TopState()
        var report = ReportFixture.active()
        report.peers[0].load = load(tick: 100, tokens: 1000)
        report.peers[0].silence = .milliseconds(900)
        _ = state.onReport(report, at: start)
        #expect(state.rates(of: 0) == nil)
        // The heartbeat came 1.5 s after the one before, whenever one asked.
        report.peers[0].load = load(tick: 250, tokens: 1600)
        report.peers[0].silence = .milliseconds(400)
        _ = state.onReport(report, at: start + .seconds(1))
        let rates = try #require(state.rates(of: 0))
        #expect(abs(rates.ticks - 100) < 1e-6)
        #expect(abs(rates.generationTokens - 400) < 1e-6)
        // Without a new heartbeat the rates stay.
        report.peers[0].silence = .milliseconds(900)
        _ = state.onReport(report, at: start + .milliseconds(1500))
        #expect(state.rates(of: 0) == rates)
    }

    @Test func partsAreOfTicksAndOfTime() throws {
        var old = load(tick: 100)
        old.tickTokens = 50
        old.tickTokensMax = 60
        old.tickTokensGroup = 100
        var new = load(tick: 200)
        new.dummyTicks = 25
        new.exchangeWait = .milliseconds(500)
        new.tickTokens = 80
        new.tickTokensMax = 180
        new.tickTokensGroup = 260
        let rates = TopState.rates(
            from: old, to: new, sameView: true, in: .seconds(2), ranks: 2)
        #expect(rates.dummies == 0.25)
        #expect(rates.waited == 0.25)
        #expect(rates.imbalance == 1.5)
        #expect(rates.relative == 0.375)
    }

    @Test func aNewViewCountsTicksFromItsBeginning() {
        let rates = TopState.rates(
            from: load(tick: 900), to: load(tick: 10), sameView: false, in: .seconds(1), ranks: 2)
        #expect(rates.ticks == 10)
    }

    @Test func aRestartedWorkerHasNoRatesUntilItsSecondHeartbeat() {
        var state = TopState()
        var report = ReportFixture.active()
        _ = state.onReport(report, at: start)
        _ = state.onReport(report, at: start + .seconds(1))
        #expect(state.isComplete)
        report.peers[1].incarnation = Incarnation(rawValue: 5)
        _ = state.onReport(report, at: start + .seconds(2))
        #expect(state.rates(of: 1) == nil)
        #expect(state.rates(of: 0) != nil)
    }

    @Test func whatHappensIsToldOnce() {
        var state = TopState()
        let active = ReportFixture.active()
        #expect(state.onReport(active, at: start) == ["22:13:20 view 3 is active"])
        #expect(state.onReport(active, at: start).isEmpty)
        var retired = ReportFixture.retired()
        retired.view = 4
        #expect(
            state.onReport(retired, at: start) == [
                "22:13:20 view 4 is retired (the last one ended: worker 1 (node b, device 0) left: "
                    + "stopped)",
                "22:13:20 worker 1 (node node-1, device 1) is gone",
            ])
        #expect(state.onSilence(of: "tcp://c:1").count == 1)
        #expect(state.onSilence(of: "tcp://c:1").isEmpty)
        #expect(state.onReport(active, at: start).count == 2)
        for _ in 0..<20 {
            _ = state.onReport(retired, at: start)
            _ = state.onReport(active, at: start)
        }
        #expect(state.events.count == TopState.eventsMax)
    }

    @Test func linesHaveAWorkerEach() {
        var state = TopState()
        _ = state.onReport(ReportFixture.active(), at: start)
        let plain = TopScreen.plain(state)
        #expect(plain.count == 3)
        #expect(plain[0] == "22:13:20 view=3 state=active serving=true gateways=1")
        #expect(plain[1].contains(" worker=0 dp_rank=0 tp_rank=0 stage=running "))
        let screen = TopScreen.lines(state, endpoint: "tcp://c:1")
        #expect(screen[1] == "serving")
        #expect(screen.contains { $0.hasPrefix("1  1   0   running") }, "\(screen)")
    }
}
