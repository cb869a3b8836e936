import Foundation
import Testing

@testable import Gateway

@Suite struct TokenizerModelTests {
    /// The smallest file that loads: the 256 bytes, one merge, one added token.
    private static func small() -> [String: Any] {
        var vocabulary: [String: Any] = [:]
        for (byte, scalar) in ByteAlphabet.scalars.enumerated() {
            vocabulary[String(Unicode.Scalar(scalar) ?? " ")] = byte
        }
        vocabulary["ab"] = 256
        let split: [String: Any] = [
            "type": "Split", "pattern": ["Regex": #"\s+(?!\S)|\s+"#], "behavior": "Isolated",
            "invert": false,
        ]
        let byteLevel: [String: Any] = [
            "type": "ByteLevel", "add_prefix_space": false, "use_regex": false,
        ]
        return [
            "normalizer": NSNull(), "truncation": NSNull(), "padding": NSNull(),
            "pre_tokenizer": ["type": "Sequence", "pretokenizers": [split, byteLevel]],
            "decoder": ["type": "ByteLevel"],
            "model": ["type": "BPE", "vocab": vocabulary, "merges": ["a b"]],
            "added_tokens": [added("<x>", 300)],
        ]
    }

    private static func added(_ text: String, _ id: Int, _ flag: String = "") -> [String: Any] {
        var token: [String: Any] = [
            "id": id, "content": text, "special": true, "normalized": false, "lstrip": false,
            "rstrip": false, "single_word": false,
        ]
        if !flag.isEmpty { token[flag] = true }
        return token
    }

    private func load(
        _ file: Data, configuration: String = #"{"tokenizer_class": "PreTrainedTokenizerFast"}"#
    ) throws -> Tokenizer {
        let folder = try TokenizerFixtures.TemporaryFolder()
        try folder.write(file, as: "tokenizer.json")
        try folder.write(Data(configuration.utf8), as: "tokenizer_config.json")
        return try Tokenizer(folder: folder.path)
    }

    private func load(
        _ file: [String: Any], configuration: String = #"{"tokenizer_class": "Other"}"#
    ) throws -> Tokenizer {
        try load(
            try JSONSerialization.data(withJSONObject: file), configuration: configuration)
    }

    /// Sets the member at `path`; an empty path part is index 0 of a list.
    private func setting(_ path: [String], of value: Any, to new: Any?) -> Any? {
        guard let key = path.first else { return new }
        let rest = Array(path.dropFirst())
        if var list = value as? [Any] {
            list[0] = setting(rest, of: list[0], to: new) ?? NSNull()
            return list
        }
        var object = value as? [String: Any] ?? [:]
        object[key] = setting(rest, of: object[key] ?? NSNull(), to: new)
        return object
    }

    @Test func theSmallestFileEncodes() throws {
        let tokenizer = try load(Self.small())
        #expect(
            try tokenizer.encode("cab <x> ab", addSpecialTokens: true)
                == [99, 256, 32, 300, 32, 256])
        #expect(tokenizer.vocabularyCount == 301)
        #expect(tokenizer.tokenBytes(299) == nil)
        var pairs = Self.small()
        pairs["model"] = setting(["model", "merges"], of: pairs, to: [["a", "b"]])
            .flatMap { ($0 as? [String: Any])?["model"] }
        #expect(try load(pairs).encode("ab", addSpecialTokens: false) == [256])
    }

