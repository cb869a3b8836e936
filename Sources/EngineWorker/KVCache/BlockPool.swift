public import Protocol

/// The blocks of one DP rank's paged KV cache, as numbers: which are free, which are owned and by
/// how many sequences, and which hold content that another sequence could use (prefix caching).
///
/// It must never touch the memory behind the numbers; that belongs to the backend. Everything is
/// O(1) a block and a function of the calls made before; nothing is allocated after `init` but
/// what block tables need to grow.
///
/// A block is *owned* (in at least one table) or *free*; either may be *cached*: full, and found by
/// the hash of its content. A cached block is never written again, so it may be in several tables.
/// Free blocks that are not cached are taken first, then the cached ones, the longest unused first;
/// of one sequence the last block first, since a block without those before it is of no use.
///
/// Source of the ideas: PagedAttention (Kwon et al., SOSP 2023), vLLM's automatic prefix caching.
public struct BlockPool: Sendable {
    public let blockCount: Int
    /// Positions that one block holds.
    public let blockSize: Int

    /// `[blockCount]`: tables that hold the block.
    private var ownerCounts: [Int32]
    private var free: FreeBlockList
    private var index: PrefixIndex

    /// - Parameter caches: whether blocks are ever cached.
    public init(blockCount: Int, blockSize: Int, caches: Bool = false) {
        precondition(blockCount > 0 && blockCount < Int(Int32.max), "\(blockCount) blocks")
        precondition(blockSize > 0, "block size \(blockSize)")
        precondition(
            blockSize <= Int(Int32.max) / blockCount,
            "\(blockCount) blocks of \(blockSize) have more slots than Int32 counts")
        self.blockCount = blockCount
        self.blockSize = blockSize
        ownerCounts = Array(repeating: 0, count: blockCount)
        free = FreeBlockList(blockCount: blockCount)
        index = PrefixIndex(blockCount: caches ? blockCount : 0)
    }

