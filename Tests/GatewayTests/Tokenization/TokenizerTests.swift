import Testing

@testable import Gateway

@Suite struct TokenizerTests {
    @Test(arguments: TokenizerFixtures.names)
    func everyTextIsEncodedAsTheReferenceDoes(name: String) throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder(name))
        let records = try TokenizerFixtures.records(name, kind: "encode")
        #expect(records.count == 745)
        for record in records {
            let text = try #require(record.text)
            let ids = try #require(record.ids)
            let encoded = try tokenizer.encode(text, addSpecialTokens: false)
            #expect(encoded == ids, "record \(record.n ?? -1)")
            #expect(try tokenizer.encode(text, addSpecialTokens: true) == ids)
        }
    }

    @Test(arguments: TokenizerFixtures.names, ["encode", "decode"])
    func everyIDListIsDecodedAsTheReferenceDoes(name: String, kind: String) throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder(name))
        #expect(tokenizer.vocabularyCount == (name == "tiny" ? 4096 : 128_815))
        let records = try TokenizerFixtures.records(name, kind: kind)
        #expect(records.count == (kind == "encode" ? 745 : 107))
        for record in records {
            let ids = try #require(record.ids)
            let label = "record \(record.n ?? -1)"
            #expect(
                ids.map { tokenizer.tokenBytes($0).map(TokenizerFixtures.hex) }
                    == record.tokenBytes, "\(label)")
            #expect(
                tokenizer.decode(ids, skipSpecialTokens: false).utf8.elementsEqual(
                    try #require(record.decoded).utf8), "\(label)")
            #expect(
                tokenizer.decode(ids, skipSpecialTokens: true).utf8.elementsEqual(
                    try #require(record.decodedSkipSpecial).utf8), "\(label)")
        }
    }

    @Test func namesAndFlagsOfAddedTokensAreKnown() throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder("tiny"))
        #expect(tokenizer.beginOfSequenceID == 0)
        #expect(tokenizer.endOfSequenceID == 1)
        #expect(tokenizer.addedTokenID("<｜User｜>") == 4084)
        #expect(tokenizer.addedTokenID("User") == nil)
        #expect(tokenizer.isSpecial(1))
        #expect(!tokenizer.isSpecial(4084))
        #expect(!tokenizer.isSpecial(-1) && !tokenizer.isSpecial(4096))
        #expect(tokenizer.tokenBytes(4096) == nil && tokenizer.tokenBytes(-1) == nil)
        #expect(tokenizer.tokenText(4085) == "<｜Assistant｜>")
        #expect(tokenizer.tokenText(-5) == "")
    }

    @Test func randomTextsComeBackAndRandomIDsDecode() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("randomTextsComeBackAndRandomIDsDecode: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder("tiny"))
        for _ in 0..<300 {
            let bytes = (0..<Int.random(in: 0..<80, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            let text = String(decoding: bytes, as: UTF8.self)
            let ids = try tokenizer.encode(text, addSpecialTokens: false)
            let decoded = tokenizer.decode(ids, skipSpecialTokens: false)
            #expect(decoded.utf8.elementsEqual(text.utf8), "seed \(seed)")
            let random = (0..<20).map { _ in Int32.random(in: -3..<4200, using: &generator) }
            _ = tokenizer.decode(random, skipSpecialTokens: Bool.random(using: &generator))
            _ = tokenizer.decode(
                [Int32.random(in: .min ... .max, using: &generator)], skipSpecialTokens: false)
        }
    }

    @Test(arguments: ["aaaaaaaaaaaaa", "ab", " ", "\n", "的", "!", "é", "the "])
    func longRunsAreEncodedByHeapAsByScanning(unit: String) throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder("tiny"))
        let text = String(repeating: unit, count: 3000)
        let ids = try tokenizer.encode(text, addSpecialTokens: false)
        #expect(tokenizer.decode(ids, skipSpecialTokens: false) == text)
    }
}
