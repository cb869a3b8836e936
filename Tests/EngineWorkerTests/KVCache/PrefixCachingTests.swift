import Protocol
import Testing

@testable import EngineWorker

/// What the pool does with cached blocks.
@Suite struct PrefixCachingTests {
    static let names = {
        var names: [BlockHash] = []
        for token in 0..<8 as Range<Int32> {
            names.append((names.last ?? .root(blockSize: 1)).next(tokens: [token]))
        }
        return names
    }()

    /// A pool whose first blocks were computed and released by one sequence.
    static func pool(blockCount: Int, cached: Int) -> (pool: BlockPool, blocks: [Int32]) {
        var pool = BlockPool(blockCount: blockCount, blockSize: 1, caches: true)
        var table = BlockTable()
        _ = pool.extend(&table, positionCount: cached)
        let blocks = table.blocks
        for (block, name) in zip(blocks, names) { pool.cache(block, as: name) }
        pool.release(&table)
        return (pool, blocks)
    }

    @Test func aReleasedPrefixIsFoundAgainWhereItIs() throws {
        var (pool, blocks) = Self.pool(blockCount: 6, cached: 3)
        #expect(pool.freeCount == 6 && pool.cachedCount == 3 && pool.usage == 0)
        var (first, second) = (BlockTable(), BlockTable())
        let filled = pool.fill(&first, cached: Self.names[0..<3], positionCount: 4)
        let again = pool.fill(&second, cached: Self.names[0..<2], positionCount: 3)
        #expect(filled && again)
        #expect(Array(first.blocks.prefix(3)) == blocks)
        #expect(Array(second.blocks.prefix(2)) == Array(blocks.prefix(2)))
        #expect(first.blocks[3] != second.blocks[2])
        #expect(pool.usedCount == 5)
        try pool.checkInvariants(tables: [first, second])
        pool.release(&first)
        #expect(pool.usedCount == 3)
        try pool.checkInvariants(tables: [second])
        pool.release(&second)
        try pool.checkInvariants(tables: [])
        #expect(pool.cachedCount == 3)
    }

    @Test func theEndOfAPrefixIsGivenUpFirstAndUncachedBlocksBefore() throws {
        var (pool, blocks) = Self.pool(blockCount: 5, cached: 3)
        var table = BlockTable()
        _ = pool.extend(&table, positionCount: 2)
        #expect(Self.names[0..<3].allSatisfy { pool.isCached($0) })
        #expect(Set(table.blocks).isDisjoint(with: blocks))
        for left in [2, 1, 0] {
            _ = pool.extend(&table, positionCount: 5 - left)
            #expect(Self.names[0..<3].map { pool.isCached($0) } == (0..<3).map { $0 < left })
            try pool.checkInvariants(tables: [table])
        }
    }

    @Test func theLongestUnusedPrefixIsGivenUpFirst() {
        var pool = BlockPool(blockCount: 4, blockSize: 1, caches: true)
        var tables = [BlockTable(), BlockTable()]
        for index in 0..<2 {
            _ = pool.extend(&tables[index], positionCount: 1)
            pool.cache(tables[index].blocks[0], as: Self.names[index])
        }
        pool.release(&tables[0])
        pool.release(&tables[1])
        // The older one is used once more, and so it is the younger one now.
        _ = pool.fill(&tables[0], cached: Self.names[0..<1], positionCount: 1)
        pool.release(&tables[0])
        _ = pool.extend(&tables[0], positionCount: 3)
        #expect(pool.isCached(Self.names[0]) && !pool.isCached(Self.names[1]))
    }

    @Test func aPrefixThatLeavesNoRoomForTheRestIsNotTaken() throws {
        var (pool, _) = Self.pool(blockCount: 4, cached: 3)
        var owner = BlockTable()
        _ = pool.extend(&owner, positionCount: 1)
        var table = BlockTable()
        // Three are free, and all three are the prefix.
        let tooMuch = pool.fill(&table, cached: Self.names[0..<3], positionCount: 4)
        #expect(!tooMuch && table.blocks.isEmpty && pool.freeCount == 3)
        let fits = pool.fill(&table, cached: Self.names[0..<3], positionCount: 3)
        #expect(fits)
        try pool.checkInvariants(tables: [table, owner])
        // Owned blocks need no free one.
        var sharing = BlockTable()
        let shared = pool.fill(&sharing, cached: Self.names[0..<3], positionCount: 3)
        #expect(shared && sharing == table)
        try pool.checkInvariants(tables: [table, owner, sharing])
    }

    @Test func theSameContentTwiceIsFoundOnce() throws {
        var pool = BlockPool(blockCount: 4, blockSize: 1, caches: true)
        var (first, second) = (BlockTable(), BlockTable())
        _ = pool.extend(&first, positionCount: 1)
        _ = pool.extend(&second, positionCount: 1)
        pool.cache(first.blocks[0], as: Self.names[0])
        pool.cache(second.blocks[0], as: Self.names[0])
        #expect(pool.cachedCount == 1)
        try pool.checkInvariants(tables: [first, second])
        let copy = second.blocks[0]
        pool.release(&second)
        // The copy is worth nothing, so it is the next one taken.
        _ = pool.extend(&second, positionCount: 1)
        #expect(second.blocks == [copy])
        pool.forget(first)
        #expect(!pool.isCached(Self.names[0]) && pool.cachedCount == 0)
        try pool.checkInvariants(tables: [first, second])
    }
}
