import CKernels
import Testing

/// Packed weights: the layout, the products of every level against plain sums over the unpacked
/// weights, and that a row's bits depend on nothing but the row.
@Suite struct PanelTests {
    /// One linear layer as it was before packing, and packed.
    final class Layer {
        enum Kind: CaseIterable {
            case bf16, wide, f32, staticInt8, dynamicInt8, quantized
        }
        let kind: Kind
        let (outputs, inputs): (Int, Int)
        let floats: [Float]
        let codes: [Int8]
        let scales: [Float]
        let bias: [Int32]
        let (inputScale, inputOffset): (Float, Float) = (0.07, 3)

        init(_ kind: Kind, outputs: Int, inputs: Int, random: inout KernelRandom) {
            (self.kind, self.outputs, self.inputs) = (kind, outputs, inputs)
            let values = random.bf16(outputs * inputs)
            floats = values.map { Float(bitPattern: UInt32($0) << 16) }
            codes = random.bytes(outputs * inputs)
            let padded = (outputs + Int(CK_PANEL) - 1) / Int(CK_PANEL) * Int(CK_PANEL)
            scales = random.floats(padded)
            bias = (0..<padded).map { _ in Int32.random(in: -999...999, using: &random) }
        }

        private var packedKind: Int {
            switch kind {
            case .bf16, .wide: CK_BF16
            case .f32: CK_F32
            case .staticInt8: CK_INT8_STATIC
            case .dynamicInt8, .quantized: CK_INT8_DYNAMIC
            }
        }

        /// `[rows, outputs]` at a level; guards around the output must stay whole.
        func apply(_ x: [Float], rows: Int, level: Int32, threads: Int) throws -> [Float] {
            let engine = try #require(ck_engine_create(level, threads))
            defer { ck_engine_destroy(engine) }
            let byteCount = ck_packed_bytes(Int32(packedKind), outputs, inputs)
            // NaN behind the weights: a kernel that multiplies what it must not read shows.
            let packed = UnsafeMutableRawPointer.allocate(
                byteCount: byteCount + 4096, alignment: 64)
            packed.initializeMemory(as: UInt8.self, repeating: 0xff, count: byteCount + 4096)
            defer { packed.deallocate() }
            var own = [Float](repeating: 0, count: scales.count)
            let half = floats.map { UInt16($0.bitPattern >> 16) }
            func pack(_ kind: Int, _ data: UnsafeRawPointer) {
                var source = ck_weights(
                    kind: Int32(kind), data: data, output_stride: inputs, input_stride: 1)
                ck_pack(engine, packed, &own, Int32(packedKind), outputs, inputs, &source)
            }
            switch kind {
            case .bf16, .wide:
                half.withUnsafeBytes { pack(CK_BF16, $0.baseAddress ?? UnsafeRawPointer(packed)) }
            case .f32, .quantized:
                floats.withUnsafeBytes { pack(CK_F32, $0.baseAddress ?? UnsafeRawPointer(packed)) }
            case .staticInt8, .dynamicInt8:
                codes.withUnsafeBytes {
                    pack(CK_INT8_DYNAMIC, $0.baseAddress ?? UnsafeRawPointer(packed))
                }
            }
            let used = kind == .quantized ? own : scales
            let y = guarded([Float](repeating: 7, count: rows * outputs))
            used.withUnsafeBufferPointer { scale in
                bias.withUnsafeBufferPointer { bias in
                    var linear = ck_linear(
                        kind: Int32(packedKind), wide: kind == .wide ? 1 : 0,
                        input_scale: inputScale, input_offset: inputOffset, outputs: outputs,
                        inputs: inputs, weight: packed, scale: scale.baseAddress,
                        bias: kind == .staticInt8 ? bias.baseAddress : nil)
                    ck_linear_apply(engine, &linear, y.pointer, outputs, x, inputs, rows)
                }
            }
            #expect(y.isIntact)
            return y.values
        }

