import Protocol
import TestSupport
import Testing

@testable import Gateway

/// One rank with two gateways and links that delay everything at random. What a gateway believes
/// must be the rank as its last report saw it, and what it has sent and the report did not know:
/// no more, no less.
@Suite struct RankAccountTests {
    struct Sequence: Equatable {
        let gateway: Int
        let number: UInt64
        let tokens: Int
        var isPrefilled = false
    }

    /// What a rank had when it made a report.
    struct Report {
        let load: RankLoad
        let known: [UInt64]
        let sequences: [Sequence]
    }

    struct Rank {
        var sequences: [Sequence] = []
        var known: [UInt64] = [0, 0]
        var submissions: UInt64 = 0
        var tick: UInt64 = 0

        func report() -> Report {
            var load = RankLoad()
            load.running = UInt32(sequences.count)
            load.pendingPrefillTokens = UInt64(
                sequences.reduce(0) { $0 + ($1.isPrefilled ? 0 : $1.tokens) })
            load.submissions = submissions
            load.tick = tick
            return Report(load: load, known: known, sequences: sequences)
        }
    }

    struct Gateway {
        var account = RankAccount()
        var sent: [Sequence] = []
        /// To the rank and from it, in order.
        var submits: [Sequence] = []
        var reports: [Report] = []
        var last: Report?
    }

    private func expect(_ gateway: Gateway, seed: UInt64) {
        let known = gateway.account.knownSubmissions
        let behind = gateway.sent.filter { $0.number > known }
        let reported = gateway.last?.sequences ?? []
        #expect(
            gateway.account.sequences == reported.count + behind.count,
            "PHALANX_TEST_SEED=\(seed)")
        let pending = reported.reduce(0) { $0 + ($1.isPrefilled ? 0 : $1.tokens) }
        #expect(
            gateway.account.pendingTokens == pending + behind.reduce(0) { $0 + $1.tokens },
            "PHALANX_TEST_SEED=\(seed)")
    }

    @Test func nothingIsCountedTwiceOrLostWhateverIsLate() {
        var random = TestSupport.SeededGenerator.printingSeed(of: "RankAccountTests")
        for _ in 0..<200 {
            var rank = Rank()
            var gateways = [Gateway(), Gateway()]
            var relayed: [Report] = []
            for _ in 0..<200 {
                let index = Int.random(in: 0..<2, using: &random)
                switch Int.random(in: 0..<7, using: &random) {
                case 0, 1: submit(&gateways[index], index, &random)
                case 2: take(&rank, &gateways[index])
                case 3: compute(&rank, &random)
                case 4:
                    gateways[index].reports.append(rank.report())
                    relayed.append(rank.report())
                case 5: receive(&gateways[index])
                default:
                    // By way of the coordinator: late, out of order, or never.
                    guard let report = relayed.randomElement(using: &random) else { break }
                    relay(report, &gateways[index])
                }
                for gateway in gateways { expect(gateway, seed: random.seed) }
            }
            settle(&rank, &gateways)
            for gateway in gateways {
                #expect(gateway.account.sequences == rank.sequences.count)
                #expect(gateway.account.knownSubmissions == gateway.account.sentSubmissions)
            }
        }
    }

    private func submit(
        _ gateway: inout Gateway, _ index: Int, _ random: inout TestSupport.SeededGenerator
    ) {
        let tokens = Int.random(in: 1...100, using: &random)
        let number = gateway.account.onSubmitted(uncachedTokens: tokens, expectedTokens: tokens)
        let sequence = Sequence(gateway: index, number: number, tokens: tokens)
        gateway.sent.append(sequence)
        gateway.submits.append(sequence)
    }

    private func take(_ rank: inout Rank, _ gateway: inout Gateway) {
        guard !gateway.submits.isEmpty else { return }
        let sequence = gateway.submits.removeFirst()
        rank.sequences.append(sequence)
        rank.submissions += 1
        rank.known[sequence.gateway] = sequence.number
    }

    private func compute(_ rank: inout Rank, _ random: inout TestSupport.SeededGenerator) {
        rank.tick += 1
        guard let place = rank.sequences.indices.randomElement(using: &random) else { return }
        if rank.sequences[place].isPrefilled {
            rank.sequences.remove(at: place)
        } else {
            rank.sequences[place].isPrefilled = true
        }
    }

    private func receive(_ gateway: inout Gateway) {
        guard !gateway.reports.isEmpty else { return }
        let report = gateway.reports.removeFirst()
        let index = gateway.sent.first?.gateway ?? 0
        gateway.account.onReport(report.load, known: report.known[index])
        gateway.last = report
    }

    private func relay(_ report: Report, _ gateway: inout Gateway) {
        let known = gateway.account.knownSubmissions
        guard gateway.account.onRelayedReport(report.load) else { return }
        gateway.last = report
        let index = gateway.sent.first?.gateway ?? 0
        if !gateway.sent.isEmpty {
            #expect(report.known[index] == known, "a relayed report was taken for another")
        }
    }

    private func settle(_ rank: inout Rank, _ gateways: inout [Gateway]) {
        for index in gateways.indices {
            while !gateways[index].submits.isEmpty { take(&rank, &gateways[index]) }
        }
        for index in gateways.indices {
            gateways[index].reports.append(rank.report())
            while !gateways[index].reports.isEmpty { receive(&gateways[index]) }
        }
    }

    @Test func aCancelledSequenceCountsNoMoreWhetherItWasKnownOrNot() {
        var account = RankAccount()
        let first = account.onSubmitted(uncachedTokens: 10, expectedTokens: 10)
        let second = account.onSubmitted(uncachedTokens: 20, expectedTokens: 20)
        var load = RankLoad()
        load.waiting = 1
        load.pendingPrefillTokens = 10
        account.onReport(load, known: 1)
        #expect(account.sequences == 2 && account.pendingTokens == 30)
        account.onCancelled(second, pendingTokens: 20)
        #expect(account.sequences == 1 && account.pendingTokens == 10)
        account.onCancelled(first, pendingTokens: 10)
        #expect(account.sequences == 0 && account.pendingTokens == 0)
        account.onReport(RankLoad(), known: 2)
        #expect(account.sequences == 0 && account.pendingTokens == 0)
    }

    @Test func aRefusedSequenceThatAReportKnowsOfIsNotTakenAwayFromIt() {
        var account = RankAccount()
        let number = account.onSubmitted(uncachedTokens: 10, expectedTokens: 10)
        var load = RankLoad()
        load.running = 4
        account.onReport(load, known: 1)
        account.onRefused(number)
        #expect(account.sequences == 4)
    }

    @Test func anOutputShowsThatItsSequenceIsKnown() {
        var account = RankAccount()
        _ = account.onSubmitted(uncachedTokens: 10, expectedTokens: 10)
        let second = account.onSubmitted(uncachedTokens: 20, expectedTokens: 20)
        _ = account.onSubmitted(uncachedTokens: 40, expectedTokens: 40)
        account.onOutput(of: second)
        #expect(account.sequences == 1 && account.pendingTokens == 40)
    }

    @Test func memoryIsUsedAgain() {
        var account = RankAccount()
        for round in 1...10_000 as ClosedRange<UInt64> {
            _ = account.onSubmitted(uncachedTokens: 1, expectedTokens: 1)
            if round > 3 { account.onReport(RankLoad(), known: round - 3) }
        }
        #expect(account.inFlightCapacity < 64, "\(account.inFlightCapacity)")
        #expect(account.sequences == 3)
    }
}
