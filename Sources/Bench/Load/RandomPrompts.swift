internal import Gateway

/// One request to send: what it asks, and how many tokens that is.
struct BenchPrompt: Hashable, Sendable {
    enum Content: Hashable, Sendable {
        case text(String)
        case tokens([Int32])
    }

    let content: Content
    /// Tokens of the prompt as this client counts them, without special ones.
    let length: Int
    let outputLength: Int
}

/// What the random data set is made of: `--random-input-len` and the options around it.
struct RandomPromptShape: Hashable, Sendable {
    var count: Int
    var inputLength: Int
    var outputLength: Int
    /// Half width of the interval of lengths, as a part of the mean.
    var inputRange = 0.0
    var outputRange = 0.0
    var prefixLength = 0
    var seed: UInt64 = 0

    /// Both ends, for lengths around `mean`.
    static func interval(around mean: Int, range: Double, least: Int) -> ClosedRange<Int> {
        let low = Int((Double(mean) * (1 - range)).rounded(.down))
        let high = Int((Double(mean) * (1 + range)).rounded(.up))
        return max(low, least)...max(high, least)
    }
}

/// What ``RandomPrompts`` needs of a tokenizer.
protocol PromptTokenizer {
    /// One more than the largest id that is no added token.
    var baseVocabularyCount: Int { get }
    /// How many special tokens the server puts around a prompt.
    var specialTokensAdded: Int { get }
    func isSpecial(_ id: Int32) -> Bool
    func text(of ids: [Int32]) -> String
    func ids(of text: String) throws(TokenizerError) -> [Int32]
}

/// The random data set of `vllm bench serve`: consecutive token ids from a random offset, as text
/// that has the wanted number of tokens when it is encoded again.
struct RandomPrompts {
    /// Rounds of decoding and encoding until the length holds.
    static let roundsMax = 10
    /// Ids that are ordinary tokens in every vocabulary in use, for prompts without a tokenizer.
    static let ordinaryIDs: ClosedRange<Int32> = 1000...1999

    let prompts: [BenchPrompt]
    /// Tokens too many (or, negative, too few) over all prompts, where the length did not hold.
    let excessTokens: Int

    init(_ shape: RandomPromptShape, tokenizer: some PromptTokenizer) throws(BenchError) {
        let vocabulary = tokenizer.baseVocabularyCount
        let allowed = (0..<Int32(vocabulary)).filter { !tokenizer.isSpecial($0) }
        guard !allowed.isEmpty else { throw .emptyVocabulary }
        let draw = try Draw(
            shape, specialTokens: tokenizer.specialTokensAdded, vocabularyCount: vocabulary,
            allowed: allowed)
        var random = draw.random
        var prompts: [BenchPrompt] = []
        prompts.reserveCapacity(shape.count)
        var excess = 0
        for index in 0..<shape.count {
            let fitted: Fitted
            do throws(TokenizerError) {
                fitted = try Self.fit(
                    draw.ids(index), vocabularyCount: vocabulary, tokenizer, &random)
            } catch {
                throw .tokenizer("\(error)")
            }
            excess += fitted.excess
            prompts.append(
                BenchPrompt(
                    content: .text(fitted.text), length: fitted.length,
                    outputLength: draw.outputLengths[index]))
        }
        self.prompts = prompts
        excessTokens = excess
    }

    /// Without a tokenizer: the ids themselves are sent.
    init(untokenized shape: RandomPromptShape) throws(BenchError) {
        let allowed = Array(Self.ordinaryIDs)
        let draw = try Draw(
            shape, specialTokens: 0, vocabularyCount: allowed.count, allowed: allowed)
        prompts = (0..<shape.count).map { index in
            let ids = draw.ids(index)
            return BenchPrompt(
                content: .tokens(ids), length: ids.count, outputLength: draw.outputLengths[index])
        }
        excessTokens = 0
    }

    private struct Fitted {
        let text: String
        let length: Int
        let excess: Int
    }

    /// Decodes and encodes `ids` until as many come back, cutting off or adding random ones.
    private static func fit(
        _ ids: [Int32], vocabularyCount: Int, _ tokenizer: some PromptTokenizer,
        _ random: inout PCG64
    ) throws(TokenizerError) -> Fitted {
        let target = ids.count
        var ids = ids
        var roundsLeft = roundsMax
        while true {
            let text = tokenizer.text(of: ids)
            ids = try tokenizer.ids(of: text)
            if ids.count == target || roundsLeft == 0 {
                return Fitted(text: text, length: ids.count, excess: ids.count - target)
            }
            roundsLeft -= 1
            if ids.count > target {
                ids.removeLast(ids.count - target)
            } else {
                let missing = target - ids.count
                ids += (0..<missing).map { _ in
                    Int32(random.integer(in: 0...vocabularyCount - 1))
                }
            }
        }
    }
}

/// All lengths and offsets, drawn in vLLM's order.
private struct Draw {
    let inputLengths: [Int]
    let outputLengths: [Int]
    let offsets: [Int]
    let prefix: [Int32]
    let allowed: [Int32]
    let random: PCG64

    init(
        _ shape: RandomPromptShape, specialTokens: Int, vocabularyCount: Int, allowed: [Int32]
    ) throws(BenchError) {
        let mean = max(0, shape.inputLength - specialTokens)
        let inputs = RandomPromptShape.interval(around: mean, range: shape.inputRange, least: 0)
        guard shape.prefixLength + inputs.lowerBound > 0 else {
            throw .promptTooShort(
                inputLength: shape.inputLength, specialTokens: specialTokens,
                range: shape.inputRange)
        }
        let outputs = RandomPromptShape.interval(
            around: shape.outputLength, range: shape.outputRange, least: 1)
        var random = PCG64(seed: shape.seed)
        inputLengths = (0..<shape.count).map { _ in random.integer(in: inputs) }
        outputLengths = (0..<shape.count).map { _ in random.integer(in: outputs) }
        offsets = (0..<shape.count).map { _ in random.integer(in: 0...vocabularyCount - 1) }
        prefix = (0..<shape.prefixLength).map { _ in
            allowed[random.integer(in: 0...allowed.count - 1)]
        }
        self.allowed = allowed
        self.random = random
    }

    func ids(_ index: Int) -> [Int32] {
        let start = offsets[index] + index
        return prefix + (0..<inputLengths[index]).map { allowed[(start + $0) % allowed.count] }
    }
}

/// The gateway's tokenizer, as prompts are made with it.
final class GatewayTokenizer: PromptTokenizer {
    private let tokenizer: Tokenizer
    let baseVocabularyCount: Int

    init(folder: String) throws(TokenizerError) {
        let tokenizer = try Tokenizer(folder: folder)
        self.tokenizer = tokenizer
        // Added tokens stand behind the vocabulary proper.
        var count = tokenizer.vocabularyCount
        while count > 0 {
            let id = Int32(count - 1)
            guard
                tokenizer.tokenBytes(id) == nil
                    || tokenizer.addedTokenID(tokenizer.tokenText(id)) == id
            else { break }
            count -= 1
        }
        baseVocabularyCount = count
    }

    var specialTokensAdded: Int {
        (tokenizer.configuration.addsBeginOfSequence ? 1 : 0)
            + (tokenizer.configuration.addsEndOfSequence ? 1 : 0)
    }

    func isSpecial(_ id: Int32) -> Bool { tokenizer.isSpecial(id) }

    func text(of ids: [Int32]) -> String { tokenizer.decode(ids, skipSpecialTokens: false) }

    func ids(of text: String) throws(TokenizerError) -> [Int32] {
        try tokenizer.encode(text, addSpecialTokens: false)
    }
}