        /// The same in double, by the definition.
        func expected(_ x: [Float], row: Int, output: Int) -> Double {
            let values = x[(row * inputs)..<((row + 1) * inputs)].map(Double.init)
            let weights = floats[(output * inputs)..<((output + 1) * inputs)].map(Double.init)
            let int8 = codes[(output * inputs)..<((output + 1) * inputs)].map(Double.init)
            func sum(_ left: [Double], _ right: [Double]) -> Double {
                zip(left, right).reduce(0) { $0 + $1.0 * $1.1 }
            }
            let largest = values.map(abs).max() ?? 0
            let quantized = values.map { ($0 / (largest / 127)).rounded(.toNearestOrEven) }
            switch kind {
            case .bf16: return sum(values.map { Double(rounded(Float($0))) }, weights)
            case .wide, .f32: return sum(values, weights)
            case .dynamicInt8: return sum(quantized, int8) * Double(scales[output]) * largest / 127
            case .staticInt8:
                let codes = values.map {
                    min(
                        max(
                            Float(Float($0) / inputScale + inputOffset).rounded(.toNearestOrEven),
                            -128), 127)
                }
                let total = sum(codes.map(Double.init), int8) + Double(bias[output])
                return total * Double(scales[output])
            case .quantized:
                let scale = (weights.map(abs).max() ?? 0) / 127
                let codes = weights.map { ($0 / scale).rounded(.toNearestOrEven) }
                return sum(quantized, codes) * scale * largest / 127
            }
        }

        private func rounded(_ value: Float) -> Float {
            let bits = value.bitPattern
            return Float(bitPattern: (bits &+ 0x7fff &+ (bits >> 16 & 1)) & 0xffff_0000)
        }
    }

    static let levels = ([Int(CK_REFERENCE)] + Levels.vector).map(Int32.init)
    static let shapes = [(1, 1), (5, 3), (31, 16), (32, 17), (33, 64), (70, 129), (96, 258)]

    /// 3e-5: sums of up to 258 products below 1. Codes that are on an edge in double may differ
    /// from those in float; the inputs here are none.
    @Test(arguments: Layer.Kind.allCases) func productsAreThoseOfTheUnpackedWeights(
        kind: Layer.Kind
    ) throws {
        var random = KernelRandom(seed: 41)
        for (outputs, inputs) in Self.shapes {
            let layer = Layer(kind, outputs: outputs, inputs: inputs, random: &random)
            for rows in [1, 2, 12, 13] {
                let x = random.floats(rows * inputs, scale: 2)
                for level in Self.levels {
                    let y = try layer.apply(x, rows: rows, level: level, threads: 1)
                    for row in 0..<rows {
                        for output in 0..<outputs {
                            let expected = layer.expected(x, row: row, output: output)
                            let found = Double(y[row * outputs + output])
                            let isClose = abs(found - expected) <= 3e-5 * (1 + abs(expected))
                            #expect(isClose, "\(kind) \(outputs)x\(inputs) level \(level)")
                        }
                    }
                }
            }
        }
    }

    /// Integers have no order: all levels agree bit for bit.
    @Test(arguments: [Layer.Kind.staticInt8, .dynamicInt8])
    func integerProductsAgreeBitForBit(kind: Layer.Kind) throws {
        var random = KernelRandom(seed: 42)
        for (outputs, inputs) in Self.shapes + [(40, 7168)] {
            let layer = Layer(kind, outputs: outputs, inputs: inputs, random: &random)
            for rows in Array(1...14) + [16, 17, 31, 32, 33, 40] {
                let x = random.floats(rows * inputs, scale: 9)
                let expected = try layer.apply(x, rows: rows, level: 0, threads: 1)
                for level in Self.levels.dropFirst() {
                    let y = try layer.apply(x, rows: rows, level: level, threads: 2)
                    #expect(y.bitPatterns == expected.bitPatterns, "\(outputs)x\(inputs) \(rows)")
                }
            }
        }
    }

