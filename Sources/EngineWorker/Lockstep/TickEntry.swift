import Protocol

/// What one worker contributes to the exchange that begins a tick: 64 bytes, always sent. Rows and
/// work are those of its DP rank and come from the rank's leader; its TP peers say 0.
///
/// Everything that all ranks must decide alike in a tick is a pure function of the vector of these
/// entries, which all of them have just received. No rank acts on anything it remembers of others.
///
/// Layout, little-endian: magic u32 @0, view u32 @4, tick u64 @8, tokens u32 @16, prefillTokens
/// u32 @20, kvUsage f32 @24, flags u32 @28 (bit 0 hasWork, bit 1 failed), wishedPrefillTokens u32
/// @32, nextDecodes u32 @36, planBytes u32 @56, protocolVersion u32 @60 (0 in version 1), zeros
/// elsewhere.
struct TickEntry: Hashable, Sendable {
    static let byteCount = 64
    private static let magic: UInt32 = 0x5058_5431  // "PXT1"

    var view: UInt32
    var tick: UInt64
    /// Rows of this rank's step plan; 0 is a dummy batch.
    var tokens: UInt32
    /// Of those, rows of prompts.
    var prefillTokens: UInt32
    /// 0...1
    var kvUsage: Float
    /// Whether a sequence waits or runs here, planned in this tick or not.
    var hasWork: Bool
    /// The rank cannot go on: every rank leaves the view after this exchange.
    var failed: Bool
    /// Rows of prompts that could be computed here after this tick.
    var wishedPrefillTokens: UInt32 = 0
    /// Sequences that decode here in the next tick, unless they end in this one.
    var nextDecodes: UInt32 = 0
    /// Size of the step plan that the leader sends to its TP peers next; 0: none, a dummy batch.
    var planBytes: UInt32 = 0
    /// Of the view, as this worker has heard it: what ranks compute alike of the vector depends on
    /// it.
    var protocolVersion: UInt32 = ProtocolVersion.oldest

    func encode(into buffer: UnsafeMutableRawBufferPointer) {
        precondition(buffer.count == Self.byteCount, "\(buffer.count) bytes for an entry")
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        buffer.storeBytes(of: Self.magic.littleEndian, toByteOffset: 0, as: UInt32.self)
        buffer.storeBytes(of: view.littleEndian, toByteOffset: 4, as: UInt32.self)
        buffer.storeBytes(of: tick.littleEndian, toByteOffset: 8, as: UInt64.self)
        buffer.storeBytes(of: tokens.littleEndian, toByteOffset: 16, as: UInt32.self)
        buffer.storeBytes(of: prefillTokens.littleEndian, toByteOffset: 20, as: UInt32.self)
        buffer.storeBytes(of: kvUsage.bitPattern.littleEndian, toByteOffset: 24, as: UInt32.self)
        let flags: UInt32 = (hasWork ? 1 : 0) | (failed ? 2 : 0)
        buffer.storeBytes(of: flags.littleEndian, toByteOffset: 28, as: UInt32.self)
        buffer.storeBytes(
            of: wishedPrefillTokens.littleEndian, toByteOffset: 32, as: UInt32.self)
        buffer.storeBytes(of: nextDecodes.littleEndian, toByteOffset: 36, as: UInt32.self)
        buffer.storeBytes(of: planBytes.littleEndian, toByteOffset: 56, as: UInt32.self)
        let version = protocolVersion == ProtocolVersion.oldest ? 0 : protocolVersion
        buffer.storeBytes(of: version.littleEndian, toByteOffset: 60, as: UInt32.self)
    }

    /// nil when the bytes are no entry.
    static func decode(_ buffer: UnsafeRawBufferPointer) -> TickEntry? {
        func word(_ offset: Int) -> UInt32 {
            UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        }
        guard buffer.count == byteCount, word(0) == magic else { return nil }
        return TickEntry(
            view: word(4),
            tick: UInt64(littleEndian: buffer.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
            tokens: word(16),
            prefillTokens: word(20),
            kvUsage: Float(bitPattern: word(24)),
            hasWork: word(28) & 1 != 0,
            failed: word(28) & 2 != 0,
            wishedPrefillTokens: word(32),
            nextDecodes: word(36),
            planBytes: word(56),
            protocolVersion: word(60) == 0 ? ProtocolVersion.oldest : word(60)
        )
    }
}

/// What every rank derives from the vector of a tick.
struct TickDecision: Hashable, Sendable {
    /// Whether the model runs: somebody has tokens. Ranks without any run a dummy batch.
    let runsModel: Bool
    /// No rank has work: after this tick there are no more until a wake.
    let goesIdle: Bool
    /// Ranks that cannot go on.
    let failedRanks: [Int]
    let totalTokens: Int
    /// Of the busiest rank, which sets the tick's length.
    let tokensMax: Int
    let exchange: ExchangeMode
    /// What every rank's rows are filled up to in graph mode; nil: each computes its own alone.
    let batchSize: Int?

    /// How rows meet their experts in this tick. All modes give the same bits.
    enum ExchangeMode: Hashable, Sendable {
        /// One worker has all experts.
        case local
        /// Every row goes to every worker, at sizes that all know from the vector: few rows, where
        /// messages cost more than bytes. Workers without rows send nothing.
        case allGather
        /// Each row goes to the owners of its experts.
        case allToAll
    }

    /// Rows of all ranks up to which they are gathered.
    static let gatheredTokensMax = 8

    init(
        _ entries: [TickEntry], tick: UInt64, syncInterval: UInt64, batchSizes: BatchSizes = .none
    ) {
        totalTokens = entries.reduce(0) { $0 + Int($1.tokens) }
        tokensMax = entries.reduce(0) { max($0, Int($1.tokens)) }
        runsModel = totalTokens > 0
        batchSize = batchSizes.size(for: entries)
        exchange =
            entries.count == 1
            ? .local : totalTokens <= Self.gatheredTokensMax ? .allGather : .allToAll
        failedRanks = entries.indices.filter { entries[$0].failed }
        let nobodyHasWork = entries.allSatisfy { !$0.hasWork && $0.tokens == 0 }
        goesIdle = nobodyHasWork && tick % syncInterval == 0
    }

    /// With how many rows a rank that has `rows` fills them up.
    func padding(behind rows: Int) -> Int { batchSize.map { $0 - rows } ?? 0 }
}
