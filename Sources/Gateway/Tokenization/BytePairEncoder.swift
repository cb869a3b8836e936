/// Byte pair encoding of one piece of text: of all neighbouring pairs the merge of lowest rank is
/// done, leftmost first, until no pair has a merge. Source: Sennrich, Haddow, Birch (ACL 2016).
///
/// Pieces are mostly words, for which scanning an array beats any structure; long pieces take a
/// linked list and a heap, so that a megabyte of one letter is not quadratic. Buffers are kept.
struct BytePairEncoder {
    /// Above this many symbols the heap is used.
    private static let scannedSymbolsMax = 48
    /// Buffers of longer pieces are not kept: they take 30 bytes a symbol.
    private static let keptSymbolsMax = 1 << 16
    private static let noRank = UInt32.max

    private let merges: MergeTable
    /// The token of each single byte.
    private let byteIDs: [Int32]

    private var ids: [Int32] = []
    /// Rank of the merge of each symbol with the next one, or `noRank`.
    private var ranks: [UInt32] = []
    /// What that merge makes.
    private var merged: [Int32] = []
    private var previous: [Int32] = []
    private var next: [Int32] = []
    /// Binary heap of `rank << 32 | position`, smallest first; entries may be out of date.
    private var heap: [UInt64] = []

    init(merges: MergeTable, byteIDs: [Int32]) {
        precondition(byteIDs.count == 256, "\(byteIDs.count) bytes")
        self.merges = merges
        self.byteIDs = byteIDs
    }

    /// Appends the ids of `piece` to `output`.
    mutating func encode(_ piece: UnsafeBufferPointer<UInt8>, into output: inout [Int32]) {
        precondition(piece.count < Int32.max, "a piece of \(piece.count) bytes")
        switch piece.count {
        case 0: return
        case 1: output.append(byteIDs[Int(piece[0])])
        default:
            load(piece)
            if piece.count <= Self.scannedSymbolsMax {
                let count = mergeByScanning(piece.count)
                output.append(contentsOf: ids[..<count])
            } else {
                mergeByHeap(piece.count)
                var position: Int32 = 0
                while position >= 0 {
                    output.append(ids[Int(position)])
                    position = next[Int(position)]
                }
                if piece.count > Self.keptSymbolsMax { dropBuffers() }
            }
        }
    }

    private mutating func dropBuffers() {
        ids = []
        ranks = []
        merged = []
        previous = []
        next = []
        heap = []
    }

    private mutating func load(_ piece: UnsafeBufferPointer<UInt8>) {
        if ids.count < piece.count {
            ids = [Int32](repeating: 0, count: piece.count)
            ranks = [UInt32](repeating: Self.noRank, count: piece.count)
            merged = [Int32](repeating: 0, count: piece.count)
        }
        for index in 0..<piece.count { ids[index] = byteIDs[Int(piece[index])] }
        for index in 0..<piece.count - 1 { rank(index, with: index + 1) }
        ranks[piece.count - 1] = Self.noRank
    }

    @inline(__always)
    private mutating func rank(_ left: Int, with right: Int) {
        if let merge = merges.merge(left: ids[left], right: ids[right]) {
            ranks[left] = merge.rank
            merged[left] = merge.id
        } else {
            ranks[left] = Self.noRank
        }
    }

    /// - Returns: the number of symbols left, at the start of `ids`.
    private mutating func mergeByScanning(_ symbolCount: Int) -> Int {
        var count = symbolCount
        while count > 1 {
            var best = 0
            for index in 1..<count where ranks[index] < ranks[best] { best = index }
            guard ranks[best] != Self.noRank else { break }
            ids[best] = merged[best]
            count -= 1
            for index in best + 1..<max(count, best + 1) {
                ids[index] = ids[index + 1]
                ranks[index] = ranks[index + 1]
                merged[index] = merged[index + 1]
            }
            ranks[count - 1] = Self.noRank
            if best + 1 < count { rank(best, with: best + 1) }
            if best > 0 { rank(best - 1, with: best) }
        }
        return count
    }

    private mutating func mergeByHeap(_ symbolCount: Int) {
        previous = (0..<Int32(symbolCount)).map { $0 - 1 }
        next = (1...Int32(symbolCount)).map { $0 < symbolCount ? $0 : -1 }
        heap.removeAll(keepingCapacity: true)
        for position in 0..<symbolCount { push(position) }
        while let entry = pop() {
            let position = Int(entry & 0xFFFF_FFFF)
            // A rank names one pair, so an entry whose rank is no longer the symbol's is stale.
            guard ranks[position] == UInt32(entry >> 32) else { continue }
            let absorbed = Int(next[position])
            let following = next[absorbed]
            ids[position] = merged[position]
            ranks[absorbed] = Self.noRank
            next[position] = following
            ranks[position] = Self.noRank
            if following >= 0 {
                previous[Int(following)] = Int32(position)
                rank(position, with: Int(following))
                push(position)
            }
            if previous[position] >= 0 {
                rank(Int(previous[position]), with: position)
                push(Int(previous[position]))
            }
        }
    }

    private mutating func push(_ position: Int) {
        guard ranks[position] != Self.noRank else { return }
        heap.append(UInt64(ranks[position]) << 32 | UInt64(position))
        var child = heap.count - 1
        while child > 0, heap[child] < heap[(child - 1) / 2] {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func pop() -> UInt64? {
        guard let top = heap.first, let last = heap.popLast() else { return nil }
        guard !heap.isEmpty else { return top }
        heap[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < heap[parent] else { break }
            heap.swapAt(child, parent)
            parent = child
        }
        return top
    }
}