    @Test func specialTokensAreAddedAsTheConfigurationSays() throws {
        let llama = #"{"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<x>"}"#
        let tokenizer = try load(Self.small(), configuration: llama)
        #expect(try tokenizer.encode("ab", addSpecialTokens: true) == [300, 256])
        #expect(try tokenizer.encode("ab", addSpecialTokens: false) == [256])
        let both = #"""
            {"tokenizer_class": "LlamaTokenizer", "bos_token": {"content": "<x>"},
             "add_bos_token": false, "add_eos_token": true, "eos_token": "<x>"}
            """#
        let other = try load(Self.small(), configuration: both)
        #expect(try other.encode("ab", addSpecialTokens: true) == [256, 300])
    }

    @Test(
        arguments: [
            (["normalizer"], ["type": "NFC"], "normalizer"),
            (["truncation"], ["max_length": 5], "truncation"),
            (["padding"], ["strategy": "x"], "padding"),
            (["post_processor"], ["type": "TemplateProcessing"], "post_processor"),
            (["decoder"], ["type": "Metaspace"], "decoder"),
            (["decoder"], nil, "decoder"),
            (["pre_tokenizer"], ["type": "Whitespace"], "pre_tokenizer"),
            (["pre_tokenizer", "pretokenizers", "", "behavior"], "Removed", "pretokenizers[0]"),
            (["pre_tokenizer", "pretokenizers", "", "invert"], true, "pretokenizers[0]"),
            (["pre_tokenizer", "pretokenizers", "", "pattern", "Regex"], "(", "pattern"),
            (["pre_tokenizer", "pretokenizers", "", "pattern", "Regex"], #"\w+"#, #"\w"#),
            (["pre_tokenizer", "pretokenizers", "", "pattern", "Regex"], "[a&&b]", "&&"),
            (["pre_tokenizer", "pretokenizers", "", "pattern", "Regex"], "^a", "^"),
            (["pre_tokenizer", "pretokenizers", "", "pattern", "Regex"], "(?i:a)", "(?"),
            (["model", "type"], "Unigram", "model.type"),
            (["model", "dropout"], 0.1, "model.dropout"),
            (["model", "end_of_word_suffix"], "</w>", "model.end_of_word_suffix"),
            (["model", "ignore_merges"], true, "model.ignore_merges"),
            (["model", "vocab"], ["a": 1], "has no token"),
            (["model", "vocab", "b"], 97, "the id 97 is there twice"),
            (["model", "vocab", "b"], -1, "'b'"),
            (["model", "vocab", "b"], "98", "'b'"),
            (["model", "merges"], "a b", "model.merges"),
            (["model", "merges"], [7], "model.merges[0]"),
            (["model", "merges"], ["ab"], "model.merges[0]"),
            (["model", "merges"], ["a b", "a c"], "model.merges[1]"),
            (["added_tokens", "", "lstrip"], true, "added_tokens[0].lstrip"),
            (["added_tokens", "", "rstrip"], true, "added_tokens[0].rstrip"),
            (["added_tokens", "", "single_word"], true, "added_tokens[0].single_word"),
            (["added_tokens", "", "id"], 3, "added_tokens[0].id"),
            (["added_tokens", "", "content"], "", "added_tokens[0].content"),
            (["added_tokens", "", "content"], "ab", "added_tokens[0].id"),
            (["added_tokens", "", "special"], 1, "added_tokens[0]"),
        ] as [([String], (any Sendable)?, String)])
    func whatWouldChangeTheIDsIsRefusedByName(
        path: [String], value: (any Sendable)?, named: String
    ) throws {
        let changed = try #require(
            setting(path, of: Self.small(), to: value) as? [String: Any])
        let error = #expect(throws: TokenizerError.self) { try load(changed) }
        #expect(error.map(\.description)?.contains(named) == true, "\(error?.description ?? "")")
    }

    @Test(arguments: [
        (#"{"bos_token": "<y>"}"#, "bos_token"), (#"{"bos_token": 3}"#, "bos_token"),
        (#"{"eos_token": {"content": 1}}"#, "eos_token.content"),
        (#"{"add_bos_token": 1}"#, "add_bos_token"), ("[]", "(root)"), ("{", "not JSON"),
        (#"{"tokenizer_class": "LlamaTokenizerFast"}"#, "add_bos_token"),
        (#"{"chat_template": []}"#, "chat_template"),
        (#"{"added_tokens_decoder": {"3": {"content": "<x>"}}}"#, "added_tokens_decoder.3"),
        (#"{"added_tokens_decoder": {"x": {}}}"#, "added_tokens_decoder.x"),
    ])
    func aWrongConfigurationIsRefusedByName(configuration: String, named: String) throws {
        let error = #expect(throws: TokenizerError.self) {
            try load(Self.small(), configuration: configuration)
        }
        #expect(error.map(\.description)?.contains(named) == true, "\(error?.description ?? "")")
    }

    @Test func aMissingFileIsNamed() throws {
        let error = #expect(throws: TokenizerError.self) {
            try Tokenizer(folder: "/nowhere")
        }
        #expect(error.map(\.description)?.contains("/nowhere/tokenizer_config.json") == true)
        let folder = try TokenizerFixtures.TemporaryFolder()
        try folder.write(Data("{}".utf8), as: "tokenizer_config.json")
        #expect(throws: TokenizerError.self) { try Tokenizer(folder: folder.path) }
    }

    @Test func noTruncationOrDamageCrashesTheLoader() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("noTruncationOrDamageCrashesTheLoader: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        let file = try JSONSerialization.data(withJSONObject: Self.small())
        for _ in 0..<40 {
            let count = Int.random(in: 0..<file.count, using: &generator)
            #expect(throws: TokenizerError.self) { try load(file.prefix(count)) }
        }
        var loaded = 0
        for _ in 0..<150 {
            var damaged = file
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let index = damaged.indices.randomElement(using: &generator) ?? 0
                damaged[index] = UInt8.random(in: 0x20...0x7E, using: &generator)
            }
            guard let tokenizer = try? load(damaged) else { continue }
            loaded += 1
            _ = try? tokenizer.encode("a b <x> ab 的", addSpecialTokens: true)
        }
        print("noTruncationOrDamageCrashesTheLoader: \(loaded) damaged files loaded")
    }
}
