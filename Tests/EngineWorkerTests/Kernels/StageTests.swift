import CKernels
import Glibc
import Testing

@Suite struct StageTests {
    @Test func everyItemRunsOnceOnAnyNumberOfThreads() throws {
        for threads in [1, 2, 3, 8] {
            let pool = try #require(ck_pool_create(threads))
            defer { ck_pool_destroy(pool) }
            for items in [0, 1, 2, 7, 100, 1000] {
                let counts = UnsafeMutablePointer<Int32>.allocate(capacity: items + 1)
                counts.initialize(repeating: 0, count: items + 1)
                defer { counts.deallocate() }
                for _ in 0..<20 {
                    ck_pool_run(
                        pool, items,
                        { context, item, _ in
                            context.assumingMemoryBound(to: Int32.self)[item] += 1
                        }, counts)
                }
                #expect((0..<items).allSatisfy { counts[$0] == 20 })
                #expect(counts[items] == 0)
            }
        }
    }

    static func route(
        _ logits: [Float], bias: [Float], groups: Int, kept: Int, chosen: Int,
        normalize: Bool = true, scale: Float = 1
    ) -> (ids: [Int32], weights: [Float]) {
        var router = ck_router(
            experts: logits.count, groups: groups, groups_kept: kept, chosen: chosen, scale: scale,
            normalize: normalize ? 1 : 0)
        var ids = [Int32](repeating: -1, count: chosen)
        var weights = [Float](repeating: -1, count: chosen)
        ck_router_choose(&ids, &weights, logits, bias, &router)
        return (ids, weights)
    }

    @Test func theBiasChoosesAndTheScoreWeighs() {
        // sigmoid(0) is 1/2 for all; the bias alone decides, and does not enter the weights.
        let found = Self.route(
            [0, 0, 0, 0], bias: [0, 0.2, -0.1, 0.1], groups: 1, kept: 1, chosen: 2, scale: 2.5)
        #expect(found.ids == [1, 3])
        #expect(found.weights == [1.25, 1.25])
        let plain = Self.route(
            [0, 0, 0, 0], bias: [0, 0.2, -0.1, 0.1], groups: 1, kept: 1, chosen: 2,
            normalize: false)
        #expect(plain.weights == [0.5, 0.5])
    }

    @Test func ofEqualsTheLowerIndexWins() {
        let logits = [Float](repeating: 0.3, count: 8)
        let bias = [Float](repeating: 0, count: 8)
        #expect(Self.route(logits, bias: bias, groups: 4, kept: 2, chosen: 3).ids == [0, 1, 2])
    }

    @Test func losingGroupsAreOutEvenWhenTheirScoresAreHigher() {
        // The best expert is in group 0, but the two best of group 1 together are better.
        let bias: [Float] = [0.9, -3, 0.4, 0.4]
        let logits = [Float](repeating: 0, count: 4)
        #expect(Self.route(logits, bias: bias, groups: 2, kept: 1, chosen: 1).ids == [2])
        // Negative biased scores: experts of a losing group must not win as zeros.
        let negative: [Float] = [-2, -2, -1, -1.5]
        let found = Self.route(logits, bias: negative, groups: 2, kept: 1, chosen: 2)
        #expect(found.ids == [2, 3])
    }

    @Test func scoresThatAreNoNumbersStayInBounds() {
        let logits = [Float](repeating: .nan, count: 8)
        let bias = [Float](repeating: 0, count: 8)
        let found = Self.route(logits, bias: bias, groups: 2, kept: 1, chosen: 4)
        #expect(found.ids.allSatisfy { (0..<8).contains($0) })
    }

    @Test func everyCodeOfE4M3IsExact() {
        for code in 0..<256 {
            let value = ck_widen_e4m3(UInt8(code))
            let (exponent, mantissa) = (code >> 3 & 15, Double(code & 7))
            guard code & 127 != 127 else {
                #expect(value.isNaN)
                continue
            }
            var expected =
                exponent == 0
                ? mantissa / 512 : (1 + mantissa / 8) * pow(2, Double(exponent) - 7)
            if code & 128 != 0 { expected = -expected }
            #expect(Double(value) == expected)
        }
        #expect(ck_widen_e4m3(0x7e) == 448)
    }

    @Test func everyHalfIsWidenedExactly() {
        let codes = (0...UInt16.max).map { $0 }
        var wide = [Float](repeating: 0, count: codes.count)
        ck_widen_f16(&wide, codes, codes.count)
        #expect(wide[0x3c00] == 1 && wide[0xc000] == -2 && wide[0x7bff] == 65504)
        #expect(wide[1] == 5.960_464_5e-8 && wide[0x0400] == 6.103_515_6e-5)
        #expect(wide[0x7c00] == .infinity && wide[0xfc00] == -.infinity && wide[0x7c01].isNaN)
    }
}
