/// A plan as bytes, from a leader to its TP peers: little-endian words of 32 bits.
///
/// Magic, entries, rows, blocks, logit rows; a row of eight words an entry (sequence low, high,
/// first row, rows, first position, first block, blocks, flags: 1 samples, 2 decodes); token ids,
/// positions, slots, block tables, logit rows. The counts decide the size.
extension StepPlan {
    private static let magic: UInt32 = 0x5058_5031  // "PXP1"
    static let headerWords = 5
    static let entryWords = 8

    /// What a receiver's memory allows; a plan beyond it is refused.
    struct Bounds: Hashable, Sendable {
        let rowsMax: Int
        let blockCount: Int
        let blockSize: Int
        let vocabularySize: Int
        /// Positions of a sequence: what the model's tables of angles have.
        let modelLength: Int

        /// No plan takes more: each entry has a row, and a table of at most all blocks.
        var byteCountMax: Int {
            4 * (StepPlan.headerWords + rowsMax * (StepPlan.entryWords + 4) + rowsMax * blockCount)
        }
    }

    private var wordCount: Int {
        Self.headerWords + entries.count * Self.entryWords + 3 * tokenIDs.count
            + blockTables.count + logitRows.count
    }

    /// 0 for a dummy batch, which needs no message.
    var encodedByteCount: Int { isDummy ? 0 : wordCount * 4 }

    func encode(into buffer: UnsafeMutableRawBufferPointer) {
        precondition(buffer.count == encodedByteCount, "\(buffer.count) bytes for a plan")
        var at = 0
        func put(_ value: UInt32) {
            buffer.storeBytes(of: value.littleEndian, toByteOffset: at, as: UInt32.self)
            at += 4
        }
        func put(_ values: [Int32]) {
            for value in values { put(UInt32(bitPattern: value)) }
        }
        put(Self.magic)
        for count in [entries.count, tokenIDs.count, blockTables.count, logitRows.count] {
            put(UInt32(count))
        }
        for entry in entries {
            put(UInt32(truncatingIfNeeded: entry.sequence.rawValue))
            put(UInt32(truncatingIfNeeded: entry.sequence.rawValue >> 32))
            put(UInt32(entry.firstRow))
            put(UInt32(entry.rowCount))
            put(UInt32(entry.firstPosition))
            put(UInt32(entry.firstBlock))
            put(UInt32(entry.blockCount))
            put((entry.samples ? 1 : 0) | (entry.isDecode ? 2 : 0))
        }
        put(tokenIDs)
        put(positions)
        put(slots)
        put(blockTables)
        put(logitRows)
    }

    /// Takes the plan from `bytes`, which another process wrote.
    ///
    /// - Returns: whether it is one, and inside `bounds`; else this plan is empty.
    mutating func decode(_ bytes: UnsafeRawBufferPointer, within bounds: Bounds) -> Bool {
        removeAll()
        guard read(bytes), isInside(bounds) else {
            removeAll()
            return false
        }
        return true
    }

    private mutating func read(_ bytes: UnsafeRawBufferPointer) -> Bool {
        func word(_ index: Int) -> UInt32 {
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 4, as: UInt32.self))
        }
        guard bytes.count >= Self.headerWords * 4, word(0) == Self.magic else { return false }
        let counts = (1..<Self.headerWords).map { Int(word($0)) }
        let words =
            Self.headerWords + counts[0] * Self.entryWords + 3 * counts[1] + counts[2] + counts[3]
        guard bytes.count == words * 4, counts[1] > 0 else { return false }
        var at = Self.headerWords
        for _ in 0..<counts[0] {
            entries.append(
                Entry(
                    sequence: SequenceID(rawValue: UInt64(word(at)) | UInt64(word(at + 1)) << 32),
                    firstRow: Int(word(at + 2)), rowCount: Int(word(at + 3)),
                    firstPosition: Int(word(at + 4)), firstBlock: Int(word(at + 5)),
                    blockCount: Int(word(at + 6)), samples: word(at + 7) & 1 != 0,
                    isDecode: word(at + 7) & 2 != 0))
            at += Self.entryWords
        }
        func take(_ count: Int, into values: inout [Int32]) {
            for index in at..<(at + count) { values.append(Int32(bitPattern: word(index))) }
            at += count
        }
        take(counts[1], into: &tokenIDs)
        take(counts[1], into: &positions)
        take(counts[1], into: &slots)
        take(counts[2], into: &blockTables)
        take(counts[3], into: &logitRows)
        return true
    }

    private func isInside(_ bounds: Bounds) -> Bool {
        let rows = tokenIDs.count
        let slotCount = bounds.blockCount * bounds.blockSize
        guard rows <= bounds.rowsMax,
            tokenIDs.allSatisfy({ $0 >= 0 && Int($0) < bounds.vocabularySize }),
            slots.allSatisfy({ $0 >= 0 && Int($0) < slotCount }),
            blockTables.allSatisfy({ $0 >= 0 && Int($0) < bounds.blockCount }),
            logitRows.allSatisfy({ $0 >= 0 && Int($0) < rows }),
            zip(logitRows, logitRows.dropFirst()).allSatisfy({ $0 < $1 })
        else { return false }
        var (nextRow, nextBlock) = (0, 0)
        for entry in entries {
            guard entry.firstRow == nextRow, entry.rowCount > 0, entry.firstBlock == nextBlock,
                entry.rowCount <= rows - nextRow, entry.blockCount <= blockTables.count - nextBlock
            else { return false }
            let end = entry.firstPosition + entry.rowCount
            guard end <= bounds.modelLength, end <= entry.blockCount * bounds.blockSize else {
                return false
            }
            for row in 0..<entry.rowCount
            where Int(positions[nextRow + row]) != entry.firstPosition + row { return false }
            nextRow += entry.rowCount
            nextBlock += entry.blockCount
        }
        return nextRow == rows && nextBlock == blockTables.count
    }
}