    /// Blocks that can be taken; those with cached content are among them.
    public var freeCount: Int { free.count }
    public var usedCount: Int { blockCount - free.count }
    /// Blocks that a hash finds, owned or free.
    public var cachedCount: Int { index.count }
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
        guard missing <= free.count else { return false }
        for _ in 0..<missing { table.append(takeFirst()) }
        return true
    }

    private mutating func takeFirst() -> Int32 {
        guard let block = free.first else { preconditionFailure("no block is free") }
        free.remove(block)
        if index.contains(block: block) { index.remove(block: block) }
        ownerCounts[Int(block)] = 1
        return block
    }

    /// Returns every block of `table`, last first.
    public mutating func release(_ table: inout BlockTable) {
        for block in table.blocks.reversed() {
            precondition(
                block >= 0 && Int(block) < blockCount, "block \(block) of a pool of \(blockCount)")
            precondition(ownerCounts[Int(block)] > 0, "block \(block) is released twice")
            ownerCounts[Int(block)] -= 1
            guard ownerCounts[Int(block)] == 0 else { continue }
            if index.contains(block: block) { free.append(block) } else { free.prepend(block) }
        }
        table.removeAll()
    }

    // MARK: Prefix caching

    /// Whether a block holds the content of this name.
    public func isCached(_ hash: BlockHash) -> Bool { index.block(of: hash) != nil }

    /// Fills an empty table with the cached blocks of `hashes`, and then with free ones as far as
    /// `positionCount` positions need.
    ///
    /// All or nothing, as ``extend(_:positionCount:)``.
    ///
    /// - Parameter reserve: blocks that must be free afterwards.
    public mutating func fill(
        _ table: inout BlockTable, cached hashes: ArraySlice<BlockHash>, positionCount: Int,
        reserve: Int = 0
    ) -> Bool {
        precondition(table.blocks.isEmpty, "the table has \(table.blocks.count) blocks")
        var revived = 0
        for hash in hashes where ownerCounts[Int(cachedBlock(hash))] == 0 { revived += 1 }
        let missing = blocksNeeded(positionCount: positionCount) - hashes.count
        precondition(missing >= 0, "\(hashes.count) cached blocks for \(positionCount) positions")
        guard missing + revived + reserve <= free.count else { return false }
        for hash in hashes {
            let block = cachedBlock(hash)
            if ownerCounts[Int(block)] == 0 { free.remove(block) }
            ownerCounts[Int(block)] += 1
            table.append(block)
        }
        return extend(&table, positionCount: positionCount)
    }

    private func cachedBlock(_ hash: BlockHash) -> Int32 {
        guard let block = index.block(of: hash) else { preconditionFailure("it is not cached") }
        return block
    }

    /// Says what a full block, owned and computed, holds. It must not be written any more. Where
    /// another block has the same content, that one stays the one that is found.
    public mutating func cache(_ block: Int32, as hash: BlockHash) {
        precondition(ownerCounts[Int(block)] > 0, "block \(block) is free")
        if index.contains(block: block) {
            precondition(index.lastHash(of: block) == hash, "block \(block) has other content")
            return
        }
        _ = index.insert(hash, block: block)
    }

    /// Makes the blocks of `table` unknown to others, because their content is not to be trusted.
    public mutating func forget(_ table: BlockTable) {
        for block in table.blocks where index.contains(block: block) { index.remove(block: block) }
    }

    /// Makes all blocks unknown.
    public mutating func forgetAll() {
        for block in 0..<Int32(blockCount) where index.contains(block: block) {
            index.remove(block: block)
        }
    }

    // MARK: Checks

    /// What an owned block was cached as; to compare with what its owners mean.
    func lastHash(of block: Int32) -> BlockHash { index.lastHash(of: block) }

    func ownerCount(of block: Int32) -> Int { Int(ownerCounts[Int(block)]) }

    /// Checks that every block is either once in the free list or owned by as many of `tables` as
    /// it counts, at one place in all of them.
    ///
    /// - Parameter tables: the block tables of all sequences that exist.
    public func checkInvariants(
        tables: some Sequence<BlockTable>
    ) throws(BlockPoolInvariantError) {
        var owners = [Int](repeating: 0, count: blockCount)
        var places = owners
        for table in tables {
            for (place, block) in table.blocks.enumerated() {
                guard block >= 0, Int(block) < blockCount else {
                    throw .blockOutOfRange(block: block, blockCount: blockCount)
                }
                guard !free.contains(block) else { throw .freeBlockInTable(block: block) }
                guard owners[Int(block)] == 0 || places[Int(block)] == place else {
                    throw .sharedAtTwoPlaces(block: block)
                }
                owners[Int(block)] += 1
                places[Int(block)] = place
            }
        }
        try checkFreeList()
        for block in 0..<Int32(blockCount) {
            let (found, counted) = (owners[Int(block)], Int(ownerCounts[Int(block)]))
            guard found == counted, found > 0 || free.contains(block) else {
                throw .wrongOwners(block: block, counted: counted, found: found)
            }
            guard !index.contains(block: block) || index.block(of: lastHash(of: block)) == block
            else { throw .cachedBlockNotFound(block: block) }
        }
    }

    private func checkFreeList() throws(BlockPoolInvariantError) {
        var count = 0
        var next = free.first
        var cachedBefore = false
        while let block = next {
            guard ownerCounts[Int(block)] == 0, count < blockCount else {
                throw .ownedBlockInFreeList(block: block)
            }
            let isCached = index.contains(block: block)
            guard isCached || !cachedBefore else { throw .cachedBlockTakenTooEarly(block: block) }
            cachedBefore = isCached
            count += 1
            next = free.next(after: block)
        }
        precondition(count == free.count, "\(count) free blocks, counted \(free.count)")
    }
}

/// The blocks of one sequence: block `i` holds positions `i * blockSize ..< (i + 1) * blockSize`.
///
/// Only ``BlockPool`` changes it, so that the pool and its tables cannot disagree.
public struct BlockTable: Hashable, Sendable {
    public private(set) var blocks: [Int32] = []

    public init() {}

    /// Makes room, so that growing up to `blockCount` blocks allocates nothing.
    mutating func reserve(_ blockCount: Int) { blocks.reserveCapacity(blockCount) }

    fileprivate mutating func append(_ block: Int32) { blocks.append(block) }
    fileprivate mutating func removeAll() { blocks.removeAll(keepingCapacity: true) }
}
