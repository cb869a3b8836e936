import Foundation
import Testing

@testable import EngineWorker

@Suite struct RandomSourceTests {
    @Test func theGeneratorIsSplitMix64() {
        // The first outputs for seed 1234567 of the authors' public-domain C code.
        let expected: [UInt64] = [
            6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
            4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
        ]
        let outputs = (0..<5 as Range<UInt64>).map {
            RandomSource.output(start: 1_234_567, index: $0)
        }
        #expect(outputs == expected)
    }

    /// A stream in production depends on them, so they never change. Made by an independent
    /// program with whole numbers of unlimited size.
    @Test(
        arguments: [
            (0, 0, 0, 0xa706_dd2f_4d19_7e6f),
            (0, 0, 1, 0xb382_a305_f441_4f5e),
            (0, 1, 0, 0x46b7_3e79_f0c3_7c00),
            (1, 0, 0, 0x5e41_ab08_7439_611e),
            (42, 17, 128000, 0x1906_4e53_aca8_2143),
            (UInt64.max, 163839, 129279, 0x8f67_dc2e_5450_5bec),
        ] as [(UInt64, Int, Int32, UInt64)])
    func uniformsAreFixed(seed: UInt64, position: Int, tokenID: Int32, bits: UInt64) {
        let uniform = RandomSource(seed: seed, position: position).uniform(tokenID: tokenID)
        #expect(uniform == (Double(bits >> 12) + 0.5) / 4_503_599_627_370_496)
    }

    @Test func elementaryFunctionsAreThoseOfTheCLibraryToTheLastBits() {
        var worst = (exponential: 0.0, logarithm: 0.0)
        for step in 0...40_000 {
            let x = -Double(step) * 0.0177
            if x >= ElementaryFunctions.exponentialArgumentMin {
                let error = abs(ElementaryFunctions.exponential(x) / exp(x) - 1)
                worst.exponential = max(worst.exponential, error)
            } else {
                #expect(ElementaryFunctions.exponential(x) == 0)
            }
            for y in [Double(step) * 0.000_05 + 1e-9, Double(step + 1) * 1e7, exp(x * 0.9)] {
                let error = abs(ElementaryFunctions.logarithm(y) - log(y))
                worst.logarithm = max(worst.logarithm, error / max(1, abs(log(y))))
            }
        }
        #expect(ElementaryFunctions.exponential(0) == 1)
        #expect(ElementaryFunctions.exponential(-.infinity) == 0)
        #expect(ElementaryFunctions.logarithm(1) == 0)
        #expect(worst.exponential < 4.5e-16, "\(worst)")
        #expect(worst.logarithm < 4.5e-16, "\(worst)")
    }
}
