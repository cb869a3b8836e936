internal import DaemonRuntime

/// The parts of `tokenizer.json` that a byte-level BPE tokenizer is made of, checked.
///
/// What the file asks for and this tokenizer does not do is refused with the name of the key: a
/// tokenizer that is nearly right is worse than none. Source: the serialization of Hugging Face's
/// tokenizers, version "1.0".
struct TokenizerModel {
    struct AddedToken {
        let id: Int32
        let text: [UInt8]
        let isSpecial: Bool
        /// Looked for after the tokens for which this is false, in what those leave.
        let isNormalized: Bool
    }

    /// Ids are below this; DeepSeek's are below 129,280.
    static let vocabularyMax = 1 << 22

    private(set) var splitters: [PatternSplitter] = []
    private(set) var addedTokens: [AddedToken] = []
    private(set) var merges = MergeTable(capacity: 0)
    /// The token of each single byte.
    private(set) var byteIDs: [Int32] = []
    /// What each id stands for; nil where there is none.
    private(set) var tokenBytes = TokenBytes()

    let path: String

    init(path: String) throws(TokenizerError) {
        self.path = path
        let root = try TokenizerFiles.readJSON(path).root
        guard root.kind == .object else { throw invalid("(root)", "is no object") }
        try refuseAllBut(root, key: "truncation", "null", { $0.isNull })
        try refuseAllBut(root, key: "padding", "null", { $0.isNull })
        try refuseAllBut(root, key: "normalizer", "none or an empty Sequence") {
            $0.isNull || $0["type"]?.string == "Sequence" && $0["normalizers"]?.array?.count == 0
        }
        // Only offsets depend on it.
        try refuseAllBut(root, key: "post_processor", "none or ByteLevel") {
            $0.isNull || $0["type"]?.string == "ByteLevel"
        }
        try refuseAllBut(root, key: "decoder", "ByteLevel") { $0["type"]?.string == "ByteLevel" }
        guard root["decoder"] != nil else { throw invalid("decoder", "is missing") }
        try readPreTokenizer(root)
        guard let model = root["model"] else { throw invalid("model", "is missing") }
        try checkModel(model)
        let index = try readVocabulary(model)
        try readMerges(model, index)
        try readAddedTokens(root, index)
    }

    func invalid(_ key: String, _ reason: String) -> TokenizerError {
        .invalid(path: path, key: key, reason: reason)
    }

    func unsupported(_ key: String, _ reason: String) -> TokenizerError {
        .unsupported(path: path, key: key, reason: reason)
    }

    private func refuseAllBut(
        _ parent: JSONValue, key: String, in prefix: String = "", _ known: String,
        _ isKnown: (JSONValue) -> Bool
    ) throws(TokenizerError) {
        guard let value = parent[key], !isKnown(value) else { return }
        let found = value["type"]?.string ?? value.string ?? value.bool.map { "\($0)" }
        let kind = found.map { "'\($0)'" } ?? "a value of kind \(value.kind)"
        throw unsupported(prefix + key, "\(kind) where only \(known) is known")
    }

    private mutating func readPreTokenizer(_ root: JSONValue) throws(TokenizerError) {
        let key = "pre_tokenizer"
        guard let value = root[key], value["type"]?.string == "Sequence",
            let steps = value["pretokenizers"]?.array, let last = steps.last
        else { throw unsupported(key, "only a Sequence of Splits and one ByteLevel is known") }
        for (position, step) in steps.dropLast().enumerated() {
            let key = "\(key).pretokenizers[\(position)]"
            guard step["type"]?.string == "Split", step["behavior"]?.string == "Isolated",
                step["invert"]?.bool == false, let pattern = step["pattern"]?["Regex"]?.string
            else {
                throw unsupported(
                    key, "only Split with a Regex, behavior Isolated and invert false is known")
            }
            var reason = ""
            guard let splitter = PatternSplitter(pattern: pattern, reason: &reason) else {
                throw unsupported(key + ".pattern", reason)
            }
            splitters.append(splitter)
        }
        guard last["type"]?.string == "ByteLevel", last["add_prefix_space"]?.bool == false,
            last["use_regex"]?.bool == false
        else {
            throw unsupported(
                "\(key).pretokenizers[\(steps.count - 1)]",
                "the last step must be ByteLevel with add_prefix_space and use_regex false")
        }
    }

