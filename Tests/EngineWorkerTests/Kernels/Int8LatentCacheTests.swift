import CKernels
import Testing

/// The int8 latent cache: what is stored, and attention over it.
@Suite struct Int8LatentCacheTests {
    typealias Cache = LatentAttentionTests.Cache
    typealias Model = LatentAttentionTests.Model
    typealias Row = LatentAttentionTests.Row
    typealias Stage = LatentAttentionTests.Stage

    static let levels = [Int32(CK_REFERENCE)] + LatentAttentionTests.levels
    static let kind = Int32(CK_INT8_DYNAMIC)

    /// One position, taken apart.
    struct Entry: Equatable {
        var scale: Float
        var keys: [UInt16]
        var codes: [Int8]

        init(scale: Float, keys: [UInt16], codes: [Int8]) {
            (self.scale, self.keys, self.codes) = (scale, keys, codes)
        }

        init(_ bytes: [UInt8], rope: Int, latent: Int) {
            (scale, keys, codes) = bytes.withUnsafeBytes { bytes in
                (
                    bytes.loadUnaligned(as: Float.self),
                    (0..<rope).map {
                        bytes.loadUnaligned(fromByteOffset: 4 + 2 * $0, as: UInt16.self)
                    },
                    (0..<latent).map { Int8(bitPattern: bytes[4 + 2 * rope + $0]) }
                )
            }
        }

        /// What the position is worth.
        var latent: [Float] { codes.map { Float($0) * scale } }
        var key: [Float] { keys.map { Float(bitPattern: UInt32($0) << 16) * scale } }

        var bytes: [UInt8] {
            withUnsafeBytes(of: scale) { Array($0) } + keys.withUnsafeBytes { Array($0) }
                + codes.map { UInt8(bitPattern: $0) }
        }
        var wide: [Float] { latent + key }
        var halves: [UInt16] { wide.map { UInt16($0.bitPattern >> 16) } }
    }

    private static func entry(_ model: Model, _ random: inout KernelRandom) -> Entry {
        let scale = Float.random(in: 0.002..<0.008, using: &random)
        return Entry(
            scale: scale,
            keys: random.floats(model.rope, scale: 1 / scale).map {
                UInt16($0.bitPattern >> 16)
            },
            codes: (0..<model.latent).map { _ in Int8.random(in: -127...127, using: &random) })
    }

    /// The same numbers in caches of any kind; in BF16 they are cut off.
    private static func cache(
        _ model: Model, lengths: [Int], seed: UInt64, kind: Int32 = kind
    ) -> Cache {
        var random = KernelRandom(seed: seed)
        return Cache(model, kind: kind, lengths: lengths) {
            let entry = entry(model, &random)
            switch kind {
            case Int32(CK_F32): return entry.wide.withUnsafeBytes { Array($0) }
            case Int32(CK_BF16): return entry.halves.withUnsafeBytes { Array($0) }
            default: return entry.bytes
            }
        }
    }

    // MARK: What is stored

    /// Stores rows, in falling slots with one between, without moving or scaling them: positions
    /// are 0 and the norm's weights make up for it.
    private static func store(
        _ rows: [[Float]], latent: Int, level: Int32, threads: Int
    ) throws -> [Entry] {
        let engine = try #require(ck_engine_create(level, threads))
        defer { ck_engine_destroy(engine) }
        let (width, rope) = (rows[0].count, rows[0].count - latent)
        let bytes = ck_latent_entry_bytes(kind, latent, rope)
        #expect(bytes % 4 == 0 && (0..<4).contains(bytes - 4 - 2 * rope - latent))
        let cache = Guarded(
            [UInt8](repeating: 0xaa, count: 2 * rows.count * bytes), filler: 0x55)
        let slots = rows.indices.map { Int32(2 * (rows.count - 1 - $0)) }
        let x = guarded(rows.flatMap { $0 })
        let ones = [Float](repeating: 1, count: max(latent, rows.count * rope))
        let zeros = [Float](repeating: 0, count: rows.count * rope)
        ck_store_latents(
            engine, cache.pointer, kind, slots, x.pointer, ones, nil, 0, ones, zeros, rows.count,
            latent, rope)
        #expect(cache.isIntact && x.values.count == rows.count * width)
        let cells = cache.values
        return slots.map { slot in
            let start = Int(slot) * bytes
            // The slot between was not written to.
            #expect(cells[(start + bytes)..<(start + 2 * bytes)].allSatisfy { $0 == 0xaa })
            return Entry(Array(cells[start..<(start + bytes)]), rope: rope, latent: latent)
        }
    }

