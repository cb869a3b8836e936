import CKernels
import DaemonRuntime
import Testing

@testable import EngineWorker

@Suite struct EngineLoaderTests {
    private func refusal(_ configuration: EngineConfiguration) -> String {
        do {
            _ = try EngineFixture(configuration)
            return "loaded"
        } catch {
            return "\(error)"
        }
    }

    @Test func anOverrideOfTheBlocksIsTakenAsItIs() throws {
        let fixture = try EngineFixture(EngineFixture.configuration(blockCount: 3))
        #expect(fixture.facts.blockCount == 3)
        #expect(fixture.facts.maxModelLength == 512)
    }

    @Test func theCacheIsNoLargerThanAllSequencesCouldFill() throws {
        let fixture = try EngineFixture(
            EngineFixture.configuration(length: 64, blockCount: nil, cacheBytes: 1 << 40))
        #expect(fixture.facts.blockCount == 64 / 16 * 8)
    }

    /// 512 int8 numbers, 64 in BF16 and a scale, instead of 576 numbers of 2 or 4 bytes.
    @Test func theCacheHoldsAsManyTokensAsItsTypeAllows() throws {
        let config = try ModelConfig(folder: Fixtures.model("tiny-random"))
        let (latent, rope) = (config.latentRank, config.ropeHeadSize)
        for (type, bytes) in [
            ("float32", 4 * (latent + rope)), ("bfloat16", 2 * (latent + rope)),
            ("int8", latent + 2 * rope + 4),
        ] {
            let token = bytes * config.layerCount
            let fixture = try EngineFixture(
                EngineFixture.configuration(
                    length: 32, blockCount: nil, cacheBytes: 5 * 16 * token + 7, cacheType: type))
            #expect(fixture.facts.blockCount == 5, "\(type)")
            let text = fixture.facts.description
            #expect(text.hasSuffix("KV cache of 80 tokens, \(token) bytes each (\(type))"))
        }
        let large = ck_latent_entry_bytes(Int32(CK_INT8_DYNAMIC), 512, 64)
        #expect(large == 644)
    }

    @Test func theErrorOfAShortCacheNamesARemedyThatWorks() throws {
        func configuration(length: Int = 512, bytes: Int) -> EngineConfiguration {
            EngineFixture.configuration(length: length, blockCount: nil, cacheBytes: bytes)
        }
        let config = try ModelConfig(folder: Fixtures.model("tiny-random"))
        let block = CPUBackend.bytesPerBlock(config, blockSize: 16, cacheType: .float32)
        let text = refusal(configuration(bytes: 4 * block))
        #expect(text.contains("raise --kv-cache-memory-bytes to \(32 * block)"))
        #expect(text.contains("lower --max-model-len to 64"))
        #expect(refusal(configuration(bytes: 32 * block)) == "loaded")
        #expect(refusal(configuration(length: 64, bytes: 4 * block)) == "loaded")
    }

    @Test func optionsThatTheCheckpointContradictsAreRefused() {
        let long = refusal(EngineFixture.configuration(length: 1 << 30))
        #expect(long.hasPrefix("--max-model-len \(1 << 30) is more than the "))
        let plain = refusal(EngineFixture.configuration(quantization: "fp8"))
        #expect(plain.hasPrefix("--quantization fp8: ") && plain.hasSuffix("is not quantised"))
        let int8 = EngineFixture.configuration(model: "tiny-w8a8", quantization: "fp8")
        #expect(refusal(int8).hasSuffix("is ascend"))
        let fp8 = EngineFixture.configuration(model: "tiny-fp8", quantization: "ascend")
        #expect(refusal(fp8).hasSuffix("is fp8"))
        for (model, name) in [("tiny-w8a8", "ascend"), ("tiny-fp8", "fp8")] {
            let right = EngineFixture.configuration(model: model, quantization: name)
            #expect(refusal(right) == "loaded")
        }
    }
}
