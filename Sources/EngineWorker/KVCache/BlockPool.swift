/// The blocks of one DP rank's paged KV cache, as numbers: which are free and which are owned.
///
/// It must never touch the memory behind the numbers; that belongs to the backend. Free blocks form
/// a last-in first-out list, so taking and returning a block is O(1) and the block that comes next
/// is a function of the calls made before. A block has one owner: there is no sharing between
/// sequences, and so no reference count.
///
/// Source of the idea: PagedAttention (Kwon et al., SOSP 2023).
public struct BlockPool: Sendable {
    public let blockCount: Int
    /// Positions that one block holds.
    public let blockSize: Int

    /// Free blocks; the last one is taken first.
    private var freeBlocks: [Int32]
    /// `[blockCount]`, the same fact by block: a second release traps instead of handing one block
    /// to two sequences.
    private var isFree: [Bool]

    public init(blockCount: Int, blockSize: Int) {
        precondition(blockCount > 0 && blockCount <= Int(Int32.max), "\(blockCount) blocks")
        precondition(blockSize > 0, "block size \(blockSize)")
        precondition(
            blockSize <= Int(Int32.max) / blockCount,
            "\(blockCount) blocks of \(blockSize) have more slots than Int32 counts")
        self.blockCount = blockCount
        self.blockSize = blockSize
        freeBlocks = (0..<Int32(blockCount)).reversed()
        isFree = Array(repeating: true, count: blockCount)
    }

    public var freeCount: Int { freeBlocks.count }
    public var usedCount: Int { blockCount - freeBlocks.count }
    /// Owned part of the pool, 0 ... 1.
    public var usage: Double { Double(usedCount) / Double(blockCount) }

    /// Blocks that hold `positionCount` positions.
    public func blocksNeeded(positionCount: Int) -> Int {
        precondition(positionCount >= 0, "\(positionCount) positions")
        return positionCount / blockSize + (positionCount % blockSize == 0 ? 0 : 1)
    }

    /// Makes `table` long enough for positions `0 ..< positionCount`.
    ///
    /// All or nothing: false, and nothing taken, where the free blocks do not suffice.
    public mutating func extend(_ table: inout BlockTable, positionCount: Int) -> Bool {
        let missing = blocksNeeded(positionCount: positionCount) - table.blocks.count
        guard missing > 0 else { return true }
        guard missing <= freeBlocks.count else { return false }
        for _ in 0..<missing {
            let block = freeBlocks.removeLast()
            isFree[Int(block)] = false
            table.append(block)
        }
        return true
    }

    /// Returns every block of `table`, last first, so that its first block is the next one taken.
    public mutating func release(_ table: inout BlockTable) {
        for block in table.blocks.reversed() {
            precondition(
                block >= 0 && Int(block) < blockCount, "block \(block) of a pool of \(blockCount)")
            precondition(!isFree[Int(block)], "block \(block) is released twice")
            isFree[Int(block)] = true
            freeBlocks.append(block)
        }
        table.removeAll()
    }

    /// Checks that every block is exactly once free or in exactly one of `tables`.
    ///
    /// - Parameter tables: the block tables of all sequences that exist.
    public func checkInvariants(
        tables: some Sequence<BlockTable>
    ) throws(BlockPoolInvariantError) {
        var seen = [Int](repeating: 0, count: blockCount)
        for block in freeBlocks {
            guard block >= 0, Int(block) < blockCount else {
                throw .blockOutOfRange(block: block, blockCount: blockCount)
            }
            guard isFree[Int(block)] else { throw .ownedBlockInFreeList(block: block) }
            seen[Int(block)] += 1
        }
        for table in tables {
            for block in table.blocks {
                guard block >= 0, Int(block) < blockCount else {
                    throw .blockOutOfRange(block: block, blockCount: blockCount)
                }
                guard !isFree[Int(block)] else { throw .freeBlockInTable(block: block) }
                seen[Int(block)] += 1
            }
        }
        for block in 0..<blockCount where seen[block] != 1 {
            throw .wrongOccurrences(block: Int32(block), count: seen[block])
        }
    }
}

/// The blocks of one sequence: block `i` holds positions `i * blockSize ..< (i + 1) * blockSize`.
///
/// Only ``BlockPool`` changes it, so that the pool and its tables cannot disagree.
public struct BlockTable: Hashable, Sendable {
    public private(set) var blocks: [Int32] = []

    public init() {}

    fileprivate mutating func append(_ block: Int32) { blocks.append(block) }
    fileprivate mutating func removeAll() { blocks.removeAll() }
}

/// What ``BlockPool/checkInvariants(tables:)`` found: always a bug of this program.
public enum BlockPoolInvariantError: Error, Hashable, CustomStringConvertible {
    case blockOutOfRange(block: Int32, blockCount: Int)
    case ownedBlockInFreeList(block: Int32)
    case freeBlockInTable(block: Int32)
    case wrongOccurrences(block: Int32, count: Int)

    public var description: String {
        switch self {
        case .blockOutOfRange(let block, let blockCount):
            "block \(block) does not exist in a pool of \(blockCount)"
        case .ownedBlockInFreeList(let block):
            "block \(block) is in the free list and marked as owned"
        case .freeBlockInTable(let block):
            "block \(block) is in a block table and marked as free"
        case .wrongOccurrences(let block, let count):
            "block \(block) is free or owned \(count) times instead of once"
        }
    }
}
