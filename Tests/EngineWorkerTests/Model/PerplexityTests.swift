import Foundation
import Testing

@testable import EngineWorker

/// Perplexity of the bundled model on openings of three public-domain books, under each arithmetic:
/// quantising must not cost more than one in a hundred.
@Suite(.serialized) struct PerplexityTests {
    struct Arithmetic: CustomTestStringConvertible {
        let model: String
        let elementType: CPUBackend.ElementType
        var cacheType: CPUBackend.CacheType?
        var quantizesWeights = false

        var testDescription: String {
            "\(model) \(elementType)" + (cacheType.map { ", \($0) cache" } ?? "")
                + (quantizesWeights ? ", w8a8 at load" : "")
        }
    }

    static let arithmetics = [
        Arithmetic(model: "demo-bf16", elementType: .bfloat16),
        Arithmetic(model: "demo-bf16", elementType: .bfloat16, quantizesWeights: true),
        Arithmetic(model: "demo-bf16", elementType: .float32, quantizesWeights: true),
        Arithmetic(model: "demo-w8a8", elementType: .bfloat16),
        Arithmetic(model: "demo-w8a8", elementType: .float32),
        Arithmetic(model: "demo-bf16", elementType: .bfloat16, cacheType: .int8),
        Arithmetic(model: "demo-bf16", elementType: .float32, cacheType: .int8),
        Arithmetic(model: "demo-w8a8", elementType: .bfloat16, cacheType: .int8),
    ]

    static func texts() throws -> [[Int32]] {
        let path = Fixtures.repository + "/Tests/Fixtures/perplexity/ids.json"
        let data = try Data(contentsOf: URL(fileURLWithPath: path))
        let texts = try JSONDecoder().decode([String: [Int32]].self, from: data)
        return texts.sorted { $0.key < $1.key }.map(\.value)
    }

    static func perplexity(_ arithmetic: Arithmetic) throws -> Double {
        let driver = try Driver(
            arithmetic.model, elementType: arithmetic.elementType,
            cacheType: arithmetic.cacheType, quantizesWeights: arithmetic.quantizesWeights)
        var (loss, count) = (0.0, 0)
        for text in try texts() {
            let rows = try driver.logits(of: Array(text.prefix(512)))
            for (row, next) in zip(rows, text.dropFirst()) {
                let largest = Double(row.max() ?? 0)
                let total = row.reduce(0) { $0 + exp(Double($1) - largest) }
                loss += log(total) + largest - Double(row[Int(next)])
                count += 1
            }
        }
        return exp(loss / Double(count))
    }

    @Test(arguments: arithmetics) func quantisingCostsLittle(arithmetic: Arithmetic) throws {
        let plain = Arithmetic(model: "demo-bf16", elementType: .float32)
        let expected = try Self.perplexity(plain)
        let found = try Self.perplexity(arithmetic)
        print("perplexity \(arithmetic.testDescription): \(found), float32: \(expected)")
        #expect(found < expected * 1.01 && found > expected * 0.99)
        // A model that says nothing has the size of its vocabulary.
        #expect(expected < 200)
    }
}
