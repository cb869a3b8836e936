/// The byte-level BPE tokenizer of a checkpoint: text to token ids and back, as Hugging Face's
/// tokenizers does it from the same `tokenizer.json`.
///
/// For one thread: encoding uses buffers that are kept between calls, so it is not `Sendable`.
/// It must never guess: a file that asks for what is not done here is refused when it is loaded.
public final class Tokenizer {
    public let configuration: TokenizerConfiguration

    /// One more than the largest id; logits from here on stand for no token.
    public var vocabularyCount: Int { model.tokenBytes.count }
    /// nil where the configuration names none.
    public let beginOfSequenceID: Int32?
    public let endOfSequenceID: Int32?

    let model: TokenizerModel
    private let specials: [Bool]
    private let textualIDs: [String: Int32]
    /// Looked for in the whole text, before all else.
    private let firstMatcher: AddedTokenMatcher
    /// Looked for in what the first ones leave.
    private let secondMatcher: AddedTokenMatcher
    private var encoder: BytePairEncoder
    private var cache = PieceCache()

    /// - Parameter folder: holds `tokenizer.json` and `tokenizer_config.json`.
    public init(folder: String) throws(TokenizerError) {
        configuration = try TokenizerConfiguration(folder: folder)
        model = try TokenizerModel(path: folder + "/tokenizer.json")
        encoder = BytePairEncoder(merges: model.merges, byteIDs: model.byteIDs)
        var specials = [Bool](repeating: false, count: model.tokenBytes.count)
        var textualIDs: [String: Int32] = [:]
        for token in model.addedTokens {
            specials[Int(token.id)] = token.isSpecial
            textualIDs[String(decoding: token.text, as: UTF8.self)] = token.id
        }
        self.specials = specials
        self.textualIDs = textualIDs
        firstMatcher = Self.matcher(model.addedTokens.filter { !$0.isNormalized })
        secondMatcher = Self.matcher(model.addedTokens.filter(\.isNormalized))
        for token in configuration.addedTokens where textualIDs[token.text] != Int32(token.id) {
            throw .invalid(
                path: configuration.path, key: "added_tokens_decoder.\(token.id)",
                reason: "'\(token.text)' is not that token in \(model.path)")
        }
        beginOfSequenceID = try Self.id(
            configuration.beginOfSequence, "bos_token", textualIDs, configuration)
        endOfSequenceID = try Self.id(
            configuration.endOfSequence, "eos_token", textualIDs, configuration)
        guard beginOfSequenceID != nil || !configuration.addsBeginOfSequence,
            endOfSequenceID != nil || !configuration.addsEndOfSequence
        else {
            throw .invalid(
                path: configuration.path, key: "add_bos_token",
                reason: "a special token is to be added that has no name (bos_token, eos_token)")
        }
    }

    private static func matcher(_ tokens: [TokenizerModel.AddedToken]) -> AddedTokenMatcher {
        AddedTokenMatcher(tokens.map { (text: $0.text, id: $0.id) })
    }

    private static func id(
        _ text: String?, _ key: String, _ ids: [String: Int32],
        _ configuration: TokenizerConfiguration
    ) throws(TokenizerError) -> Int32? {
        guard let text else { return nil }
        guard let id = ids[text] else {
            throw .invalid(
                path: configuration.path, key: key, reason: "'\(text)' is no added token")
        }
        return id
    }

    // MARK: Ids

    /// The id of an added token ("</think>"), by its exact text.
    public func addedTokenID(_ text: String) -> Int32? { textualIDs[text] }

    /// The bytes that `id` stands for, or nil when it is no token.
    public func tokenBytes(_ id: Int32) -> [UInt8]? { model.tokenBytes[id].map(Array.init) }

    /// Whether decoding with `skipSpecialTokens` leaves it out.
    public func isSpecial(_ id: Int32) -> Bool {
        specials.indices.contains(Int(id)) && specials[Int(id)]
    }

    /// The token by itself, as logprobs show it: U+FFFD for a broken part of a character, nothing
    /// for an unknown id.
    public func tokenText(_ id: Int32) -> String {
        model.tokenBytes[id].map { UTF8Repair.text($0) } ?? ""
    }

