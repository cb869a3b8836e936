import Testing

@testable import EngineWorker

/// A model whose logits are a hash of all tokens up to a row, read back through the paged cache.
///
/// It keeps what each slot of the cache holds. A wrong token, position, slot or block table in a
/// plan, or a block given to two sequences, changes the hash or is found as a foreign slot.
struct PagedFakeModel {
    static let vocabularyCount = 32

    struct Slot: Equatable {
        let sequence: SequenceID
        let position: Int
        let token: Int32
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
        for entry in plan.entries {
            for row in entry.firstRow..<(entry.firstRow + entry.rowCount) {
                memory[Int(plan.slots[row])] = Slot(
                    sequence: entry.sequence,
                    position: Int(plan.positions[row]),
                    token: plan.tokenIDs[row])
            }
        }
        let wanted = Set(plan.logitRows)
        var logits: [Float] = []
        for entry in plan.entries {
            let table = plan.blockTables[entry.firstBlock..<(entry.firstBlock + entry.blockCount)]
            var hash = Self.emptyHash
            for position in 0..<(entry.firstPosition + entry.rowCount) {
                let block = Int(table[entry.firstBlock + position / blockSize])
                let slot = memory[block * blockSize + position % blockSize]
                #expect(slot?.sequence == entry.sequence && slot?.position == position)
                hash = Self.hash(hash, slot?.token ?? -1)
                let row = entry.firstRow + position - entry.firstPosition
                if position >= entry.firstPosition, wanted.contains(Int32(row)) {
                    logits += Self.logits(hash)
                }
            }
        }
        return logits
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
