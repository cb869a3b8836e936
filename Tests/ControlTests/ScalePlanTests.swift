import Testing

@testable import Control

@Suite struct ScalePlanTests {
    private func line(_ index: Int) -> String {
        "phalanx-engine-worker@\(index).service loaded active running Phalanx engine worker"
    }

    private func units(_ indexes: Int...) -> [String] {
        indexes.map { "phalanx-engine-worker@\($0).service" }
    }

    @Test func theLowestThatDoNotRunAreStarted() {
        let plan = ScalePlan(wanted: 4, listing: [line(0), line(2)])
        #expect(plan.running == [0, 2])
        #expect(plan.commands == [["start"] + units(1, 3)])
    }

    @Test func theHighestAreStoppedTogether() {
        // As systemctl sorts names.
        let plan = ScalePlan(wanted: 2, listing: [line(0), line(10), line(2), line(3)])
        #expect(plan.commands == [["stop"] + units(10, 3)])
    }

    @Test func nothingIsDoneWhereSoManyRun() {
        #expect(ScalePlan(wanted: 1, listing: [line(5)]).commands.isEmpty)
        #expect(ScalePlan(wanted: 0, listing: ["", "other.service loaded"]).commands.isEmpty)
    }
}
