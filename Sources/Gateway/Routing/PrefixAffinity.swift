/// Which blocks each rank has been sent, by the beginning of their names, so that a prompt which
/// begins like an earlier one finds the ranks that should have that part cached.
///
/// An index of bounded size for each rank, of which the blocks that were used longest ago go first,
/// as they do in the rank's cache. It is a guess: a rank may have given up a block, and then
/// computes it again. Lookups cost the blocks times the ranks that have them, up to a bound.
struct PrefixAffinity: Sendable {
    /// Blocks of all ranks together.
    static let nodesMax = 1 << 19
    /// Looked at for one prompt; blocks behind that count as not found.
    static let visitsMax = 1 << 14
    private static let none: Int32 = -1

    /// One block at one rank.
    private struct Node: Sendable {
        var block: UInt64
        var dpRank: Int32
        /// The same block at another rank.
        var nextOfBlock: Int32
        /// Neighbours in the rank's order of use.
        var older: Int32
        var newer: Int32
    }

    private struct RankList: Sendable {
        var oldest = PrefixAffinity.none
        var newest = PrefixAffinity.none
        var count = 0
        var limit = 0
        /// Leading blocks of the prompt last looked for.
        var found = 0
        /// The search that `found` belongs to.
        var search: UInt64 = 0
    }

    private let blockSize: Int
    private var nodes: [Node] = []
    private var freeNode = PrefixAffinity.none
    /// First node of a block; looked up, never iterated.
    private var heads: [UInt64: Int32] = [:]
    /// By DP rank.
    private var lists: [RankList] = []
    private var rankCount = 0
    private var search: UInt64 = 0

    init(blockSize: Int) {
        precondition(blockSize > 0, "blocks of \(blockSize) tokens")
        self.blockSize = blockSize
    }

    /// - Parameter cacheCapacity: tokens that the rank's cache holds; 0 where that is not known.
    mutating func onRank(_ dpRank: Int, cacheCapacity: Int) {
        while lists.count <= dpRank { lists.append(RankList()) }
        let share = Self.nodesMax / lists.count
        let blocks = cacheCapacity > 0 ? cacheCapacity / blockSize : share
        lists[dpRank].limit = max(min(blocks, share), 1)
        // Ranks that came earlier had the share of fewer.
        for rank in lists.indices {
            lists[rank].limit = min(lists[rank].limit, max(share, 1))
            while lists[rank].count > lists[rank].limit { removeOldest(of: rank) }
        }
    }

    mutating func onRankLost(_ dpRank: Int) {
        guard lists.indices.contains(dpRank) else { return }
        while lists[dpRank].oldest != Self.none { removeOldest(of: dpRank) }
        lists[dpRank].search = 0
    }

    // MARK: Lookup

    /// Finds what each rank has of a prompt; ``foundTokens(of:)`` says it until the next search.
    ///
    /// - Parameter tokens: of the prompt; the last one is always computed.
    /// - Returns: how many places it looked at.
    mutating func find(_ blocks: [UInt64], tokens: Int) -> Int {
        search += 1
        let limit = min(blocks.count, max(tokens - 1, 0) / blockSize)
        var visits = 0
        for place in 0..<limit {
            var isFound = false
            var index = heads[blocks[place]] ?? Self.none
            while index != Self.none {
                let node = nodes[Int(index)]
                index = node.nextOfBlock
                visits += 1
                guard visits <= Self.visitsMax else { return visits }
                isFound = advance(Int(node.dpRank), to: place) || isFound
            }
            guard isFound else { break }
        }
        return visits
    }

    /// Whether a rank has the block as well as all blocks before it.
    private mutating func advance(_ dpRank: Int, to place: Int) -> Bool {
        let found = lists[dpRank].search == search ? lists[dpRank].found : 0
        guard found == place else { return false }
        lists[dpRank].search = search
        lists[dpRank].found = place + 1
        return true
    }

    func foundTokens(of dpRank: Int) -> Int {
        guard lists.indices.contains(dpRank), lists[dpRank].search == search else { return 0 }
        return lists[dpRank].found * blockSize
    }

    // MARK: Changes

    /// A rank will have these blocks cached. The last ones count as used longest ago, as they are
    /// of no use without those before them.
    mutating func onSent(_ blocks: [UInt64], to dpRank: Int) {
        guard lists.indices.contains(dpRank), lists[dpRank].limit > 0 else { return }
        for block in blocks.prefix(lists[dpRank].limit).reversed() {
            if let index = node(of: block, at: dpRank) {
                detach(index, of: dpRank)
                append(index, to: dpRank)
            } else {
                insert(block, at: dpRank)
            }
        }
    }

    private func node(of block: UInt64, at dpRank: Int) -> Int32? {
        var index = heads[block] ?? Self.none
        while index != Self.none {
            if nodes[Int(index)].dpRank == Int32(dpRank) { return index }
            index = nodes[Int(index)].nextOfBlock
        }
        return nil
    }

    private mutating func insert(_ block: UInt64, at dpRank: Int) {
        while lists[dpRank].count >= lists[dpRank].limit { removeOldest(of: dpRank) }
        let node = Node(
            block: block, dpRank: Int32(dpRank), nextOfBlock: heads[block] ?? Self.none,
            older: Self.none, newer: Self.none)
        var index = freeNode
        if index == Self.none {
            index = Int32(nodes.count)
            nodes.append(node)
        } else {
            freeNode = nodes[Int(index)].nextOfBlock
            nodes[Int(index)] = node
        }
        heads[block] = index
        append(index, to: dpRank)
        lists[dpRank].count += 1
    }

    private mutating func removeOldest(of dpRank: Int) {
        let index = lists[dpRank].oldest
        let node = nodes[Int(index)]
        detach(index, of: dpRank)
        lists[dpRank].count -= 1
        if heads[node.block] == index {
            heads[node.block] = node.nextOfBlock == Self.none ? nil : node.nextOfBlock
        } else if var before = heads[node.block] {
            while nodes[Int(before)].nextOfBlock != index {
                before = nodes[Int(before)].nextOfBlock
            }
            nodes[Int(before)].nextOfBlock = node.nextOfBlock
        }
        nodes[Int(index)].nextOfBlock = freeNode
        freeNode = index
    }

    private mutating func append(_ index: Int32, to dpRank: Int) {
        let newest = lists[dpRank].newest
        nodes[Int(index)].older = newest
        nodes[Int(index)].newer = Self.none
        if newest == Self.none {
            lists[dpRank].oldest = index
        } else {
            nodes[Int(newest)].newer = index
        }
        lists[dpRank].newest = index
    }

    private mutating func detach(_ index: Int32, of dpRank: Int) {
        let (older, newer) = (nodes[Int(index)].older, nodes[Int(index)].newer)
        if older == Self.none {
            lists[dpRank].oldest = newer
        } else {
            nodes[Int(older)].newer = newer
        }
        if newer == Self.none {
            lists[dpRank].newest = older
        } else {
            nodes[Int(newer)].older = older
        }
    }

    /// Blocks of a rank; and, for tests, whether all lists and chains agree.
    func count(of dpRank: Int) -> Int { lists.indices.contains(dpRank) ? lists[dpRank].count : 0 }
}
