import Protocol
import TestSupport
import Testing

@testable import EngineWorker
@testable import Gateway

/// How evenly ticks are filled, with gateways, ranks and negotiation as they are in the daemons.
///
/// The trace keeps 64 ranks busy without overloading them: about 38 rows a rank and tick arrive,
/// nine tenths of them of prompts, and a tick takes the time of 50 rows more than its busiest rank
/// has. At lower loads ranks are often without any prompt, and then no placement makes ticks even;
/// at higher ones queues grow and all ranks are full with any placement.
@Suite struct BalanceSimulationTests {
    static let ranks = 64
    static let end = 40_000
    static let warmUp = 8_000
    /// Rows a rank in a unit of time: 38 in a tick that takes 50 + 38.
    static let rowsPerRank = 38.0 / 88

    private func run(
        _ name: String, seed: UInt64, _ change: (inout BalanceSimulation.Settings) -> Void
    ) throws -> BalanceFigures {
        var settings = BalanceSimulation.Settings()
        change(&settings)
        // The same trace for all, whatever else is drawn.
        var random = SeededGenerator(seed: seed)
        let trace = BalanceTrace(
            until: Self.end, rowsPerTime: Self.rowsPerRank * Double(settings.ranks),
            random: &random)
        var simulation = try BalanceSimulation(settings, random: SeededGenerator(seed: seed + 1))
        simulation.run(trace, until: Self.end, warmUp: Self.warmUp)
        print("\(name): \(simulation.figures.description)")
        return simulation.figures
    }

    static let negotiated = PrefillNegotiation(tokensMax: 128, interval: 1)

    @Test func ticksAreEvenWhereRoundRobinMakesThemUneven() throws {
        let seed = SeededGenerator.printingSeed(of: "BalanceSimulationTests").seed
        let plain = try run("round robin", seed: seed) { $0.routing = .roundRobin }
        let routed = try run("router", seed: seed) { _ in }
        let negotiated = try run("round robin, negotiated", seed: seed) {
            $0.routing = .roundRobin
            $0.prefill = Self.negotiated
        }
        let both = try run("router, negotiated", seed: seed) { $0.prefill = Self.negotiated }
        #expect(plain.imbalance >= 1.5)
        #expect(both.imbalance <= 1.10)
        // The longest tick of those who decode: with all of the batch, and with the bound.
        #expect(plain.longestDecodingTick >= 500)
        #expect(both.longestDecodingTick <= 128 + 64)
        // Even ticks are no use if first tokens come late: those of the router must not.
        let late = BalanceFigures.quantile(negotiated.firstTokens, 0.5)
        #expect(BalanceFigures.quantile(both.firstTokens, 0.5) * 2 < late)
        #expect(routed.ticks > 0)
    }

    /// Each learns of the other's choices by reports that are one or two ticks old.
    @Test func twoGatewaysDoNotStampedeOneRank() throws {
        let seed = SeededGenerator.printingSeed(of: "two gateways").seed
        let one = try run("one gateway", seed: seed) { $0.prefill = Self.negotiated }
        let two = try run("two gateways", seed: seed) {
            $0.gateways = 2
            $0.prefill = Self.negotiated
        }
        #expect(two.imbalance <= 1.10)
        #expect(two.meanFirstToken < 2 * one.meanFirstToken)
    }
}
