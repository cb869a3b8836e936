internal import Protocol

/// Which block of the KV cache holds the content that a hash names.
///
/// An open-addressing table with linear probing, of its final size from the start: it never
/// allocates afterwards. A slot holds a block's number; the block's hash stands in `hashes`. Half
/// of the slots at least are empty, so a search ends. The hash is a cryptographic digest, whose
/// first words are as good an index as any (keys cannot be chosen to collide in more than the few
/// bits that make the home slot, which costs time and no correctness).
struct PrefixIndex: Sendable {
    private static let empty: Int32 = -1

    private var slots: [Int32]
    /// `[blocks]`; what the block was last cached as.
    private var hashes: [BlockHash]
    /// `[blocks]`
    private var isCached: [Bool]
    private(set) var count = 0

    /// - Parameter blockCount: 0 makes a table that is never asked for a block.
    init(blockCount: Int) {
        var slotCount = 2
        while slotCount < 2 * blockCount { slotCount *= 2 }
        slots = Array(repeating: Self.empty, count: slotCount)
        hashes = Array(repeating: .root(blockSize: 0), count: blockCount)
        isCached = Array(repeating: false, count: blockCount)
    }

    func contains(block: Int32) -> Bool { Int(block) < isCached.count && isCached[Int(block)] }

    /// What the block was last cached as, whether or not it still is.
    func lastHash(of block: Int32) -> BlockHash { hashes[Int(block)] }

    func block(of hash: BlockHash) -> Int32? {
        let block = slots[slot(of: hash)]
        return block == Self.empty ? nil : block
    }

    /// False, and nothing changed, where another block has this content already.
    mutating func insert(_ hash: BlockHash, block: Int32) -> Bool {
        precondition(!isCached[Int(block)], "block \(block) is cached twice")
        hashes[Int(block)] = hash
        let slot = slot(of: hash)
        guard slots[slot] == Self.empty else { return false }
        slots[slot] = block
        isCached[Int(block)] = true
        count += 1
        return true
    }

    /// Removes a cached block, and closes the gap (Knuth, vol. 3, algorithm 6.4R).
    mutating func remove(block: Int32) {
        precondition(isCached[Int(block)], "block \(block) is not cached")
        var gap = slot(of: hashes[Int(block)])
        precondition(slots[gap] == block, "slot \(gap) holds \(slots[gap]), not \(block)")
        isCached[Int(block)] = false
        count -= 1
        let mask = slots.count - 1
        var next = (gap + 1) & mask
        while slots[next] != Self.empty {
            let distance = (next - home(of: hashes[Int(slots[next])])) & mask
            // It may move back as far as its home.
            if distance >= (next - gap) & mask {
                slots[gap] = slots[next]
                gap = next
            }
            next = (next + 1) & mask
        }
        slots[gap] = Self.empty
    }

    /// Where the hash is, or would be inserted.
    private func slot(of hash: BlockHash) -> Int {
        let mask = slots.count - 1
        var slot = home(of: hash)
        while slots[slot] != Self.empty && hashes[Int(slots[slot])] != hash {
            slot = (slot + 1) & mask
        }
        return slot
    }

    private func home(of hash: BlockHash) -> Int {
        let high = hash.prefix
        return Int(truncatingIfNeeded: high) & (slots.count - 1)
    }
}
