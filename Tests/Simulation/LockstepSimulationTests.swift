import TestSupport
import Testing

@testable import EngineWorker

@Suite struct LockstepSimulationTests {
    static let settings: [LockstepSimulation.Settings] = [
        .init(ranks: 2, syncInterval: 1, delayMax: 5, slowness: 30),
        .init(ranks: 3, syncInterval: 1),
        .init(ranks: 4, syncInterval: 8, delayMax: 5, slowness: 30),
        .init(ranks: 8, syncInterval: 3),
        .init(ranks: 3, syncInterval: 1, delayMax: 900, duplicated: 300, lost: 300),
    ]

    /// Milliseconds of virtual time in which work arrives, and then to become quiet.
    static let busy = 2000
    static let quietMax = 120_000

    @Test(arguments: settings)
    func allRanksDoTheSameAndNoWorkIsLeft(settings: LockstepSimulation.Settings) {
        var random = SeededGenerator.printingSeed(of: "\(settings)")
        for _ in 0..<5 {
            let seed = SeededGenerator(seed: random.next())
            var simulation = LockstepSimulation(settings, random: seed)
            // Now rare, so that the group sleeps in between, now dense.
            let rarity = Int.random(in: 2...200, using: &random)
            for _ in 0..<Self.busy {
                simulation.step(workArrives: Int.random(in: 0..<rarity, using: &random) == 0)
            }
            var left = Self.quietMax
            while !simulation.isQuiet, simulation.problem == nil, left > 0 {
                simulation.step(workArrives: false)
                left -= 1
            }
            #expect(simulation.problem == nil, "\(simulation.description)")
            #expect(simulation.isQuiet, "waits for ever: \(simulation.description)")
            expectAlike(simulation)
        }
    }

    func expectAlike(_ simulation: LockstepSimulation) {
        let first = simulation.ranks[0]
        for rank in simulation.ranks.dropFirst() {
            #expect(rank.log == first.log, "\(simulation.description)")
            #expect(rank.machine.state == first.machine.state, "\(simulation.description)")
        }
        #expect(first.log.map(\.tick) == (0..<UInt64(first.log.count)).map { $0 })
        #expect(simulation.timesIdle > 0)
        let tokens = first.log.reduce(0) { $0 + $1.decision.totalTokens }
        #expect(tokens == simulation.ranks.reduce(0) { $0 + $1.done })
        #expect(tokens > 0, "a simulation without work tests nothing")
    }

    @Test func aQuietGroupTakesNoTicks() {
        var simulation = LockstepSimulation(
            .init(ranks: 4, syncInterval: 1), random: SeededGenerator(seed: 1))
        for _ in 0..<1000 { simulation.step(workArrives: false) }
        #expect(simulation.ranks.allSatisfy { $0.log.isEmpty })
        #expect(simulation.inFlight.isEmpty)
    }
}
