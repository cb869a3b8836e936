/// The blocks that nobody owns, in the order in which they are taken.
///
/// A doubly linked list inside two arrays, so that any block leaves it in O(1) (a cached one that
/// is wanted again) and nothing is allocated.
struct FreeBlockList: Sendable {
    private static let absent: Int32 = -1

    /// `[blocks + 1]`; the last place is the list's head and tail. ``absent`` where not in it.
    private var nexts: [Int32]
    private var previouses: [Int32]
    private(set) var count = 0

    /// All blocks, the lowest first.
    init(blockCount: Int) {
        nexts = Array(repeating: Self.absent, count: blockCount + 1)
        previouses = nexts
        nexts[blockCount] = Int32(blockCount)
        previouses[blockCount] = Int32(blockCount)
        for block in 0..<Int32(blockCount) { append(block) }
    }

    private var end: Int32 { Int32(nexts.count - 1) }

    func contains(_ block: Int32) -> Bool { nexts[Int(block)] != Self.absent }

    /// The block that is taken next; nil where there is none.
    var first: Int32? { count == 0 ? nil : nexts[Int(end)] }

    /// The block after one in the list; nil at its end.
    func next(after block: Int32) -> Int32? {
        let next = nexts[Int(block)]
        return next == end ? nil : next
    }

    /// To be taken first.
    mutating func prepend(_ block: Int32) { insert(block, after: end) }

    /// To be taken last.
    mutating func append(_ block: Int32) { insert(block, after: previouses[Int(end)]) }

    mutating func remove(_ block: Int32) {
        precondition(contains(block), "block \(block) is not free")
        let (next, previous) = (nexts[Int(block)], previouses[Int(block)])
        nexts[Int(previous)] = next
        previouses[Int(next)] = previous
        nexts[Int(block)] = Self.absent
        count -= 1
    }

    private mutating func insert(_ block: Int32, after previous: Int32) {
        precondition(block >= 0 && block < end, "block \(block) of a pool of \(end)")
        precondition(!contains(block), "block \(block) is released twice")
        let next = nexts[Int(previous)]
        nexts[Int(previous)] = block
        previouses[Int(next)] = block
        nexts[Int(block)] = next
        previouses[Int(block)] = previous
        count += 1
    }
}
