import CKernels
import Testing

/// The experts of a layer: an assignment has the bits of its expert's MLP for its row alone,
/// however rows are shared among experts and experts divided among threads.
@Suite struct ExpertKernelTests {
    static let (hidden, inner, count) = (70, 45, 9)

    /// Experts of one kind, packed for a level.
    final class Experts {
        let engine: OpaquePointer
        private(set) var table: [ck_mlp] = []
        private var owned: [UnsafeMutableRawPointer] = []

        init(kind: Int, level: Int, threads: Int) throws {
            engine = try #require(ck_engine_create(Int32(level), threads))
            var random = KernelRandom(seed: 71)
            for expert in 0..<count {
                let gate = linear(kind, inner, hidden, expert, &random)
                let up = linear(kind, inner, hidden, expert, &random)
                let down = linear(kind, hidden, inner, expert, &random)
                table.append(ck_mlp(gate: gate, up: up, down: down))
            }
        }

        deinit {
            for memory in owned { memory.deallocate() }
            ck_engine_destroy(engine)
        }

        /// Static layers have the codes of dynamic ones, and an input scale of each expert.
        private func linear(
            _ kind: Int, _ outputs: Int, _ inputs: Int, _ expert: Int, _ random: inout KernelRandom
        ) -> ck_linear {
            let isStatic = kind == Int(CK_INT8_STATIC)
            let stored = Int32(isStatic ? Int(CK_INT8_DYNAMIC) : kind)
            let byteCount = ck_packed_bytes(stored, outputs, inputs)
            let packed = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
            let padded = (outputs + Int(CK_PANEL) - 1) / Int(CK_PANEL) * Int(CK_PANEL)
            let scales = UnsafeMutablePointer<Float>.allocate(capacity: padded)
            let bias = UnsafeMutablePointer<Int32>.allocate(capacity: padded)
            scales.initialize(repeating: 0, count: padded)
            bias.initialize(repeating: 3, count: padded)
            owned += [packed, UnsafeMutableRawPointer(scales), UnsafeMutableRawPointer(bias)]
            random.floats(outputs * inputs).withUnsafeBytes { floats in
                var source = ck_weights(
                    kind: Int32(CK_F32), data: floats.baseAddress ?? UnsafeRawPointer(packed),
                    output_stride: inputs, input_stride: 1)
                ck_pack(engine, packed, scales, stored, outputs, inputs, &source)
            }
            return ck_linear(
                kind: Int32(kind), wide: 0, input_scale: isStatic ? 0.01 * Float(1 + expert) : 0,
                input_offset: 2, outputs: outputs, inputs: inputs, weight: UnsafeRawPointer(packed),
                scale: scales, bias: isStatic ? UnsafePointer(bias) : nil)
        }

        /// - Parameter loads: rows of `x` by expert.
        func apply(_ loads: [[Int]], _ x: [Float]) -> [Float] {
            var starts = [0]
            for rows in loads { starts.append(starts[starts.count - 1] + rows.count) }
            let total = starts[starts.count - 1]
            let y = guarded([Float](repeating: 7, count: total * hidden))
            x.withUnsafeBufferPointer { x in
                guard let start = x.baseAddress else { return }
                let inputs = loads.joined().map { start + $0 * hidden }
                let outputs = (0..<total).map { y.pointer + $0 * hidden }
                ck_experts_apply(engine, table, starts, loads.count, inputs, outputs)
            }
            #expect(y.isIntact)
            return y.values
        }

        func alone(_ expert: Int, _ x: [Float]) -> [Float] {
            var y = [Float](repeating: 7, count: hidden)
            ck_mlp_apply(engine, &table[expert], &y, x, 1)
            return y
        }
    }

    /// Rows of each expert, of `rows` in all: those that share rows, those that have rows of their
    /// own, one expert that is longer than all others together, and few experts.
    static func loads(rows: Int) -> [[[Int]]] {
        let shared = (0..<count).map { expert in
            (0..<rows).filter { ($0 * 7 + expert) % 3 != 0 }
        }
        let apart = (0..<count).map { expert in (0..<rows).filter { $0 % count == expert } }
        var uneven = [[Int]](repeating: [1], count: count)
        uneven[4] = (0..<600).map { $0 % rows }
        var few = [[Int]](repeating: [], count: count)
        few[2] = [0, 3]
        few[7] = [3]
        return [shared, apart, uneven, few]
    }

    @Test(arguments: [CK_BF16, CK_F32, CK_INT8_STATIC, CK_INT8_DYNAMIC].map { Int($0) })
    func everyAssignmentHasTheBitsOfItsExpertAlone(kind: Int) throws {
        var random = KernelRandom(seed: 72)
        let rows = 40
        let x = random.floats(rows * Self.hidden, scale: 2)
        for level in [Int(CK_REFERENCE)] + Levels.vector {
            let single = try Experts(kind: kind, level: level, threads: 1)
            let expected = (0..<Self.count).map { expert in
                (0..<rows).map { row in
                    single.alone(expert, Array(x[(row * Self.hidden)...].prefix(Self.hidden)))
                }
            }
            for threads in 1...3 {
                let experts = try Experts(kind: kind, level: level, threads: threads)
                for loads in Self.loads(rows: rows) {
                    let found = experts.apply(loads, x)
                    let wanted = loads.enumerated().flatMap { expert, own in
                        own.flatMap { expected[expert][$0] }
                    }
                    #expect(found.bitPatterns == wanted.bitPatterns, "\(level), \(threads)")
                }
            }
        }
    }
}