    /// Levels take the root of another sum in the norm, so codes are compared with the number that
    /// they stand for: half a step, and what rounding in F32 and to BF16 adds.
    @Test(arguments: levels, [1, 3]) func codesAreTheNearest(level: Int32, threads: Int) throws {
        var random = KernelRandom(seed: 61)
        for (latent, rope) in [(1, 2), (7, 2), (16, 8), (21, 6), (33, 6), (100, 4), (512, 64)] {
            let rows = (0..<5).map { row in
                random.floats(latent, scale: [1, 1e-3, 1e3, 30, 7][row])
                    + random.floats(rope, scale: [1, 10, 1e-3, 1, 0][row])
            }
            let found = try Self.store(rows, latent: latent, level: level, threads: threads)
            for (row, entry) in zip(rows, found) {
                let squares = row[..<latent].reduce(0.0) { $0 + Double($1) * Double($1) }
                let root = (squares / Double(latent)).squareRoot()
                let largest = row[..<latent].map { abs(Double($0)) / root }.max() ?? 0
                #expect(abs(Double(entry.scale) / (largest / 127) - 1) < 1e-5)
                #expect(entry.codes.map { abs(Int($0)) }.max() == 127)
                for (value, x) in zip(entry.latent, row) {
                    let error = abs(Double(value) - Double(x) / root)
                    #expect(error < 0.5001 * Double(entry.scale) + 1e-5 * largest)
                }
                for (value, x) in zip(entry.key, row[latent...]) {
                    #expect(abs(value - x) <= 0x1.01p-8 * abs(x), "\(level)")
                }
            }
        }
    }

    @Test(arguments: levels) func zerosAndExtremesStayFinite(level: Int32) throws {
        let (latent, rope) = (33, 6)
        func row(_ latents: Float, _ keys: Float) -> [Float] {
            [Float](repeating: latents, count: latent) + [Float](repeating: keys, count: rope)
        }
        let rows = [row(1, 0), row(1, 1e30), row(1, 3e38), row(-1, -1e-38), row(1e18, 1)]
        for entry in try Self.store(rows, latent: latent, level: level, threads: 1) {
            #expect(entry.scale.isFinite && entry.scale > 0)
            #expect(entry.key.allSatisfy { $0.isFinite })
            #expect(entry.keys.allSatisfy { Float(bitPattern: UInt32($0) << 16).isFinite })
            #expect(entry.latent.allSatisfy { $0.isFinite })
        }
    }

