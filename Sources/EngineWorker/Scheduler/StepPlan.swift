/// What one tick computes on one DP rank: integers only, written by the scheduler and read by the
/// model. An empty plan is a *dummy batch*: the rank takes part in every expert exchange with no
/// tokens of its own.
///
/// Sequences come decode first (one token each), then prefill chunks; tokens of a sequence are
/// contiguous. The arrays are reused from tick to tick.
public struct StepPlan: Sendable {
    /// One sequence's part of the step.
    public struct Entry: Hashable, Sendable {
        public let sequence: SequenceID
        /// First row of `tokenIDs` that belongs to it.
        public let firstRow: Int
        /// Rows that belong to it, at least 1.
        public let rowCount: Int
        /// Position of the first row; rows attend to positions 0...own.
        public let firstPosition: Int
        /// First entry of `blockTables` that belongs to it.
        public let firstBlock: Int
        /// Blocks that hold positions 0 ..< firstPosition + rowCount.
        public let blockCount: Int
        /// Whether the last row's logits choose a token (false while a prompt is not complete).
        public let samples: Bool
        /// Whether it is a decode step (rowCount 1, prompt complete before the step).
        public let isDecode: Bool
    }

    public internal(set) var entries: [Entry] = []
    /// `[rows]`
    public internal(set) var tokenIDs: [Int32] = []
    /// `[rows]`
    public internal(set) var positions: [Int32] = []
    /// `[rows]` place in the paged cache: block number * block size + offset.
    public internal(set) var slots: [Int32] = []
    /// Block numbers of all entries, one after another.
    public internal(set) var blockTables: [Int32] = []
    /// Rows whose logits are wanted, rising: the last row of sampling entries, and all rows of
    /// entries with prompt logprobs.
    public internal(set) var logitRows: [Int32] = []

    public init() {}

    /// Makes room for every step within `limits`, so that none has to allocate. (Sequences that
    /// share very long prefixes may have longer block tables together; those grow once.)
    public mutating func reserve(_ limits: SchedulerLimits) {
        let blocksMax = (limits.maxModelLength + limits.blockSize - 1) / limits.blockSize
        let (tables, overflow) = blocksMax.multipliedReportingOverflow(
            by: limits.maxSequencesRunning)
        entries.reserveCapacity(limits.maxSequencesRunning)
        tokenIDs.reserveCapacity(limits.maxBatchedTokens)
        positions.reserveCapacity(limits.maxBatchedTokens)
        slots.reserveCapacity(limits.maxBatchedTokens)
        blockTables.reserveCapacity(
            overflow ? limits.blockCount : min(limits.blockCount, tables))
        logitRows.reserveCapacity(limits.maxLogitRows)
    }

    public var rowCount: Int { tokenIDs.count }
    public var isDummy: Bool { tokenIDs.isEmpty }
    /// Rows that belong to prefill entries.
    public var prefillRowCount: Int {
        entries.reduce(0) { $0 + ($1.isDecode ? 0 : $1.rowCount) }
    }

    /// Entries that get a token, and go on with a row each unless it ends them.
    public var sampleCount: Int { entries.reduce(0) { $0 + ($1.samples ? 1 : 0) } }

    public mutating func removeAll() {
        entries.removeAll(keepingCapacity: true)
        tokenIDs.removeAll(keepingCapacity: true)
        positions.removeAll(keepingCapacity: true)
        slots.removeAll(keepingCapacity: true)
        blockTables.removeAll(keepingCapacity: true)
        logitRows.removeAll(keepingCapacity: true)
    }

    /// Appends the rows of one sequence.
    ///
    /// - Parameters:
    ///   - tokens: the ids at positions `firstPosition ..< firstPosition + tokens.count`.
    ///   - blocks: the sequence's block table; must cover the last of those positions.
    ///   - allLogits: whether every row's logits are wanted (prompt logprobs).
    public mutating func append(
        sequence: SequenceID,
        tokens: ArraySlice<Int32>,
        firstPosition: Int,
        blocks: [Int32],
        blockSize: Int,
        samples: Bool,
        isDecode: Bool,
        allLogits: Bool
    ) {
        precondition(!tokens.isEmpty, "sequence \(sequence) has no row")
        let end = firstPosition + tokens.count
        let blockCount = (end + blockSize - 1) / blockSize
        precondition(blockCount <= blocks.count, "\(end) positions in \(blocks.count) blocks")
        let entry = Entry(
            sequence: sequence,
            firstRow: tokenIDs.count,
            rowCount: tokens.count,
            firstPosition: firstPosition,
            firstBlock: blockTables.count,
            blockCount: blockCount,
            samples: samples,
            isDecode: isDecode
        )
        entries.append(entry)
        tokenIDs.append(contentsOf: tokens)
        blockTables.append(contentsOf: blocks[0..<blockCount])
        for position in firstPosition..<end {
            positions.append(Int32(position))
            let block = Int(blocks[position / blockSize])
            slots.append(Int32(block * blockSize + position % blockSize))
            if allLogits || (samples && position == end - 1) {
                logitRows.append(Int32(entry.firstRow + position - firstPosition))
            }
        }
    }
}

/// Names a sequence inside one leader; never reused while the process lives.
public struct SequenceID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: SequenceID, right: SequenceID) -> Bool {
        left.rawValue < right.rawValue
    }

    public var description: String { "#\(rawValue)" }
}
