import Testing

@testable import EngineWorker

/// A model whose logits are a hash of all tokens up to a row, read back through the paged cache.
///
/// It keeps what each slot of the cache holds: as in a real model, a function of all tokens up to
/// its position. A wrong token, position, slot or block table in a plan, a block written by two
/// sequences, or one read before it is computed, changes the hash or is found as a foreign slot.
struct PagedFakeModel {
    static let vocabularyCount = 32

    struct Slot: Equatable {
        let position: Int
        let token: Int32
        /// Of all tokens through this one.
        let context: UInt64
    }

    let blockSize: Int
    private(set) var memory: [Slot?]

    init(blockCount: Int, blockSize: Int) {
        self.blockSize = blockSize
        memory = Array(repeating: nil, count: blockCount * blockSize)
    }

    /// `[plan.logitRows.count, vocabularyCount]`
    mutating func forward(_ plan: StepPlan) -> [Float] {
        checkShape(plan)
        // What a step reads of earlier positions must be there before it begins.
        let contexts = plan.entries.map { read(plan, $0, through: $0.firstPosition).last }
        for (entry, context) in zip(plan.entries, contexts) {
            var hash = context ?? Self.emptyHash
            for row in entry.firstRow..<(entry.firstRow + entry.rowCount) {
                hash = Self.hash(hash, plan.tokenIDs[row])
                memory[Int(plan.slots[row])] = Slot(
                    position: Int(plan.positions[row]), token: plan.tokenIDs[row], context: hash)
            }
        }
        let wanted = Set(plan.logitRows)
        var logits: [Float] = []
        for entry in plan.entries {
            let hashes = read(plan, entry, through: entry.firstPosition + entry.rowCount)
            for (row, hash) in hashes.dropFirst(entry.firstPosition).enumerated()
            where wanted.contains(Int32(entry.firstRow + row)) {
                logits += Self.logits(hash)
            }
        }
        return logits
    }

    /// Hashes through positions `0 ..< end`, from the tokens in the cache.
    private func read(_ plan: StepPlan, _ entry: StepPlan.Entry, through end: Int) -> [UInt64] {
        let table = plan.blockTables[entry.firstBlock..<(entry.firstBlock + entry.blockCount)]
        var hashes: [UInt64] = []
        for position in 0..<end {
            let block = Int(table[entry.firstBlock + position / blockSize])
            let slot = memory[block * blockSize + position % blockSize]
            hashes.append(Self.hash(hashes.last ?? Self.emptyHash, slot?.token ?? -1))
            #expect(slot?.position == position && slot?.context == hashes.last)
        }
        return hashes
    }

    private func checkShape(_ plan: StepPlan) {
        #expect(plan.positions.count == plan.rowCount && plan.slots.count == plan.rowCount)
        #expect(Set(plan.slots).count == plan.rowCount, "two rows write one slot")
        #expect(Set(plan.entries.map(\.sequence)).count == plan.entries.count)
        let firstPrefill = plan.entries.firstIndex { !$0.isDecode } ?? plan.entries.count
        #expect(plan.entries[firstPrefill...].allSatisfy { !$0.isDecode }, "decode after prefill")
        #expect(plan.entries.allSatisfy { !$0.isDecode || ($0.rowCount == 1 && $0.samples) })
        var row = 0
        var block = 0
        for entry in plan.entries {
            #expect(entry.firstRow == row && entry.firstBlock == block && entry.rowCount >= 1)
            #expect(plan.positions[row] == Int32(entry.firstPosition))
            row += entry.rowCount
            block += entry.blockCount
        }
        #expect(row == plan.rowCount && block == plan.blockTables.count)
    }

    static let emptyHash: UInt64 = 0xCBF2_9CE4_8422_2325

    static func hash(_ hash: UInt64, _ token: Int32) -> UInt64 {
        var bits = (hash ^ UInt64(truncatingIfNeeded: token)) &* 0x0000_0100_0000_01B3
        bits ^= bits >> 29
        return bits
    }

    static func logits(_ hash: UInt64) -> [Float] {
        var random = TestRandom(seed: hash)
        return (0..<vocabularyCount).map { _ in random.float(bound: 3) }
    }

    static func logits(after tokens: some Sequence<Int32>) -> [Float] {
        logits(tokens.reduce(emptyHash) { hash($0, $1) })
    }
}
