import CKernels
import Testing

/// Latent attention over a BF16 cache: every level against the reference, and that a row's bits
/// depend on its own positions alone. Slots that no row may see hold NaN.
@Suite struct LatentAttentionTests {
    struct Model {
        var heads = 16
        var nope = 24
        var value = 20
        var latent = 48
        var rope = 16
        var blockSize = 16
        var width: Int { latent + rope }
    }

    /// One row: a sequence and a position in it.
    struct Row: Hashable {
        let sequence: Int
        let position: Int
    }

    /// Sequences of some lengths in one cache, blocks in falling order. All bytes of slots that
    /// hold nothing are 0xff: NaN in BF16 and F32.
    final class Cache {
        let model: Model
        let kind: Int32
        let values: Guarded<UInt8>
        let tables: [[Int32]]
        let flat: [Int32]

        /// - Parameter entry: one position as the cache has it.
        init(_ model: Model, kind: Int32, lengths: [Int], entry: () -> [UInt8]) {
            (self.model, self.kind) = (model, kind)
            let counts = lengths.map { ($0 + model.blockSize - 1) / model.blockSize }
            var next = Int32(counts.reduce(0, +))
            let bytes = ck_latent_entry_bytes(kind, model.latent, model.rope)
            var cells = [UInt8](repeating: 0xff, count: Int(next) * model.blockSize * bytes)
            var tables: [[Int32]] = []
            for (length, count) in zip(lengths, counts) {
                let table = (0..<count).map { _ -> Int32 in
                    next -= 1
                    return next
                }
                for position in 0..<length {
                    let block = Int(table[position / model.blockSize])
                    let slot = block * model.blockSize + position % model.blockSize
                    let made = entry()
                    cells.replaceSubrange((slot * bytes)..<(slot * bytes + made.count), with: made)
                }
                tables.append(table)
            }
            self.tables = tables
            flat = tables.flatMap { $0 }
            values = Guarded(cells, filler: 0xff)
        }

        /// Random numbers in BF16.
        convenience init(_ model: Model, lengths: [Int], random: inout KernelRandom) {
            var source = random
            self.init(model, kind: Int32(CK_BF16), lengths: lengths) {
                source.bf16(model.width).withUnsafeBytes { Array($0) }
            }
            random = source
        }

        func start(_ sequence: Int) -> Int32 {
            Int32(tables[..<sequence].reduce(0) { $0 + $1.count })
        }
    }

    /// Weights of a model, and a query for each row that is a function of the row alone.
    final class Stage {
        let model: Model
        let level: Int32
        let engine: OpaquePointer
        private var packed: [UnsafeMutableRawPointer] = []
        private var linears: [ck_linear] = []

        init(_ model: Model, level: Int32, threads: Int) throws {
            (self.model, self.level) = (model, level)
            engine = try #require(ck_engine_create(level, threads))
            var random = KernelRandom(seed: 77)
            for head in 0..<(2 * model.heads) {
                let keys = head < model.heads
                let outputs = keys ? model.latent : model.value
                let inputs = keys ? model.nope : model.latent
                let memory = UnsafeMutableRawPointer.allocate(
                    byteCount: ck_packed_bytes(Int32(CK_BF16), outputs, inputs), alignment: 64)
                random.bf16(outputs * inputs).withUnsafeBytes { bytes in
                    guard let data = bytes.baseAddress else { return }
                    var source = ck_weights(
                        kind: Int32(CK_BF16), data: data, output_stride: inputs, input_stride: 1)
                    ck_pack(engine, memory, nil, Int32(CK_BF16), outputs, inputs, &source)
                }
                packed.append(memory)
                linears.append(
                    ck_linear(
                        kind: Int32(CK_BF16), wide: 0, input_scale: 0, input_offset: 0,
                        outputs: outputs, inputs: inputs, weight: memory, scale: nil, bias: nil))
            }
        }

        deinit {
            ck_engine_destroy(engine)
            for memory in packed { memory.deallocate() }
        }

