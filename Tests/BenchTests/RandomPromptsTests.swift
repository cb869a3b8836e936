import Foundation
import Gateway
import Testing

@testable import Bench

/// Words are ids: nothing changes between decoding and encoding unless `change` says so.
private struct WordTokenizer: PromptTokenizer {
    var baseVocabularyCount = 100
    var specialTokensAdded = 0
    var specials: Set<Int32> = []
    var change: @Sendable ([Int32]) -> [Int32] = { $0 }

    func isSpecial(_ id: Int32) -> Bool { specials.contains(id) }
    func text(of ids: [Int32]) -> String { ids.map { "\($0)" }.joined(separator: " ") }
    func ids(of text: String) throws(TokenizerError) -> [Int32] {
        change(text.split(separator: " ").compactMap { Int32($0) })
    }
}

@Suite struct RandomPromptsTests {
    static func ids(_ prompt: BenchPrompt) -> [Int] {
        switch prompt.content {
        case .text(let text): text.split(separator: " ").compactMap { Int($0) }
        case .tokens(let ids): ids.map { Int($0) }
        }
    }

    static func tokenizer(_ name: String) throws -> GatewayTokenizer {
        let folder = URL(filePath: #filePath).deletingLastPathComponent()
            .appending(path: "../Fixtures/tokenizers/\(name)").standardizedFileURL.path
        return try GatewayTokenizer(folder: folder)
    }

    /// Lengths and offsets were printed by numpy 2.4: `default_rng(7).integers` in [6, 11), then
    /// [3, 6), then [0, 100), five each. Ids 0, 1 and 2 are special.
    @Test func lengthsAndTokensAreThoseOfNumpysStream() throws {
        let shape = RandomPromptShape(
            count: 5, inputLength: 9, outputLength: 4, inputRange: 0.25, outputRange: 0.25, seed: 7)
        let tokenizer = WordTokenizer(specialTokensAdded: 1, specials: [0, 1, 2])
        let made = try RandomPrompts(shape, tokenizer: tokenizer)
        let lengths = [10, 9, 9, 10, 8]
        let offsets = [28, 87, 91, 0, 49]
        #expect(made.prompts.map(\.length) == lengths)
        #expect(made.prompts.map(\.outputLength) == [5, 5, 3, 3, 3])
        #expect(made.excessTokens == 0)
        for (index, prompt) in made.prompts.enumerated() {
            let start = offsets[index] + index
            #expect(Self.ids(prompt) == (0..<lengths[index]).map { 3 + (start + $0) % 97 })
        }
    }

    @Test func thePrefixIsCommonAndCounts() throws {
        let shape = RandomPromptShape(
            count: 4, inputLength: 6, outputLength: 1, prefixLength: 5, seed: 1)
        let prompts = try RandomPrompts(shape, tokenizer: WordTokenizer()).prompts
        let prefixes = Set(prompts.map { Array(Self.ids($0).prefix(5)) })
        #expect(prefixes.count == 1)
        #expect(prompts.map(\.length) == [11, 11, 11, 11])
        #expect(Set(prompts.map(Self.ids)).count == 4)
    }

    @Test func textsThatGrowOrShrinkAreFitted() throws {
        // Each id above 50 comes back twice; an id below 10 is swallowed.
        let tokenizer = WordTokenizer(change: { ids in
            ids.flatMap { id in
                id < 10 ? [] : id > 50 ? [id - 40, id - 40] : [id]
            }
        })
        let shape = RandomPromptShape(count: 50, inputLength: 16, outputLength: 1, seed: 5)
        let made = try RandomPrompts(shape, tokenizer: tokenizer)
        for prompt in made.prompts {
            guard case .text(let text) = prompt.content else { continue }
            #expect(try tokenizer.ids(of: text).count == prompt.length)
        }
        #expect(made.prompts.count { $0.length == 16 } >= 45)
        #expect(made.excessTokens == made.prompts.reduce(0) { $0 + $1.length - 16 })
    }

    @Test(arguments: ["tiny", "deepseek-v3"])
    func lengthsHoldWithRealTokenizers(name: String) throws {
        let tokenizer = try Self.tokenizer(name)
        let shape = RandomPromptShape(
            count: 30, inputLength: 40, outputLength: 8, inputRange: 0.5, seed: 0)
        let made = try RandomPrompts(shape, tokenizer: tokenizer)
        for prompt in made.prompts {
            guard case .text(let text) = prompt.content else { continue }
            #expect(try tokenizer.ids(of: text).count == prompt.length)
        }
        // What ten rounds do not bring into shape is known to the caller.
        let mean = Double(made.prompts.reduce(0) { $0 + $1.length }) / 30
        #expect(abs(Double(made.excessTokens)) <= 0.1 * mean * 30)
        #expect(made.prompts == (try RandomPrompts(shape, tokenizer: tokenizer)).prompts)
        var other = shape
        other.seed = 1
        #expect(made.prompts != (try RandomPrompts(other, tokenizer: tokenizer)).prompts)
    }

    @Test func theVocabularyProperEndsBeforeTheAddedTokens() throws {
        let tokenizer = try Self.tokenizer("deepseek-v3")
        #expect(tokenizer.baseVocabularyCount == 128_000)
        #expect(tokenizer.isSpecial(0))
        #expect(tokenizer.specialTokensAdded == 0)
    }

    @Test func aPromptThatCouldBeEmptyIsRefused() {
        let shape = RandomPromptShape(count: 1, inputLength: 1, outputLength: 1)
        let expected = BenchError.promptTooShort(inputLength: 1, specialTokens: 1, range: 0)
        #expect(throws: expected) {
            try RandomPrompts(shape, tokenizer: WordTokenizer(specialTokensAdded: 1))
        }
    }

    @Test func withoutATokenizerTheIDsAreSent() throws {
        let shape = RandomPromptShape(count: 3, inputLength: 1200, outputLength: 2)
        for prompt in try RandomPrompts(untokenized: shape).prompts {
            let ids = Self.ids(prompt)
            #expect(ids.count == 1200)
            #expect(ids.allSatisfy { (1000...1999).contains($0) })
        }
    }
}
