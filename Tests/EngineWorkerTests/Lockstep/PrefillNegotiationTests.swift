import TestSupport
import Testing

@testable import EngineWorker

@Suite struct PrefillNegotiationTests {
    /// (decodes, prompt rows left) a rank, and the level that follows for the next tick.
    struct Row: Sendable {
        let ranks: [(decodes: UInt32, left: UInt32)]
        var tokensMax = 128
        var interval: UInt64 = 1
        var next: UInt64 = 9
        let level: Int
    }

    static let unlimited = PrefillNegotiation.unlimited

    static let table: [Row] = [
        // Nobody decodes: nothing is limited.
        Row(ranks: [(0, 5000), (0, 0)], level: unlimited),
        Row(ranks: [(0, 0)], level: unlimited),
        Row(ranks: [(0, 5000), (0, 0)], interval: 2, level: unlimited),
        // A rank alone fills its tick.
        Row(ranks: [(10, 5000)], level: 138),
        // All have prompts: the bound counts from the busiest rank's decodes.
        Row(ranks: [(10, 5000), (30, 5000)], level: 158),
        // One of many has a prompt: the eighth that it always gets.
        Row(ranks: [(10, 5000), (10, 0), (10, 0), (10, 0)], level: 26),
        // All but one: 13/12 of the mean, of which the one without has only 100.
        Row(
            ranks: [(100, 5000), (100, 5000), (100, 5000), (100, 0)], level: 144),
        Row(ranks: [(10, 5000)], tokensMax: 0, level: unlimited),
        Row(ranks: [(1, 5)], tokensMax: 1, level: 2),
        // Ticks without prompts, unless the queues are too long for that.
        Row(ranks: [(10, 100), (10, 100)], interval: 2, level: 0),
        Row(ranks: [(10, 100), (10, 100)], interval: 2, next: 10, level: 138),
        Row(ranks: [(10, 100), (10, 156)], interval: 2, level: 130),
        Row(ranks: [(10, 100), (10, 0)], tokensMax: 0, interval: 2, level: 0),
        Row(ranks: [(.max, .max), (.max, .max)], level: Int(UInt32.max) + 128),
    ]

    private static func entry(_ rank: (decodes: UInt32, left: UInt32)) -> TickEntry {
        TickEntry(
            view: 1, tick: 8, tokens: 0, prefillTokens: 0, kvUsage: 0, hasWork: true,
            failed: false, wishedPrefillTokens: rank.left, nextDecodes: rank.decodes)
    }

    @Test(arguments: table)
    func theVectorGivesTheLevel(row: Row) {
        let negotiation = PrefillNegotiation(tokensMax: row.tokensMax, interval: row.interval)
        let level = negotiation.rowLevel(after: row.ranks.map(Self.entry), next: row.next)
        #expect(level == row.level)
    }

    @Test func everyPromptGetsOnAndNoTickIsLongerThanTheBound() {
        var random = SeededGenerator.printingSeed(of: "PrefillNegotiationTests")
        for _ in 0..<500 {
            let ranks = (0..<Int.random(in: 1...64, using: &random)).map { _ in
                (
                    decodes: UInt32.random(in: 0...200, using: &random),
                    left: Bool.random(using: &random)
                        ? UInt32.random(in: 0...5000, using: &random) : 0
                )
            }
            let tokensMax = Int.random(in: 1...1024, using: &random)
            let negotiation = PrefillNegotiation(tokensMax: tokensMax, interval: 1)
            let level = negotiation.rowLevel(after: ranks.map(Self.entry), next: 1)
            let busiest = Int(ranks.map(\.decodes).max() ?? 0)
            guard busiest > 0 else { continue }
            #expect(level >= busiest + max(tokensMax / PrefillNegotiation.leastPart, 1))
            #expect(level <= busiest + tokensMax)
            // Who stands where in the vector changes nothing.
            let turned = negotiation.rowLevel(after: ranks.reversed().map(Self.entry), next: 1)
            #expect(turned == level, "PHALANX_TEST_SEED=\(random.seed)")
        }
    }

    @Test func theMachineKeepsTheLevelUntilTheNextVectorOrView() {
        var machine = LockstepStateMachine(
            syncInterval: 1, prefill: PrefillNegotiation(tokensMax: 16, interval: 1))
        machine.onViewActive(1, worldSize: 1)
        _ = machine.onWake(view: 1, fromTick: 0)
        #expect(machine.rowLevel == Self.unlimited)
        var entry = Self.entry((decodes: 3, left: 100))
        entry.tick = 0
        _ = machine.onVector([entry])
        #expect(machine.rowLevel == 19)
        entry.tick = 1
        entry.nextDecodes = 0
        _ = machine.onVector([entry])
        #expect(machine.rowLevel == Self.unlimited)
        entry.tick = 2
        entry.nextDecodes = 3
        _ = machine.onVector([entry])
        machine.onViewActive(2, worldSize: 1)
        #expect(machine.rowLevel == Self.unlimited)
    }
}
