import Protocol
import Testing

@testable import Gateway

@Suite struct ServedRanksTests {
    struct Row: Sendable {
        var hybrid = false
        var external = false
        var rank: Int?
        var served: ServedRanks?
        /// A part of the refusal.
        var refusal = ""
    }

    static let table: [Row] = [
        Row(served: .all),
        Row(hybrid: true, served: .node("a")),
        Row(external: true, rank: 3, served: .one(3)),
        Row(rank: 3, served: .one(3)),
        Row(external: true, refusal: "needs --data-parallel-rank"),
        Row(hybrid: true, external: true, refusal: "--data-parallel-external-lb a single one"),
        Row(hybrid: true, rank: 1, refusal: "--data-parallel-rank a single one"),
        Row(hybrid: true, external: true, rank: 1, refusal: "leave one of them out"),
    ]

    @Test(arguments: table)
    func theOptionsSayWhichRanks(row: Row) {
        do throws(ServedRanksError) {
            let served = try ServedRanks(
                hybrid: row.hybrid, external: row.external, rank: row.rank, node: "a")
            #expect(served == row.served)
        } catch {
            #expect(row.served == nil)
            #expect(error.description.contains(row.refusal), "\(error)")
        }
    }

    private func member(_ worker: UInt32, node: String, tpRank: UInt32 = 0) -> Member {
        Member(
            worker: worker, dpRank: worker, tpRank: tpRank,
            incarnation: Incarnation(rawValue: 1), node: node, endpoint: "",
            collectivesAddress: [], blockCount: 1, blockSize: 1)
    }

    @Test func leadersOfTheServedRanksAreConnected() {
        let members = [
            member(0, node: "a"), member(1, node: "b"), member(2, node: "a"),
            member(3, node: "a", tpRank: 1),
        ]
        func ranks(_ served: ServedRanks) -> [UInt32] {
            served.leaders(of: members).map(\.dpRank)
        }
        #expect(ranks(.all) == [0, 1, 2])
        #expect(ranks(.node("a")) == [0, 2])
        #expect(ranks(.node("c")).isEmpty)
        #expect(ranks(.one(1)) == [1])
        #expect(ServedRanks.node("c").emptyReason(members: members).contains("ranks are on a, b"))
    }

    @Test func aRankThatTheDeploymentHasNotIsRefused() {
        #expect(ServedRanks.one(2).problem(rankCountMax: 3) == nil)
        #expect(
            ServedRanks.one(3).problem(rankCountMax: 3)?.contains("out of range [0, 3)") == true)
        #expect(ServedRanks.node("x").problem(rankCountMax: 1) == nil)
    }
}