    @Test(arguments: Layer.Kind.allCases) func oneRowHasTheSameBitsInEveryBatch(
        kind: Layer.Kind
    ) throws {
        var random = KernelRandom(seed: 11)
        let (inputs, outputs, rows) = (77, 45, 70)
        let layer = Layer(kind, outputs: outputs, inputs: inputs, random: &random)
        let x = random.floats(rows * inputs)
        for level in Self.levels {
            let together = try layer.apply(x, rows: rows, level: level, threads: 4)
            for row in 0..<rows {
                let values = Array(x[(row * inputs)..<(row * inputs + inputs)])
                let alone = try layer.apply(values, rows: 1, level: level, threads: 1)
                let range = (row * outputs)..<(row * outputs + outputs)
                #expect(alone.bitPatterns == Array(together[range]).bitPatterns, "\(level)")
            }
            for count in 2...40 {
                let first = Array(x[..<(count * inputs)])
                let fewer = try layer.apply(first, rows: count, level: level, threads: 2)
                let same = Array(together[..<(count * outputs)])
                #expect(fewer.bitPatterns == same.bitPatterns, "\(level), \(count) rows")
            }
        }
    }

    @Test func layoutsAreTheSameAtEveryLevel() throws {
        var random = KernelRandom(seed: 43)
        let reference = try Levels.reference().panel.pointee
        for level in Levels.vector {
            let kernels = try Levels.kernels(level).panel.pointee
            for units in [1, 15, 16, 17, 40] {
                let source = (0..<(32 * units)).map { _ in UInt32(truncatingIfNeeded: random.next())
                }
                source.withUnsafeBytes { bytes in
                    // Every seventh row is missing, and counts as zeros.
                    let rows = (0..<32).map { row -> UnsafeRawPointer? in
                        row % 7 == 3 ? nil : bytes.baseAddress.map { $0 + row * units * 4 }
                    }
                    let none = [UInt32](repeating: 1, count: units * 32)
                    let (y, z) = (Guarded(none, filler: 9), Guarded(none, filler: 9))
                    kernels.transpose(y.pointer, rows, units)
                    reference.transpose(z.pointer, rows, units)
                    #expect(y.isIntact && y.values == z.values)
                }
            }
            for columns in [1, 31, 32, 33, 100] {
                let source = random.bf16(8 * columns)
                source.withUnsafeBufferPointer { values in
                    let rows = (0..<8).map { row -> UnsafePointer<UInt16>? in
                        row == 5 ? nil : values.baseAddress.map { $0 + row * columns }
                    }
                    let none = [UInt16](repeating: 1, count: (columns + 31) / 32 * 32 * 8)
                    let (y, z) = (Guarded(none, filler: 9), Guarded(none, filler: 9))
                    kernels.pair_rows(y.pointer, rows, 8, columns)
                    reference.pair_rows(z.pointer, rows, 8, columns)
                    #expect(y.isIntact && y.values == z.values)
                }
            }
            for count in [1, 15, 16, 33] {
                var x = random.floats(count, scale: 1e3)
                x[0] = .nan
                if count > 4 {
                    x[1] = .infinity
                    // Exactly between two BF16 numbers: to the even one.
                    x[2] = Float(bitPattern: 0x3f80_8000)
                    x[3] = Float(bitPattern: 0x3f81_8000)
                }
                let none = [UInt16](repeating: 1, count: count)
                let (y, z) = (Guarded(none, filler: 9), Guarded(none, filler: 9))
                let source = guarded(x)
                kernels.narrow_bf16(y.pointer, source.pointer, count)
                reference.narrow_bf16(z.pointer, x, count)
                #expect(y.isIntact && y.values == z.values)
                #expect(source.isIntact)
                if count > 4 { #expect(Array(y.values[1...3]) == [0x7f80, 0x3f80, 0x3f82]) }
            }
        }
    }
}
