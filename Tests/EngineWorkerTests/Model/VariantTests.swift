import CKernels
import Testing

@testable import EngineWorker

/// Checkpoints that differ from the others in what real ones differ in. The golden logits are of
/// an independent implementation in numpy (F32), one prompt, all positions.
@Suite struct VariantTests {
    /// Direct query projection, no rotary scaling, one expert group, unnormalised weights, two
    /// shared experts, values of another size than keys; one file without an index.
    @Test(arguments: [CPUBackend.KernelLevel.reference, .avx2, .best])
    func aModelWithoutQueryRankAgrees(kernels: CPUBackend.KernelLevel) throws {
        guard kernels.isAvailable else { return }
        let trace = try Fixtures.golden("tiny-plain", "trace")
        let driver = try Driver("tiny-plain", kernels: kernels)
        #expect(driver.model.config.queryRank == nil && driver.model.config.yarn == nil)
        let logits = try driver.logits(of: try trace.integers("input_ids"))
        let worst = largestDifference(logits.joined(), try trace.floats("logits"))
        #expect(worst < GoldenTests.tolerance, "\(worst)")
    }

    /// The newer int8 export: F16 tensors, norms with biases, scales of sums as bits in I64, no
    /// weight scales on static layers.
    @Test func theOtherInt8LayoutAgrees() throws {
        let trace = try Fixtures.golden("tiny-w8a8-alt", "trace")
        let driver = try Driver("tiny-w8a8-alt", kernels: .reference)
        let checkpoint = try Checkpoint(folder: Fixtures.model("tiny-w8a8-alt"))
        let attention = "model.layers.0.self_attn.q_a_proj"
        #expect(try checkpoint.tensor(attention + ".deq_scale").type == .i64)
        #expect(checkpoint.optionalTensor(attention + ".weight_scale") == nil)
        #expect(checkpoint.optionalTensor("model.norm.bias") != nil)
        let prompt = try trace.integers("input_ids")
        let logits = try driver.logits(of: prompt)
        let expected = try trace.floats("logits")
        let agreeing = prompt.indices.count { row in
            let range = (row * 512)..<(row * 512 + 512)
            return largestDifference(logits[row], expected[range]) < GoldenTests.tolerance
        }
        // The others met a code on the edge between two; see GoldenTests.
        #expect(agreeing >= prompt.count / 2, "\(agreeing) of \(prompt.count)")
    }

    /// The format does not promise that tensors are aligned.
    @Test func unalignedWeightsGiveTheSameBits() throws {
        let prompt = try Fixtures.prompts("tiny-random")[6]
        let expected = bits(try Driver("tiny-random").logits(of: prompt))
        let folder = try TemporaryFolder(copyOf: "tiny-random")
        for number in 1...3 {
            let name = "model-0000\(number)-of-00003.safetensors"
            let bytes = try folder.read(name)
            let length = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
            let header = String(decoding: bytes[8..<(8 + length)], as: UTF8.self)
            let shifted = SafetensorsBytes.file(
                header: header + " ", data: Array(bytes[(8 + length)...]))
            try folder.write(name, shifted)
        }
        let tensor = try Checkpoint(folder: folder.path).tensor("lm_head.weight")
        #expect(UInt(bitPattern: tensor.bytes.baseAddress) % 2 == 1)
        #expect(bits(try Driver(folder.path).logits(of: prompt)) == expected)
    }

    @Test func blocksAtRaggedEdgesHaveTheirOwnScales() {
        let (outputs, inputs, block) = (5, 7, 3)
        let codes = [UInt8](repeating: 0x38, count: outputs * inputs)  // 1.0
        let scales = (0..<6).map { Float($0 + 1) }  // 2 x 3 blocks
        var wide = [Float](repeating: 0, count: outputs * inputs)
        ck_dequantize_blocks(&wide, codes, scales, outputs, inputs, block)
        for row in 0..<outputs {
            for column in 0..<inputs {
                #expect(wide[row * inputs + column] == scales[row / 3 * 3 + column / 3])
            }
        }
    }

    @Test func rotaryFrequenciesFollowTheirPapers() throws {
        let plain = RotaryFrequencies(try ModelConfig(folder: Fixtures.model("tiny-plain")))
        #expect(plain.magnitude == 1 && abs(plain.scoreScale - 1 / 24.0.squareRoot()) < 1e-12)
        #expect(abs(plain.frequencies[1] - 0.1) < 1e-12)
        let yarn = RotaryFrequencies(try ModelConfig(folder: Fixtures.model("tiny-random")))
        // Head size 8: the ramp is 0, 0, 1/2, 1.
        let expected = [1, 0.1, 0.01 * (0.5 + 0.5 / 40), 0.001 / 40]
        for (found, value) in zip(yarn.frequencies, expected) {
            #expect(abs(found - value) < 1e-12)
        }
        #expect(abs(yarn.scoreScale / plain.scoreScale - 1.873_854) < 1e-5)
    }
}
