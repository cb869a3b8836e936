import Testing

@testable import EngineWorker

@Suite struct SchedulerLevelTests {
    private func schedule(_ harness: inout SchedulerHarness, level: Int) -> String {
        harness.scheduler.schedule(into: &harness.plan, allowPrefill: true, rowLevel: level)
        return harness.plan.entries.map { entry in
            "\(entry.sequence.rawValue):\(entry.isDecode ? "d" : String(entry.rowCount))"
        }.joined(separator: " ")
    }

    private func left(_ harness: SchedulerHarness) -> Int {
        harness.scheduler.prefillRowsLeft(behind: harness.plan)
    }

    @Test func promptsFillAStepUpToTheLevelAndDecodesAreNeverLeftOut() throws {
        var harness = try SchedulerHarness()
        harness.submit(1, prompt: 4)
        harness.submit(2, prompt: 4)
        #expect(harness.step() == "1:4 2:4")
        harness.submit(3, prompt: 20)
        #expect(schedule(&harness, level: 7) == "1:d 2:d 3:5")
        #expect(left(harness) == 15)
        harness.complete()
        #expect(schedule(&harness, level: 2) == "1:d 2:d")
        harness.complete()
        #expect(schedule(&harness, level: 1) == "1:d 2:d")
        harness.complete()
        #expect(schedule(&harness, level: 0) == "1:d 2:d")
        #expect(left(harness) == 15)
        harness.complete()
        #expect(schedule(&harness, level: .max) == "1:d 2:d 3:15")
        #expect(left(harness) == 0 && harness.plan.sampleCount == 3)
    }

    @Test func promptsThatAreComputedWholeAreNotCutByALevel() throws {
        for prefillFirst in [false, true] {
            var harness = try SchedulerHarness(chunked: false, prefillFirst: prefillFirst)
            harness.submit(1, prompt: 20)
            #expect(schedule(&harness, level: 5) == "1:20")
            harness.complete()
            harness.submit(2, prompt: 20)
            #expect(schedule(&harness, level: 0) == "1:d")
        }
    }

    @Test func rowsLeftAreThoseThatCouldBeComputed() throws {
        var harness = try SchedulerHarness(sequences: 2, batch: 8, blocks: 16)
        #expect(left(harness) == 0)
        harness.submit(1, prompt: 10, maxTokens: 2)
        harness.submit(2, prompt: 30, maxTokens: 2)
        harness.submit(3, prompt: 7, maxTokens: 2)
        #expect(left(harness) == 47)
        #expect(harness.schedule() == "1:8")
        #expect(left(harness) == 39)
        harness.complete()
        #expect(harness.schedule() == "1:2 2:6")
        // Two run, which is all that may.
        #expect(left(harness) == 24)
        harness.complete()
        _ = harness.scheduler.cancel(sequence(3))
        #expect(harness.schedule() == "1:d 2:7")
        #expect(left(harness) == 17)
        try harness.scheduler.checkInvariants()
    }

    @Test func whatFindsNoBlocksDoesNotCount() throws {
        var harness = try SchedulerHarness(batch: 64, blocks: 10)
        harness.submit(1, prompt: 32, maxTokens: 2)
        harness.submit(2, prompt: 32, maxTokens: 2)
        #expect(harness.schedule() == "1:32")
        #expect(left(harness) == 0)
    }
}
