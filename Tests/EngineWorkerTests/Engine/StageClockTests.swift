import DaemonRuntime
import Protocol
import Testing

@testable import EngineWorker

@Suite struct StageClockTests {
    /// Laps leave nothing out and count nothing twice, so that the stages are no longer than what
    /// they are in; and every stage of a tick takes some time.
    @Test func stagesOfTicksAddUp() throws {
        let began = MonotonicClock.now()
        let fixture = try EngineFixture()
        fixture.enter(view: 1)
        fixture.submit(1, [5, 6, 7]) { $0.maxTokens = 4 }
        fixture.runUntilIdle()
        let elapsed = (MonotonicClock.now() - began).nanoseconds
        let times = try #require(fixture.takeEvents().loads.last).stageTimes
        for stage in TickStage.allCases { #expect(times[stage] > 0, "\(stage)") }
        #expect(times.total <= UInt64(elapsed))
    }

    @Test func theTimeBeforeTheStartBelongsToNoStage() {
        let clock = StageClock()
        clock.start()
        clock.lap(.head)
        let first = clock.times
        clock.start()
        clock.lap(.router)
        let second = clock.times.since(first)
        #expect(second[.head] == 0 && second.total == second[.router])
        #expect(clock.times.total == first.total + second.total)
    }
}
