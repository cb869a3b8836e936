import Testing

@testable import EngineWorker

@Suite struct BlockPoolTests {
    @Test func aTableGrowsByWholeBlocks() throws {
        var pool = BlockPool(blockCount: 4, blockSize: 16)
        var table = BlockTable()
        for (positions, blocks) in [(0, 0), (1, 1), (16, 1), (17, 2), (17, 2), (5, 2), (64, 4)] {
            let extended = pool.extend(&table, positionCount: positions)
            #expect(extended)
            #expect(table.blocks.count == blocks, "\(positions) positions")
            try pool.checkInvariants(tables: [table])
        }
        #expect(pool.usage == 1)
        pool.release(&table)
        #expect(pool.usage == 0)
        #expect(table.blocks.isEmpty)
        try pool.checkInvariants(tables: [])
    }

    @Test func nothingIsTakenWhereBlocksDoNotSuffice() throws {
        var pool = BlockPool(blockCount: 3, blockSize: 2)
        var first = BlockTable()
        var second = BlockTable()
        let (one, two) = (
            pool.extend(&first, positionCount: 3), pool.extend(&second, positionCount: 3)
        )
        #expect(one && !two)
        #expect(second.blocks.isEmpty)
        #expect(pool.freeCount == 1)
        try pool.checkInvariants(tables: [first, second])
    }

    @Test func theFirstBlockReleasedLastIsTakenFirst() {
        var pool = BlockPool(blockCount: 8, blockSize: 1)
        var table = BlockTable()
        _ = pool.extend(&table, positionCount: 3)
        let before = table.blocks
        pool.release(&table)
        _ = pool.extend(&table, positionCount: 3)
        #expect(table.blocks == before)
    }

    @Test func aBlockInTwoTablesIsFound() {
        var pool = BlockPool(blockCount: 2, blockSize: 1)
        var table = BlockTable()
        _ = pool.extend(&table, positionCount: 1)
        #expect(throws: BlockPoolInvariantError.wrongOwners(block: 0, counted: 1, found: 2)) {
            try pool.checkInvariants(tables: [table, table])
        }
        #expect(throws: BlockPoolInvariantError.wrongOwners(block: 0, counted: 1, found: 0)) {
            try pool.checkInvariants(tables: [])
        }
        let stale = table
        pool.release(&table)
        #expect(throws: BlockPoolInvariantError.freeBlockInTable(block: 0)) {
            try pool.checkInvariants(tables: [stale])
        }
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func randomOperationsKeepEveryBlockOnce(seed: UInt64) throws {
        var random = TestRandom(seed: seed)
        let blockSize = random.next(in: 1...5)
        var pool = BlockPool(blockCount: random.next(in: 1...24), blockSize: blockSize)
        var tables = Array(repeating: BlockTable(), count: 6)
        for _ in 0..<300 {
            let index = random.next(in: 0...5)
            if random.next(in: 0...2) == 0 {
                pool.release(&tables[index])
            } else {
                let positions = random.next(in: 0...30)
                let before = tables[index].blocks
                let free = pool.freeCount
                let extended = pool.extend(&tables[index], positionCount: positions)
                let wanted = max(0, (positions + blockSize - 1) / blockSize - before.count)
                #expect(extended == (wanted <= free), "SEED=\(seed)")
                #expect(tables[index].blocks.starts(with: before), "SEED=\(seed)")
                #expect(pool.freeCount == free - (extended ? wanted : 0), "SEED=\(seed)")
            }
            do {
                try pool.checkInvariants(tables: tables)
            } catch {
                Issue.record("\(error) SEED=\(seed)")
            }
        }
    }
}