    /// `unk_token`, `fuse_unk` and `byte_fallback` say what becomes of bytes without a token, and
    /// there are none: ``readVocabulary(_:)`` sees to it.
    private func checkModel(_ model: JSONValue) throws(TokenizerError) {
        guard model["type"]?.string ?? "BPE" == "BPE" else {
            throw unsupported("model.type", "only BPE is known")
        }
        try refuseAllBut(model, key: "dropout", in: "model.", "null or 0") {
            $0.isNull || $0.double == 0
        }
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            try refuseAllBut(model, key: key, in: "model.", "null or an empty text") {
                $0.isNull || $0.string?.isEmpty == true
            }
        }
        try refuseAllBut(model, key: "ignore_merges", in: "model.", "false") { $0.bool == false }
    }

    private mutating func readVocabulary(
        _ model: JSONValue
    ) throws(TokenizerError) -> TokenTextIndex {
        guard let vocabulary = model["vocab"], vocabulary.kind == .object else {
            throw invalid("model.vocab", "is missing or no object")
        }
        var count = 0
        vocabulary.forEachMember { _, _ in count += 1 }
        guard count <= Self.vocabularyMax else {
            throw unsupported("model.vocab", "\(count) tokens; at most \(Self.vocabularyMax)")
        }
        var index = TokenTextIndex(capacity: count)
        var wrong: String?
        vocabulary.forEachMember { text, value in
            guard wrong == nil else { return }
            guard let id = value.integer, (0..<Self.vocabularyMax).contains(id) else {
                wrong = "'\(UTF8Repair.text(text))' has no id in 0..<\(Self.vocabularyMax)"
                return
            }
            if !index.insert(text, id: Int32(id)) {
                wrong = "'\(UTF8Repair.text(text))' is there twice"
            }
        }
        if let wrong { throw invalid("model.vocab", wrong) }
        var scratch: [UInt8] = []
        for entry in index.entries {
            scratch.removeAll(keepingCapacity: true)
            index.withText(of: entry) { ByteAlphabet.appendBytes(of: $0, to: &scratch) }
            guard tokenBytes.insert(scratch, id: Int(entry.id)) else {
                throw invalid("model.vocab", "the id \(entry.id) is there twice")
            }
        }
        for byte in 0..<256 {
            var scalar = ""
            scalar.unicodeScalars.append(Unicode.Scalar(ByteAlphabet.scalars[byte]) ?? " ")
            guard let id = scalar.withUTF8({ index.id(of: $0) }) else {
                throw unsupported("model.vocab", "the byte \(byte) ('\(scalar)') has no token")
            }
            byteIDs.append(id)
        }
        return index
    }

    /// Each merge is a text "left right" or a list of two texts.
    private mutating func readMerges(
        _ model: JSONValue, _ index: TokenTextIndex
    ) throws(TokenizerError) {
        guard let list = model["merges"]?.array else {
            throw invalid("model.merges", "is missing or no array")
        }
        merges = MergeTable(capacity: list.count)
        var scratch: [UInt8] = []
        for (rank, value) in list.enumerated() {
            scratch.removeAll(keepingCapacity: true)
            var leftCount = -1
            if let pair = value.array, pair.count == 2 {
                _ = pair[0].withUTF8 { scratch.append(contentsOf: $0) }
                leftCount = scratch.count
                _ = pair[1].withUTF8 { scratch.append(contentsOf: $0) }
            } else {
                value.withUTF8 { text in
                    guard let space = text.firstIndex(of: UInt8(ascii: " ")) else { return }
                    scratch.append(contentsOf: text[..<space])
                    leftCount = space
                    scratch.append(contentsOf: text[(space + 1)...])
                }
            }
            guard leftCount > 0, leftCount < scratch.count else {
                throw invalid("model.merges[\(rank)]", "is no pair of tokens")
            }
            let found: (left: Int32, right: Int32, whole: Int32)? = scratch.withUnsafeBufferPointer
            {
                guard let left = index.id(of: .init(rebasing: $0[..<leftCount])),
                    let right = index.id(of: .init(rebasing: $0[leftCount...])),
                    let whole = index.id(of: $0)
                else { return nil }
                return (left, right, whole)
            }
            guard let found else {
                throw invalid(
                    "model.merges[\(rank)]",
                    "'\(UTF8Repair.text(scratch))' or a half of it has no id"
                )
            }
            merges.insert(
                left: found.left, right: found.right, rank: UInt32(rank), id: found.whole)
        }
    }

    private mutating func readAddedTokens(
        _ root: JSONValue, _ index: TokenTextIndex
    ) throws(TokenizerError) {
        guard let value = root["added_tokens"], !value.isNull else { return }
        guard let list = value.array else { throw invalid("added_tokens", "is no array") }
        var texts = TokenTextIndex(capacity: list.count)
        for (position, token) in list.enumerated() {
            let key = "added_tokens[\(position)]"
            guard let id = token["id"]?.integer, (0..<Self.vocabularyMax).contains(id) else {
                throw invalid(key + ".id", "is no number in 0..<\(Self.vocabularyMax)")
            }
            guard let content = token["content"], let text = content.withUTF8({ Array($0) }),
                !text.isEmpty
            else { throw invalid(key + ".content", "is no text or empty") }
            for flag in ["lstrip", "rstrip", "single_word"] {
                try refuseAllBut(token, key: flag, in: key + ".", "false") { $0.bool == false }
            }
            guard let isSpecial = token["special"]?.bool,
                let isNormalized = token["normalized"]?.bool
            else { throw invalid(key, "has no special or no normalized that is true or false") }
            guard text.withUnsafeBufferPointer({ texts.insert($0, id: Int32(id)) }) else {
                throw invalid(key + ".content", "is there twice")
            }
            let known = text.withUnsafeBufferPointer { index.id(of: $0) }
            guard known == nil || known == Int32(id) else {
                throw invalid(key + ".id", "is \(id), but the vocabulary gives it another id")
            }
            if known == nil {
                var bytes: [UInt8] = []
                text.withUnsafeBufferPointer { ByteAlphabet.appendBytes(of: $0, to: &bytes) }
                guard tokenBytes.insert(bytes, id: id) else {
                    throw invalid(key + ".id", "\(id) is another token's")
                }
            }
            addedTokens.append(
                AddedToken(
                    id: Int32(id), text: text, isSpecial: isSpecial, isNormalized: isNormalized))
        }
    }
}