    // MARK: Decoding

    /// The text of `ids`; unknown ids add nothing.
    public func decode(_ ids: some Sequence<Int32>, skipSpecialTokens: Bool) -> String {
        var repair = UTF8Repair()
        var output: [UInt8] = []
        for id in ids where !(skipSpecialTokens && isSpecial(id)) {
            if let bytes = model.tokenBytes[id] { repair.append(bytes, to: &output) }
        }
        repair.finish(to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    // MARK: Encoding

    /// - Parameter addSpecialTokens: put the begin- and end-of-sequence tokens around the text
    ///   where the configuration asks for them. A chat template writes them itself: false there.
    public func encode(
        _ text: String, addSpecialTokens: Bool
    ) throws(TokenizerError) -> [Int32] {
        var ids: [Int32] = []
        if addSpecialTokens, configuration.addsBeginOfSequence, let id = beginOfSequenceID {
            ids.append(id)
        }
        var text = text
        var failure: TokenizerError?
        text.withUTF8 { bytes in
            ids.reserveCapacity(ids.count + bytes.count / 3)
            eachPart(of: bytes, 0..<bytes.count, firstMatcher, into: &ids) { range, ids in
                eachPart(of: bytes, range, secondMatcher, into: &ids) { range, ids in
                    guard failure == nil else { return }
                    failure = split(.init(rebasing: bytes[range]), level: 0, into: &ids)
                }
            }
        }
        if let failure { throw failure }
        if addSpecialTokens, configuration.addsEndOfSequence, let id = endOfSequenceID {
            ids.append(id)
        }
        return ids
    }

    /// Appends the ids of the added tokens in `range`, and calls `body` for what is between.
    private func eachPart(
        of text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ matcher: AddedTokenMatcher,
        into ids: inout [Int32], _ body: (Range<Int>, inout [Int32]) -> Void
    ) {
        var position = range.lowerBound
        while let match = matcher.next(in: text, from: position, to: range.upperBound) {
            if position < match.start { body(position..<match.start, &ids) }
            ids.append(match.id)
            position = match.end
        }
        if position < range.upperBound { body(position..<range.upperBound, &ids) }
    }

    /// Splits `piece` by the patterns from `level` on and encodes what is left of it.
    private func split(
        _ piece: UnsafeBufferPointer<UInt8>, level: Int, into ids: inout [Int32]
    ) -> TokenizerError? {
        guard level < model.splitters.count else {
            encodePiece(piece, into: &ids)
            return nil
        }
        let splitter = model.splitters[level]
        var position = 0
        var search = 0
        while search < piece.count {
            switch splitter.next(in: piece, from: search) {
            case .none: search = piece.count
            case .failed(let code): return .splitFailed(pattern: splitter.pattern, code: code)
            case .found(let start, let end):
                if position < start {
                    let part = UnsafeBufferPointer(rebasing: piece[position..<start])
                    if let failure = split(part, level: level + 1, into: &ids) { return failure }
                }
                if start < end {
                    let part = UnsafeBufferPointer(rebasing: piece[start..<end])
                    if let failure = split(part, level: level + 1, into: &ids) { return failure }
                }
                position = end
                // An empty match splits, and the search goes on behind the next character.
                search = start < end ? end : Self.characterEnd(piece, after: end)
            }
        }
        guard position < piece.count else { return nil }
        let rest = UnsafeBufferPointer(rebasing: piece[position...])
        return split(rest, level: level + 1, into: &ids)
    }

    private static func characterEnd(
        _ piece: UnsafeBufferPointer<UInt8>, after position: Int
    ) -> Int {
        var end = position + 1
        while end < piece.count, piece[end] & 0xC0 == 0x80 { end += 1 }
        return end
    }

    private func encodePiece(_ piece: UnsafeBufferPointer<UInt8>, into ids: inout [Int32]) {
        guard let key = PieceCache.Key(piece) else { return encoder.encode(piece, into: &ids) }
        if cache.append(key, to: &ids) { return }
        let start = ids.count
        encoder.encode(piece, into: &ids)
        cache.store(key, ids[start...])
    }
}