    /// The norm's weights decide how large latents are: here all, nearly all and none of it goes.
    @Test(arguments: levels) func latentsOfNothingHaveAScale(level: Int32) throws {
        let engine = try #require(ck_engine_create(level, 1))
        defer { ck_engine_destroy(engine) }
        let (latent, rope) = (19, 4)
        let bytes = ck_latent_entry_bytes(Self.kind, latent, rope)
        let x = (0..<latent).map { Float($0) - 9 } + [1, -2, 3e5, 0]
        let ones = [Float](repeating: 1, count: rope)
        let zeros = [Float](repeating: 0, count: rope)
        for factor in [0, .leastNonzeroMagnitude, 1e-38, 1e-20, 1e-12, 1, 1e37] as [Float] {
            let cache = Guarded([UInt8](repeating: 0xff, count: bytes), filler: 0x55)
            let weight = [Float](repeating: factor, count: latent)
            ck_store_latents(
                engine, cache.pointer, Self.kind, [0], x, weight, nil, 1e-6, ones, zeros, 1,
                latent, rope)
            let entry = Entry(cache.values, rope: rope, latent: latent)
            #expect(cache.isIntact && entry.scale.isFinite && entry.scale > 0, "\(factor)")
            for (found, expected) in zip(entry.key, x[latent...]) {
                #expect(abs(found - expected) <= 0x1p-8 * abs(expected), "\(factor)")
            }
            if factor < 1e-15 { #expect(entry.codes.allSatisfy { $0 == 0 }) }
            if factor == 1 { #expect(entry.codes.contains(127) && entry.codes.contains(-127)) }
        }
    }

    @Test(arguments: levels) func whatIsNotFiniteMakesTheScaleNaN(level: Int32) throws {
        for value in [Float.nan, .infinity, -.infinity] {
            // A latent of infinity is NaN behind the norm.
            for index in [0, 16, 32, 33, 38] {
                var row = [Float](repeating: 1, count: 39)
                row[index] = value
                let entry = try Self.store([row], latent: 33, level: level, threads: 1)[0]
                #expect(entry.scale.isNaN, "\(index)")
            }
        }
    }

    @Test(arguments: levels) func codesAreWidenedExactly(level: Int32) throws {
        let kernels = try Levels.kernels(Int(level)).panel.pointee
        let codes = (-128...127).map { Int8($0) }
        for count in [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 256] {
            for first in [0, 120, 128] where first + count <= 256 {
                let source = Guarded(Array(codes[first..<(first + count)]), filler: 55)
                let found = Guarded([UInt16](repeating: 1, count: count), filler: 9)
                kernels.widen_codes(found.pointer, source.pointer, count)
                #expect(found.isIntact && source.isIntact)
                let values = found.values.map { Float(bitPattern: UInt32($0) << 16) }
                #expect(values == source.values.map { Float($0) }, "\(count)")
            }
        }
    }

    // MARK: Attention

    private static let lengths = [1, 15, 16, 17, 32, 64, 65, 127, 128, 129, 200, 511, 513, 700]

    /// Against F32 arithmetic over the same numbers, nothing is lost that a BF16 cache would not
    /// lose: softmax weights, queries and attended latents are rounded to BF16. Among levels as in
    /// ``LatentAttentionTests``, for values of up to 1 too.
    @Test(arguments: LatentAttentionTests.models.indices)
    func everyLevelAgreesWithAFloatCache(index: Int) throws {
        let model = LatentAttentionTests.models[index]
        let cache = Self.cache(model, lengths: Self.lengths, seed: 71)
        let float32 = Self.cache(model, lengths: Self.lengths, seed: 71, kind: Int32(CK_F32))
        let bfloat16 = Self.cache(model, lengths: Self.lengths, seed: 71, kind: Int32(CK_BF16))
        var rows = Self.lengths.enumerated().map { Row(sequence: $0, position: $1 - 1) }
        rows += (50..<61).map { Row(sequence: 10, position: $0) }
        rows += (508..<513).map { Row(sequence: 13, position: $0) }
        let reference = try Stage(model, level: Int32(CK_REFERENCE), threads: 2)
        let expected = reference.attend(rows, float32)
        let usual = reference.attend(rows, bfloat16).distance(to: expected)
        let plain = reference.attend(rows, cache)
        #expect(usual < 0x1p-5 && plain.distance(to: expected) < 1.25 * usual)
        for level in LatentAttentionTests.levels {
            let found = try Stage(model, level: level, threads: 2).attend(rows, cache)
            #expect(found.distance(to: plain) < 0x1p-7, "level \(level)")
            #expect(found.distance(to: expected) < 1.25 * usual, "level \(level)")
        }
    }

    @Test(arguments: LatentAttentionTests.models.indices)
    func aRowHasTheSameBitsInEveryBatch(index: Int) throws {
        let model = LatentAttentionTests.models[index]
        let cache = Self.cache(model, lengths: [40, 1300, 600, 3, 1025], seed: 72)
        var rows = (0..<40).map { Row(sequence: 0, position: $0) }
        rows += (500..<530).map { Row(sequence: 1, position: $0) }
        rows += (590..<600).map { Row(sequence: 2, position: $0) }
        rows += [Row(sequence: 3, position: 2), Row(sequence: 4, position: 1024)]
        rows += [Row(sequence: 1, position: 1299), Row(sequence: 1, position: 1298)]
        let size = model.heads * model.value
        for level in LatentAttentionTests.levels {
            let together = try Stage(model, level: level, threads: 1).attend(rows, cache)
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

    /// Where the positions lie changes nothing.
    @Test func blockSizesGiveTheSameBits() throws {
        let lengths = [1, 130, 515]
        let rows = lengths.enumerated().map { Row(sequence: $0, position: $1 - 1) }
        for level in Self.levels {
            var expected: [Float] = []
            for blockSize in [1, 2, 7, 16, 48, 64, 128, 512] {
                let model = Model(heads: 8, latent: 64, rope: 32, blockSize: blockSize)
                let cache = Self.cache(model, lengths: lengths, seed: 73)
                let found = try Stage(model, level: level, threads: 2).attend(rows, cache)
                if expected.isEmpty { expected = found }
                #expect(found.bitPatterns == expected.bitPatterns, "\(level), \(blockSize)")
            }
        }
    }

    /// A row that sees such a position is lost as over a cache of floats, also where it is the only
    /// one of its part of the softmax; other rows are not.
    @Test(arguments: levels) func aPositionOfNaNIsSeen(level: Int32) throws {
        let model = Model()
        for (length, bad) in [(20, 9), (513, 512), (1030, 512), (130, 128)] {
            var (random, count) = (KernelRandom(seed: 74), 0)
            let cache = Cache(model, kind: Self.kind, lengths: [length, 200]) {
                count += 1
                var entry = Self.entry(model, &random)
                if count == bad + 1 {
                    (entry.scale, entry.codes) = (.nan, entry.codes.map { _ in 0 })
                }
                return entry.bytes
            }
            let rows = [
                Row(sequence: 0, position: bad), Row(sequence: 0, position: length - 1),
                Row(sequence: 0, position: bad - 1), Row(sequence: 1, position: 199),
            ]
            let found = try Stage(model, level: level, threads: 1).attend(rows, cache)
            let size = model.heads * model.value
            #expect(found[..<(2 * size)].allSatisfy { $0.isNaN }, "position \(bad)")
            #expect(found[(2 * size)...].allSatisfy { $0.isFinite }, "position \(bad)")
        }
    }
}
