/// A set of worker indexes, in words of bits: whatever the size of the group, finding the first
/// members looks at some words, and nothing depends on an order of hashes.
struct WorkerSet: Equatable {
    private var words: [UInt64]
    private(set) var count = 0

    init(worldSize: UInt32, _ workers: some Sequence<UInt32>) {
        self.init(worldSize: worldSize)
        for worker in workers { insert(worker) }
    }

    /// - Parameter isFull: whether all of `0 ..< worldSize` are in it.
    init(worldSize: UInt32, isFull: Bool = false) {
        words = Array(repeating: 0, count: (Int(worldSize) + 63) / 64)
        if isFull { for worker in 0..<worldSize { insert(worker) } }
    }

    var isEmpty: Bool { count == 0 }
    var first: UInt32? { first(1).first }
    var last: UInt32? {
        for (place, word) in words.enumerated().reversed() where word != 0 {
            return UInt32(place * 64 + 63 - word.leadingZeroBitCount)
        }
        return nil
    }
    /// In order.
    var members: [UInt32] { first(count) }

    func contains(_ worker: UInt32) -> Bool {
        let place = Int(worker) / 64
        return place < words.count && words[place] & Self.bit(worker) != 0
    }

    mutating func insert(_ worker: UInt32) {
        let place = Int(worker) / 64
        guard place < words.count, words[place] & Self.bit(worker) == 0 else { return }
        words[place] |= Self.bit(worker)
        count += 1
    }

    mutating func remove(_ worker: UInt32) {
        guard contains(worker) else { return }
        words[Int(worker) / 64] &= ~Self.bit(worker)
        count -= 1
    }

    /// The lowest members, so many at most.
    func first(_ countMax: Int) -> [UInt32] {
        var found: [UInt32] = []
        for (place, word) in words.enumerated() {
            var left = word
            while left != 0 {
                if found.count >= countMax { return found }
                found.append(UInt32(place * 64 + left.trailingZeroBitCount))
                left &= left - 1
            }
        }
        return found
    }

    private static func bit(_ worker: UInt32) -> UInt64 { 1 << UInt64(worker % 64) }
}