        /// `[rows, heads, value]`
        func attend(_ rows: [Row], _ cache: Cache) -> [Float] {
            let queries = rows.flatMap { row -> [Float] in
                var random = KernelRandom(seed: UInt64(row.sequence * 100_000 + row.position))
                return random.floats(model.heads * (model.nope + model.rope), scale: 2)
            }
            let count = rows.count * model.heads * model.value
            let output = guarded([Float](repeating: 7, count: count))
            let starts = rows.map { cache.start($0.sequence) }
            let positions = rows.map { Int32($0.position) }
            linears.withUnsafeBufferPointer { linears in
                queries.withUnsafeBufferPointer { queries in
                    cache.flat.withUnsafeBufferPointer { tables in
                        starts.withUnsafeBufferPointer { starts in
                            positions.withUnsafeBufferPointer { positions in
                                guard let keys = linears.baseAddress, let x = queries.baseAddress,
                                    let tables = tables.baseAddress,
                                    let starts = starts.baseAddress,
                                    let positions = positions.baseAddress
                                else { return }
                                var stage = ck_latent_attention(
                                    output: output.pointer, queries: x,
                                    cache: cache.values.pointer, cache_kind: cache.kind,
                                    tables: tables, table_starts: starts, positions: positions,
                                    keys: keys, values: keys + model.heads, rows: rows.count,
                                    heads: model.heads, nope: model.nope, rope: model.rope,
                                    value: model.value, latent: model.latent,
                                    block_size: model.blockSize, scale: 0.1)
                                ck_latent_attention_apply(engine, &stage)
                            }
                        }
                    }
                }
            }
            #expect(output.isIntact)
            return output.values
        }
    }

    static let levels = Levels.vector.map(Int32.init)
    static let models = [
        Model(), Model(heads: 4, latent: 16, rope: 8, blockSize: 7),
        Model(heads: 5, latent: 21, rope: 7, blockSize: 2),
        Model(heads: 20, latent: 64, rope: 32, blockSize: 64),
        Model(heads: 128, latent: 32, rope: 32, blockSize: 128),
        Model(heads: 130, latent: 40, rope: 24, blockSize: 16),
    ]

    /// Softmax weights and attended latents are rounded to BF16, each by up to 2^-9, and levels
    /// round them otherwise because their running maxima differ: 2^-7 of values around 1.
    @Test(arguments: models.indices) func levelsAgreeWithTheReference(index: Int) throws {
        let model = Self.models[index]
        var random = KernelRandom(seed: 51)
        let lengths = [1, 17, 64, 65, 200, 513, 700]
        let cache = Cache(model, lengths: lengths, random: &random)
        // A decode of each sequence, and the end of a prompt.
        var rows = lengths.enumerated().map { Row(sequence: $0, position: $1 - 1) }
        rows += (50..<61).map { Row(sequence: 4, position: $0) }
        rows += (508..<513).map { Row(sequence: 6, position: $0) }
        rows += (480..<513).map { Row(sequence: 5, position: $0) }
        let expected = try Stage(model, level: Int32(CK_REFERENCE), threads: 2).attend(rows, cache)
        for level in Self.levels {
            let found = try Stage(model, level: level, threads: 2).attend(rows, cache)
            #expect(found.distance(to: expected) < 0x1p-7, "level \(level)")
        }
    }

    @Test(arguments: models.indices) func aRowHasTheSameBitsInEveryBatch(index: Int) throws {
        let model = Self.models[index]
        var random = KernelRandom(seed: 52)
        let lengths = [40, 1300, 600, 3, 1025]
        let cache = Cache(model, lengths: lengths, random: &random)
        // Chunks that begin and end inside steps and partitions, three of them long enough for a
        // whole stage of their own; then lone rows.
        var rows = (0..<40).map { Row(sequence: 0, position: $0) }
        rows += (395..<530).map { Row(sequence: 1, position: $0) }
        rows += (590..<600).map { Row(sequence: 2, position: $0) }
        rows += (60..<93).map { Row(sequence: 4, position: $0) }
        rows += [Row(sequence: 3, position: 2), Row(sequence: 4, position: 1024)]
        rows += [Row(sequence: 1, position: 1299), Row(sequence: 1, position: 1298)]
        let size = model.heads * model.value
        for level in Self.levels {
            let stage = try Stage(model, level: level, threads: 1)
            let together = stage.attend(rows, cache)
            // Many threads take every partition by itself.
            let many = try Stage(model, level: level, threads: 7).attend(rows, cache)
            #expect(many.bitPatterns == together.bitPatterns, "level \(level)")
            let lone = try Stage(model, level: level, threads: 3)
            for index in Array(stride(from: 0, to: rows.count, by: 7)) + [rows.count - 1] {
                let alone = lone.attend([rows[index]], cache)
                let same = Array(together[(index * size)..<((index + 1) * size)])
                #expect(alone.bitPatterns == same.bitPatterns, "level \(level), row \(index)")
            }
        }
    }
}
