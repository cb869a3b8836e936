/// From a pair of token ids to the merge of the two: its rank and the id of the whole.
///
/// Open addressing over 64-bit keys; it is asked twice for every merge that is done, so a look-up
/// must be one cache miss. Never grows: the number of merges is known when it is made.
struct MergeTable {
    struct Merge {
        /// Position in the list of merges; the lowest one is done first.
        let rank: UInt32
        let id: Int32
    }

    private struct Slot {
        /// `left << 32 | right`; ids are not negative, so all ones is free.
        var key: UInt64 = .max
        var rank: UInt32 = 0
        var id: Int32 = 0
    }

    private var slots: [Slot]
    private let mask: Int
    private let shift: UInt64

    init(capacity: Int) {
        precondition(capacity >= 0 && capacity < 1 << 30, "capacity \(capacity)")
        var bits: UInt64 = 6
        while 1 << bits < capacity * 2 { bits += 1 }
        slots = [Slot](repeating: Slot(), count: 1 << bits)
        mask = slots.count - 1
        shift = 64 - bits
    }

    /// A pair that is listed twice has its last rank, as in tokenizers, where a map is filled.
    mutating func insert(left: Int32, right: Int32, rank: UInt32, id: Int32) {
        let key = Self.key(left, right)
        var slot = start(key)
        while slots[slot].key != .max && slots[slot].key != key { slot = (slot + 1) & mask }
        slots[slot] = Slot(key: key, rank: rank, id: id)
    }

    @inline(__always)
    func merge(left: Int32, right: Int32) -> Merge? {
        slots.withUnsafeBufferPointer { slots in
            let key = Self.key(left, right)
            var slot = start(key)
            while slots[slot].key != key {
                if slots[slot].key == .max { return nil }
                slot = (slot + 1) & mask
            }
            return Merge(rank: slots[slot].rank, id: slots[slot].id)
        }
    }

    @inline(__always)
    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    }

    /// Fibonacci hashing: the high bits of a product with 2^64 divided by the golden ratio.
    @inline(__always)
    private func start(_ key: UInt64) -> Int {
        Int(truncatingIfNeeded: ((key ^ key >> 29) &* 0x9E37_79B9_7F4A_7C15) >> shift)
    }
}
