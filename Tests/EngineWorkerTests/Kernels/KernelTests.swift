import CKernels
import Testing

/// Every primitive of every level against its specification in `ck_reference.c`, over sizes around
/// the lane counts. Integer kernels and the codes of quantisation must be bit-exact. Sums of n
/// products of values below 1 in another order differ by less than n * 2^-24 times their size:
/// 1e-5 for the sizes here.
@Suite struct KernelTests {
    static let sumTolerance: Float = 1e-5
    static let sizes = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129]

    @Test func aLevelThatIsRefusedSaysWhatIsMissing() {
        for level in Int32(CK_REFERENCE)...Int32(CK_AMX) {
            #expect((ck_kernels_select(level) == nil) == (ck_kernels_refusal(level) != nil))
        }
        #expect(ck_kernels_select(99) == nil)
        #expect(ck_kernels_refusal(99).map { String(cString: $0) } == "there is no such level")
    }

    @Test(
        .enabled(
            if: ck_kernels_refusal(Int32(CK_AMX)) == nil,
            "without AMX tiles (CPU, or Linux before 5.16) the tests go over the other levels"))
    func amxIsTheBestLevelWhereThereAreTiles() throws {
        #expect(ck_kernels_best() == Int32(CK_AMX))
        #expect(Levels.vector.contains(Int(CK_AMX)))
        #expect(try Levels.kernels(Int(CK_AMX)).level == Int32(CK_AMX))
    }

    @Test(arguments: Levels.vector) func matrixProductsAgree(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 1)
        for inputs in Self.sizes {
            for (rows, outputs) in [(1, 1), (1, 9), (2, 8), (3, 5), (4, 4), (5, 17), (9, 3)] {
                // Strides beyond the widths: what lies between must be neither read nor written.
                let (xs, ws, ys) = (inputs + 3, inputs + 5, outputs + 2)
                let x = guarded(random.floats(rows * xs))
                let w = guarded(random.floats(outputs * ws))
                let start = random.floats(rows * ys)
                let (y, z) = (guarded(start), guarded(start))
                kernels.matmul_f32(
                    y.pointer, ys, x.pointer, xs, w.pointer, ws, rows, outputs, inputs)
                reference.matmul_f32(
                    z.pointer, ys, x.pointer, xs, w.pointer, ws, rows, outputs, inputs)
                #expect(y.isIntact && y.values.distance(to: z.values) < Self.sumTolerance)
                for row in 0..<rows {
                    let gap = (row * ys + outputs)..<(row * ys + ys)
                    #expect(y.values[gap] == start[gap])
                }
            }
        }
    }

    @Test(arguments: Levels.vector) func accumulationsAgree(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 3)
        for columns in Self.sizes {
            for (rows, depth) in [(1, 1), (3, 7), (8, 5), (11, 40), (16, 64)] {
                let x = guarded(random.floats(rows * depth))
                let b = guarded(random.floats(depth * columns))
                let start = random.floats(rows * columns)
                let (y, z) = (guarded(start), guarded(start))
                kernels.accumulate_f32(
                    y.pointer, columns, x.pointer, depth, b.pointer, columns, rows, columns, depth)
                reference.accumulate_f32(
                    z.pointer, columns, x.pointer, depth, b.pointer, columns, rows, columns, depth)
                #expect(y.isIntact && y.values.distance(to: z.values) < Self.sumTolerance)
            }
        }
    }

    @Test(arguments: Levels.vector) func quantisationIsExact(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 4)
        for count in Self.sizes + [1000] {
            var x = random.floats(count, scale: 20)
            // Ties, zeros, overflow and what is no number.
            let special: [Float] = [0.5, 1.5, -0.5, -2.5, 0, 1e30, -1e30, .nan, .infinity]
            for (index, value) in special.enumerated() where index + 20 < count {
                x[index * 2] = value
            }
            let none = [Int8](repeating: 0, count: count)
            let gx = guarded(x)
            for (scale, offset) in [(1, 0), (0.173, 3), (0.01, -7)] as [(Float, Float)] {
                let (y, z) = (Guarded(none, filler: 55), Guarded(none, filler: 55))
                var (sum, expected) = (Int32(1), Int32(2))
                kernels.quantize_static(y.pointer, &sum, gx.pointer, scale, offset, count)
                reference.quantize_static(z.pointer, &expected, gx.pointer, scale, offset, count)
                #expect(y.isIntact && y.values == z.values && sum == expected, "\(count)")
            }
            let finite = guarded(x.map { $0.isFinite ? min(max($0, -50), 50) : 0 })
            let (y, z) = (Guarded(none, filler: 55), Guarded(none, filler: 55))
            var (sum, total) = (Int32(1), Int32(2))
            let found = kernels.quantize_dynamic(y.pointer, &sum, finite.pointer, count)
            let expected = reference.quantize_dynamic(z.pointer, &total, finite.pointer, count)
            #expect(sum == total && Int(total) == z.values.reduce(0) { $0 + Int($1) })
            #expect(found.bitPattern == expected.bitPattern)
            #expect(y.isIntact && y.values == z.values, "\(count)")
            let zeros = guarded([Float](repeating: 0, count: count))
            #expect(kernels.quantize_dynamic(y.pointer, &sum, zeros.pointer, count) == 0)
            #expect(y.values == none)
        }
    }

    /// The polynomial of exp has an error below 2^-22.
    @Test(arguments: Levels.vector) func elementwiseStagesAgree(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 6)
        for count in Self.sizes {
            let x = random.floats(count, scale: 30)
            let (w, b) = (random.floats(count), random.floats(count))
            let (y, z) = (guarded(x), guarded(x))
            kernels.rms_norm(y.pointer, y.pointer, w, b, 1e-6, count)
            reference.rms_norm(z.pointer, z.pointer, w, b, 1e-6, count)
            #expect(y.isIntact && y.values.distance(to: z.values) < 1e-6)
            let (gate, other) = (guarded(x), guarded(x))
            kernels.silu_multiply(gate.pointer, w, count)
            reference.silu_multiply(other.pointer, w, count)
            #expect(gate.isIntact && gate.values.distance(to: other.values) < 1e-6)
            let largest = kernels.maximum(x, count)
            #expect(largest == x.max())
            let (e, f) = (guarded(x), guarded(x))
            let sum = kernels.exponentials(e.pointer, largest, count)
            let expected = reference.exponentials(f.pointer, largest, count)
            #expect(e.isIntact && e.values.distance(to: f.values) < 1e-6)
            #expect(abs(sum - expected) < 1e-5 * expected)
            let (m, n) = (guarded(x), guarded(x))
            kernels.multiply_add(m.pointer, w, 0.7, count)
            reference.multiply_add(n.pointer, w, 0.7, count)
            #expect(m.isIntact && m.values.distance(to: n.values) < 1e-6)
            kernels.scale(m.pointer, 0.3, count)
            reference.scale(m.pointer, 1 / 0.3, count)
            #expect(m.isIntact && m.values.distance(to: n.values) < 1e-6)
        }
    }

    @Test(arguments: Levels.vector) func exponentialsCoverTheirRange(level: Int) throws {
        let kernels = try Levels.kernels(level)
        let x = [0, -1e-8, -0.5, -10, -87, -88, -100, -103, -1000, -.infinity] as [Float]
        let y = guarded(x)
        _ = kernels.exponentials(y.pointer, 0, x.count)
        #expect(y.values[0] == 1)
        for (value, result) in zip(x, y.values).prefix(5) {
            #expect(abs(result / Float.exp(value) - 1) < 3e-7, "\(value)")
        }
        // Below the normal numbers, only that it is next to nothing.
        for result in y.values.dropFirst(5) { #expect(result >= 0 && result < 1e-37) }
    }

    /// A running softmax, piece by piece, with and without a scale a position; the weights are
    /// rounded to BF16.
    @Test(arguments: Levels.vector, [false, true])
    func runningWeightsAgree(level: Int, scaled: Bool) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 8)
        var (largest, total) = (-Float.infinity, Float(0))
        var (expectedLargest, expectedTotal) = (largest, total)
        for count in [64, 1, 15, 16, 17, 33, 64] {
            let scores = random.floats(64, scale: 40)
            // What lies behind the positions that count must not be looked at.
            let scales = random.floats(64).enumerated().map { $0 < count ? 1 + $1 / 2 : .nan }
            let none = [UInt16](repeating: 7, count: 64)
            let (y, z) = (Guarded(none, filler: 9), Guarded(none, filler: 9))
            let given = scaled ? scales : nil
            let found = kernels.weigh(
                y.pointer, scores, given, 0.3, count, &largest, &total)
            let expected = reference.weigh(
                z.pointer, scores, given, 0.3, count, &expectedLargest, &expectedTotal)
            #expect(abs(found - expected) < 1e-6 && y.isIntact)
            #expect(largest == expectedLargest)
            #expect(abs(total - expectedTotal) < 1e-5 * expectedTotal)
            for (a, b) in zip(y.values, z.values) { #expect(abs(Int(a) - Int(b)) <= 1) }
            #expect(y.values[count...].allSatisfy { $0 == 0 })
        }
    }

    @Test(arguments: Levels.vector) func attentionAgrees(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var (table, other) = (kernels, reference)
        var random = KernelRandom(seed: 7)
        let (heads, latent, rope) = (5, 21, 6)
        let width = latent + rope
        for (length, blockSize) in [(1, 16), (5, 2), (64, 16), (65, 64), (200, 7), (130, 128)] {
            let blocks = (length + blockSize - 1) / blockSize
            let numbers = (0..<Int32(blocks)).map { Int32(blocks) - 1 - $0 }
            let cache = guarded(random.floats(blocks * blockSize * width))
            let queries = guarded(random.floats(heads * width, scale: 3))
            let none = [Float](repeating: 0, count: heads * latent)
            let scratch = guarded(
                [Float](repeating: 0, count: heads * (Int(CK_POSITION_TILE) + 2)))
            let (y, z) = (guarded(none), guarded(none))
            numbers.withUnsafeBufferPointer { numbers in
                guard let numbers = numbers.baseAddress else { return }
                var attention = ck_attention(
                    output: y.pointer, queries: queries.pointer, cache: cache.pointer,
                    table: numbers, scratch: scratch.pointer, heads: heads, length: length,
                    block_size: blockSize, latent: latent, width: width, scale: 0.2)
                kernels.attention(&table, &attention)
                attention.output = z.pointer
                reference.attention(&other, &attention)
            }
            #expect(y.isIntact && scratch.isIntact)
            #expect(y.values.distance(to: z.values) < 1e-5, "\(length) \(blockSize)")
        }
    }
}

extension Float {
    /// exp through the standard library's pow-free series, in double precision.
    static func exp(_ x: Float) -> Float {
        var (term, sum) = (1.0, 1.0)
        let reduced = Double(x) / 256
        for n in 1..<30 {
            term *= reduced / Double(n)
            sum += term
        }
        for _ in 0..<8 { sum *= sum }
        return Float(sum)
    }
}
