/// What ``BlockPool/checkInvariants(tables:)`` found: always a bug of this program.
public enum BlockPoolInvariantError: Error, Hashable, CustomStringConvertible {
    case blockOutOfRange(block: Int32, blockCount: Int)
    case ownedBlockInFreeList(block: Int32)
    case freeBlockInTable(block: Int32)
    case wrongOwners(block: Int32, counted: Int, found: Int)
    case sharedAtTwoPlaces(block: Int32)
    case cachedBlockNotFound(block: Int32)
    /// Behind a cached one in the free list.
    case cachedBlockTakenTooEarly(block: Int32)

    public var description: String {
        switch self {
        case .blockOutOfRange(let block, let blockCount):
            "block \(block) does not exist in a pool of \(blockCount)"
        case .ownedBlockInFreeList(let block):
            "block \(block) is in the free list and marked as owned"
        case .freeBlockInTable(let block):
            "block \(block) is in a block table and marked as free"
        case .wrongOwners(let block, let counted, let found):
            "block \(block) counts \(counted) owners, and \(found) tables hold it"
        case .sharedAtTwoPlaces(let block):
            "block \(block) stands at different places of two block tables"
        case .cachedBlockNotFound(let block):
            "block \(block) is cached, and its hash finds another"
        case .cachedBlockTakenTooEarly(let block):
            "block \(block) is not cached, and cached ones would be taken before it"
        }
    }
}
