/// From a token's text to its id while a tokenizer is loaded: open addressing over flat storage,
/// because a dictionary of 128,000 strings takes longer to build than the file to read.
///
/// The text of each token is kept once, one after another, without a string object.
struct TokenTextIndex {
    struct Entry {
        let start: Int
        let count: Int
        let id: Int32
    }

    private(set) var entries: [Entry] = []
    private var texts: [UInt8] = []
    private var hashes: [UInt32] = []
    /// Indices into `entries`; a power of two, at most half full.
    private var slots: [Int32]
    private let mask: Int

    private static let empty: Int32 = -1

    init(capacity: Int) {
        precondition(capacity >= 0 && capacity < 1 << 30, "capacity \(capacity)")
        var slotCount = 64
        while slotCount < capacity * 2 { slotCount *= 2 }
        slots = [Int32](repeating: Self.empty, count: slotCount)
        mask = slotCount - 1
        entries.reserveCapacity(capacity)
        hashes.reserveCapacity(capacity)
        texts.reserveCapacity(capacity * 8)
    }

    /// - Returns: false when the text is there already.
    mutating func insert(_ text: UnsafeBufferPointer<UInt8>, id: Int32) -> Bool {
        precondition(entries.count * 2 < slots.count, "\(entries.count) of \(slots.count) slots")
        let hash = Self.hash(text)
        let slot = slot(hash: hash, text)
        guard slots[slot] == Self.empty else { return false }
        slots[slot] = Int32(entries.count)
        entries.append(Entry(start: texts.count, count: text.count, id: id))
        hashes.append(hash)
        texts.append(contentsOf: text)
        return true
    }

    func id(of text: UnsafeBufferPointer<UInt8>) -> Int32? {
        let index = slots[slot(hash: Self.hash(text), text)]
        return index == Self.empty ? nil : entries[Int(index)].id
    }

    func withText<Result>(
        of entry: Entry, _ body: (UnsafeBufferPointer<UInt8>) -> Result
    ) -> Result {
        texts.withUnsafeBufferPointer {
            body(.init(rebasing: $0[entry.start..<entry.start + entry.count]))
        }
    }

    /// The slot that holds `text`, or the empty one where it belongs.
    private func slot(hash: UInt32, _ text: UnsafeBufferPointer<UInt8>) -> Int {
        slots.withUnsafeBufferPointer { slots in
            texts.withUnsafeBufferPointer { texts in
                var slot = Int(hash) & mask
                while slots[slot] != Self.empty {
                    let index = Int(slots[slot])
                    if hashes[index] == hash, entries[index].count == text.count,
                        Self.isEqual(texts, entries[index].start, text)
                    {
                        return slot
                    }
                    slot = (slot + 1) & mask
                }
                return slot
            }
        }
    }

    private static func isEqual(
        _ texts: UnsafeBufferPointer<UInt8>, _ start: Int, _ text: UnsafeBufferPointer<UInt8>
    ) -> Bool {
        for index in 0..<text.count where texts[start + index] != text[index] { return false }
        return true
    }

    /// FNV-1a, folded: token texts are a few bytes long.
    private static func hash(_ text: UnsafeBufferPointer<UInt8>) -> UInt32 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in text { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return UInt32(truncatingIfNeeded: hash ^ hash >> 32)
    }
}
