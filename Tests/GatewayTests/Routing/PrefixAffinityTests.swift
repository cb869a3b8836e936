import Protocol
import TestSupport
import Testing

@testable import Gateway

@Suite struct PrefixAffinityTests {
    private func affinity(ranks: Int, blocks: Int, blockSize: Int = 4) -> PrefixAffinity {
        var affinity = PrefixAffinity(blockSize: blockSize)
        for rank in 0..<ranks {
            affinity.onRank(rank, cacheCapacity: blocks * blockSize)
        }
        return affinity
    }

    private func found(
        _ affinity: inout PrefixAffinity, _ blocks: [UInt64], tokens: Int, ranks: Int
    ) -> [Int] {
        _ = affinity.find(blocks, tokens: tokens)
        return (0..<ranks).map { affinity.foundTokens(of: $0) }
    }

    @Test func leadingBlocksCountAndNoOthers() {
        var affinity = affinity(ranks: 3, blocks: 16)
        affinity.onSent([1, 2, 3], to: 0)
        affinity.onSent([1, 2], to: 1)
        affinity.onSent([2, 3], to: 2)
        #expect(found(&affinity, [1, 2, 3, 4], tokens: 17, ranks: 3) == [12, 8, 0])
        #expect(found(&affinity, [9], tokens: 17, ranks: 3) == [0, 0, 0])
        #expect(found(&affinity, [], tokens: 17, ranks: 3) == [0, 0, 0])
    }

    @Test func theLastTokenIsAlwaysComputed() {
        var affinity = affinity(ranks: 1, blocks: 16)
        affinity.onSent([1, 2], to: 0)
        #expect(found(&affinity, [1, 2], tokens: 8, ranks: 1) == [4])
        #expect(found(&affinity, [1, 2], tokens: 9, ranks: 1) == [8])
    }

    @Test func whatWasUsedLongestAgoGoesFirstAndTailsBeforeHeads() {
        var affinity = affinity(ranks: 1, blocks: 4)
        affinity.onSent([1, 2], to: 0)
        affinity.onSent([3, 4], to: 0)
        affinity.onSent([1, 2], to: 0)
        affinity.onSent([5], to: 0)
        #expect(found(&affinity, [3, 4], tokens: 99, ranks: 1) == [4])
        #expect(found(&affinity, [1, 2], tokens: 99, ranks: 1) == [8])
        affinity.onSent([6, 7, 8, 9, 10, 11], to: 0)
        #expect(affinity.count(of: 0) == 4)
        #expect(found(&affinity, [6, 7, 8, 9, 10], tokens: 99, ranks: 1) == [16])
    }

    /// Beside a model of plain arrays.
    @Test func itIsALeastRecentlyUsedListForEachRank() {
        var random = TestSupport.SeededGenerator.printingSeed(of: "PrefixAffinityTests")
        let limit = 12
        var affinity = affinity(ranks: 3, blocks: limit)
        var model: [[UInt64]] = [[], [], []]
        for _ in 0..<3000 {
            let rank = Int.random(in: 0..<3, using: &random)
            let start = UInt64.random(in: 0..<8, using: &random)
            let blocks = (0..<UInt64.random(in: 1...5, using: &random)).map { start * 10 + $0 }
            if Int.random(in: 0..<100, using: &random) == 0 {
                affinity.onRankLost(rank)
                model[rank] = []
            } else {
                affinity.onSent(blocks, to: rank)
                for block in blocks.reversed() {
                    model[rank].removeAll { $0 == block }
                    model[rank].append(block)
                }
                model[rank] = model[rank].suffix(limit)
            }
            let wanted = model.map { known in
                blocks.prefix { known.contains($0) }.count * 4
            }
            #expect(
                found(&affinity, blocks, tokens: 999, ranks: 3) == wanted,
                "PHALANX_TEST_SEED=\(random.seed)")
            #expect((0..<3).map { affinity.count(of: $0) } == model.map(\.count))
        }
    }

    @Test func aSearchEndsAtItsBound() {
        let ranks = 64
        var affinity = affinity(ranks: ranks, blocks: 1024)
        let blocks = (0..<1000).map { UInt64($0) }
        for rank in 0..<ranks { affinity.onSent(blocks, to: rank) }
        let visits = affinity.find(blocks, tokens: 4001)
        #expect(visits <= PrefixAffinity.visitsMax + 1)
        #expect(affinity.foundTokens(of: 0) > 0)
    }

    @Test func namesAreThePublishedHashes() {
        let tokens: [Int32] = [7, 8, 9]
        let names = names(tokens, blockSize: 1)
        // docs/protocol.md: the block of token 7 begins with 444224ef514fb32b.
        #expect(names.first == 0x4442_24EF_514F_B32B && names.count == 3)
        #expect(self.names(tokens, blockSize: 2).count == 1)
        #expect(self.names(tokens, blockSize: 4).isEmpty)
        #expect(self.names(tokens, blockSize: 1, salt: [97]) != names)
        // An answer goes on where the prompt ended.
        var blocks = PromptBlocks(blockSize: 1, salt: [])
        for count in 0...3 { blocks.extend(to: Array(tokens.prefix(count))) }
        #expect(blocks.names == names)
    }

    private func names(_ tokens: [Int32], blockSize: Int, salt: [UInt8] = []) -> [UInt64] {
        var blocks = PromptBlocks(blockSize: blockSize, salt: salt)
        blocks.extend(to: tokens)
        return blocks.names
    }
}
