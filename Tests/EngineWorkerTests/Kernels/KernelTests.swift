import CKernels
import Testing

/// Every primitive of every level against its specification in `ck_reference.c`, over sizes around
/// the lane counts. Integer kernels and the codes of quantisation must be bit-exact. Sums of n
/// products of values below 1 in another order differ by less than n * 2^-24 times their size:
/// 1e-5 for the sizes here.
@Suite struct KernelTests {
    static let sumTolerance: Float = 1e-5
    static let sizes = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129]

    @Test(arguments: Levels.vector) func matrixProductsAgree(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 1)
        for inputs in Self.sizes {
            for (rows, outputs) in [(1, 1), (1, 9), (2, 8), (3, 5), (4, 4), (5, 17), (9, 3)] {
                // Strides beyond the widths: what lies between must be neither read nor written.
                let (xs, ws, ys) = (inputs + 3, inputs + 5, outputs + 2)
                let x = guarded(random.floats(rows * xs))
                let w = guarded(random.floats(outputs * ws))
                let half = Guarded(random.bf16(outputs * ws), filler: 0x7fc0)
                let start = random.floats(rows * ys)
                let (y, z) = (guarded(start), guarded(start))
                kernels.matmul_f32(
                    y.pointer, ys, x.pointer, xs, w.pointer, ws, rows, outputs, inputs)
                reference.matmul_f32(
                    z.pointer, ys, x.pointer, xs, w.pointer, ws, rows, outputs, inputs)
                #expect(y.isIntact && y.values.distance(to: z.values) < Self.sumTolerance)
                kernels.matmul_bf16(
                    y.pointer, ys, x.pointer, xs, half.pointer, ws, rows, outputs, inputs)
                reference.matmul_bf16(
                    z.pointer, ys, x.pointer, xs, half.pointer, ws, rows, outputs, inputs)
                #expect(y.isIntact && y.values.distance(to: z.values) < Self.sumTolerance)
                for row in 0..<rows {
                    let gap = (row * ys + outputs)..<(row * ys + ys)
                    #expect(y.values[gap] == start[gap])
                }
            }
        }
    }

    @Test(arguments: Levels.vector) func integerProductsAreExact(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 2)
        for inputs in Self.sizes + [500, 7168] {
            for (rows, outputs) in [(1, 1), (1, 6), (3, 4), (4, 4), (7, 5)] {
                var (x, w) = (random.bytes(rows * inputs), random.bytes(outputs * inputs))
                // The extremes, where a saturating instruction would show.
                if inputs == 7168 { (x, w) = (x.map { _ in -128 }, w.map { _ in -128 }) }
                let (gx, gw) = (Guarded(x, filler: 99), Guarded(w, filler: 98))
                let none = [Int32](repeating: 0, count: rows * outputs)
                let (y, z) = (Guarded(none, filler: 77), Guarded(none, filler: 77))
                kernels.matmul_i8(
                    y.pointer, outputs, gx.pointer, inputs, gw.pointer, inputs, rows, outputs,
                    inputs)
                reference.matmul_i8(
                    z.pointer, outputs, gx.pointer, inputs, gw.pointer, inputs, rows, outputs,
                    inputs)
                #expect(y.isIntact && y.values == z.values, "\(inputs)")
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
                let half = Guarded(random.bf16(depth * columns), filler: 0x7fc0)
                let start = random.floats(rows * columns)
                let (y, z) = (guarded(start), guarded(start))
                kernels.accumulate_f32(
                    y.pointer, columns, x.pointer, depth, b.pointer, columns, rows, columns, depth)
                reference.accumulate_f32(
                    z.pointer, columns, x.pointer, depth, b.pointer, columns, rows, columns, depth)
                #expect(y.isIntact && y.values.distance(to: z.values) < Self.sumTolerance)
                kernels.accumulate_bf16(
                    y.pointer, columns, x.pointer, depth, half.pointer, columns, rows, columns,
                    depth)
                reference.accumulate_bf16(
                    z.pointer, columns, x.pointer, depth, half.pointer, columns, rows, columns,
                    depth)
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
                kernels.quantize_static(y.pointer, gx.pointer, scale, offset, count)
                reference.quantize_static(z.pointer, gx.pointer, scale, offset, count)
                #expect(y.isIntact && y.values == z.values, "\(count)")
            }
            let finite = guarded(x.map { $0.isFinite ? min(max($0, -50), 50) : 0 })
            let (y, z) = (Guarded(none, filler: 55), Guarded(none, filler: 55))
            let found = kernels.quantize_dynamic(y.pointer, finite.pointer, count)
            let expected = reference.quantize_dynamic(z.pointer, finite.pointer, count)
            #expect(found.bitPattern == expected.bitPattern)
            #expect(y.isIntact && y.values == z.values, "\(count)")
            let zeros = guarded([Float](repeating: 0, count: count))
            #expect(kernels.quantize_dynamic(y.pointer, zeros.pointer, count) == 0)
            #expect(y.values == none)
        }
    }

    @Test(arguments: Levels.vector) func dequantisationIsExact(level: Int) throws {
        let (kernels, reference) = (try Levels.kernels(level), try Levels.reference())
        var random = KernelRandom(seed: 5)
        for count in Self.sizes {
            let sums = (0..<count).map { _ in Int32(truncatingIfNeeded: random.next()) / 4 }
            let biases = (0..<count).map { _ in Int32.random(in: -9999...9999, using: &random) }
            let scales = random.floats(count)
            let none = [Float](repeating: 0, count: count)
            let (y, z) = (guarded(none), guarded(none))
            kernels.dequantize_static(y.pointer, sums, biases, scales, count)
            reference.dequantize_static(z.pointer, sums, biases, scales, count)
            #expect(y.isIntact && y.values.bitPatterns == z.values.bitPatterns)
            kernels.dequantize_dynamic(y.pointer, sums, scales, 0.0371, count)
            reference.dequantize_dynamic(z.pointer, sums, scales, 0.0371, count)
            #expect(y.isIntact && y.values.bitPatterns == z.values.bitPatterns)
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
