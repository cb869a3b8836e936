import Testing

@testable import EngineWorker

/// The same request has the same bits in every circumstance.
@Suite(.serialized) struct InvarianceTests {
    static let models = ["tiny-random", "tiny-w8a8", "demo-bf16"]

    @Test(arguments: models, [CPUBackend.KernelLevel.reference, .avx2, .best])
    func chunksOfAPromptDoNotChangeBits(name: String, kernels: CPUBackend.KernelLevel) throws {
        guard kernels.isAvailable else { return }
        let driver = try Driver(name, kernels: kernels)
        let prompt = try Fixtures.prompts(name)[7]
        let whole = bits(try driver.logits(of: prompt))
        // 1 is decoding: every token in a step of its own.
        for chunk in [1, 3, 16, 17] {
            #expect(bits(try driver.logits(of: prompt, chunk: chunk)) == whole, "chunk \(chunk)")
        }
    }

    /// More rows of padding than a block has positions, so that there are several such blocks.
    @Test(arguments: models, [CPUBackend.KernelLevel.reference, .avx2, .best])
    func paddingDoesNotChangeBits(name: String, kernels: CPUBackend.KernelLevel) throws {
        guard kernels.isAvailable else { return }
        let driver = try Driver(name, kernels: kernels)
        let prompt = try Fixtures.prompts(name)[7]
        let whole = bits(try driver.logits(of: prompt))
        for (padding, chunk) in [(1, 1), (7, 1), (Driver.paddingMax, 3), (Driver.paddingMax, 1)] {
            driver.padding = padding
            #expect(
                bits(try driver.logits(of: prompt, chunk: chunk)) == whole,
                "padding \(padding), chunk \(chunk)")
        }
    }

    @Test(arguments: models)
    func blockSizesAndThreadsDoNotChangeBits(name: String) throws {
        let prompt = try Fixtures.prompts(name)[9]
        let expected = bits(try Driver(name, threads: 1, blockSize: 16).logits(of: prompt))
        for (threads, blockSize) in [(2, 16), (3, 1), (2, 7), (1, 64), (4, 128)] {
            let driver = try Driver(name, threads: threads, blockSize: blockSize)
            #expect(bits(try driver.logits(of: prompt)) == expected, "\(threads) \(blockSize)")
        }
    }

    @Test(arguments: models, [CPUBackend.KernelLevel.avx2, .best])
    func otherRequestsDoNotChangeBits(name: String, kernels: CPUBackend.KernelLevel) throws {
        guard kernels.isAvailable else { return }
        let driver = try Driver(name, kernels: kernels)
        let prompts = try Fixtures.prompts(name)
        let alone = bits(try driver.logits(of: prompts[7]))
        // A decode row before it, and prompts of several lengths around it.
        _ = try driver.run([Driver.Part(sequence: 1, tokens: prompts[6])])
        let next = [Int32](arrayLiteral: 5)
        let rows = try driver.run([
            Driver.Part(sequence: 1, tokens: next, firstPosition: prompts[6].count),
            Driver.Part(sequence: 2, tokens: prompts[4]),
            Driver.Part(sequence: 3, tokens: prompts[7], allLogits: true),
            Driver.Part(sequence: 4, tokens: prompts[9]),
        ])
        let together = bits(Array(rows[2..<(2 + prompts[7].count)]))
        #expect(together == alone)
    }

    /// Over the caches whose attention computes in BF16, at every level that has its own.
    @Test(
        arguments: [
            ("tiny-random", CPUBackend.CacheType.bfloat16), ("tiny-w8a8", .bfloat16),
            ("demo-bf16", .bfloat16), ("tiny-random", .int8), ("tiny-w8a8", .int8),
            ("demo-bf16", .int8),
        ], [CPUBackend.KernelLevel.reference, .avx2, .avx512BF16, .best])
    func neitherChunksNorThreadsNorOthersChangeBitsInBFloat16(
        model: (name: String, cacheType: CPUBackend.CacheType), kernels: CPUBackend.KernelLevel
    ) throws {
        guard kernels.isAvailable else { return }
        let name = model.name
        func driver(threads: Int, blockSize: Int) throws -> Driver {
            try Driver(
                name, kernels: kernels, threads: threads, blockSize: blockSize,
                elementType: .bfloat16, cacheType: model.cacheType)
        }
        let first = try driver(threads: 1, blockSize: 16)
        let prompts = try Fixtures.prompts(name)
        let alone = bits(try first.logits(of: prompts[9]))
        for chunk in [1, 5, 17] {
            #expect(bits(try first.logits(of: prompts[9], chunk: chunk)) == alone, "\(chunk)")
        }
        first.padding = Driver.paddingMax
        #expect(bits(try first.logits(of: prompts[9], chunk: 3)) == alone)
        let second = try driver(threads: 3, blockSize: 7)
        let rows = try second.run([
            Driver.Part(sequence: 1, tokens: prompts[6]),
            Driver.Part(sequence: 2, tokens: prompts[9], allLogits: true),
            Driver.Part(sequence: 3, tokens: prompts[4]),
        ])
        #expect(bits(Array(rows[1..<(1 + prompts[9].count)])) == alone)
    }

    @Test func repeatedStepsGiveTheSameBits() throws {
        let driver = try Driver("tiny-random", threads: 4)
        let prompt = try Fixtures.prompts("tiny-random")[10]
        let first = bits(try driver.logits(of: prompt))
        for _ in 0..<5 { #expect(bits(try driver.logits(of: prompt)) == first) }
    }
}
