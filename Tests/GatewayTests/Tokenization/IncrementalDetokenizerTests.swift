import Testing

@testable import Gateway

@Suite struct IncrementalDetokenizerTests {
    private func deltas(
        _ ids: [Int32], _ tokenizer: Tokenizer, skipSpecialTokens: Bool
    ) -> [String] {
        var detokenizer = IncrementalDetokenizer(
            tokenizer: tokenizer, skipSpecialTokens: skipSpecialTokens)
        var deltas: [String] = []
        for id in ids { deltas.append(detokenizer.append(id)) }
        deltas.append(detokenizer.finish())
        #expect(!detokenizer.isHoldingBack)
        return deltas
    }

    /// The reference decoder holds a whole delta back while it ends in U+FFFD, genuine or not; here
    /// only the incomplete character waits. So text comes as early or earlier, and whenever the
    /// reference says something the two have said the same.
    @Test(arguments: TokenizerFixtures.names)
    func textIsTheReferencesWheneverThatSpeaks(name: String) throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder(name))
        var identical = 0
        for record in try TokenizerFixtures.records(name, kind: "encode") {
            let expected = try #require(record.incremental)
            let found = deltas(try #require(record.ids), tokenizer, skipSpecialTokens: false)
            #expect(found.count == expected.count + 1)
            #expect(found.last == "")
            identical += Array(found.dropLast()) == expected.map { $0 ?? "" } ? 1 : 0
            var ours = ""
            var theirs = ""
            for (delta, reference) in zip(found, expected) {
                ours += delta
                theirs += reference ?? ""
                #expect(
                    reference == nil
                        ? ours.utf8.starts(with: theirs.utf8)
                        : ours.utf8.elementsEqual(theirs.utf8),
                    "record \(record.n ?? -1)")
            }
        }
        #expect(identical > 690)
    }

    @Test(arguments: TokenizerFixtures.names, [false, true])
    func deltasPutTogetherAreTheDecodedText(name: String, skipSpecialTokens: Bool) throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder(name))
        let records =
            try TokenizerFixtures.records(name, kind: "encode")
            + TokenizerFixtures.records(name, kind: "decode")
        for record in records {
            let ids = try #require(record.ids)
            let found = deltas(ids, tokenizer, skipSpecialTokens: skipSpecialTokens).joined()
            let decoded = skipSpecialTokens ? record.decodedSkipSpecial : record.decoded
            #expect(found.utf8.elementsEqual(try #require(decoded).utf8), "\(record.n ?? -1)")
        }
    }

    @Test func aCharacterComesWithItsLastToken() throws {
        let tokenizer = try Tokenizer(folder: TokenizerFixtures.folder("tiny"))
        let ids = "🦜".utf8.compactMap { byte in
            (Int32(3)..<259).first { tokenizer.tokenBytes($0) == [byte] }
        }
        #expect(ids.count == 4)
        #expect(deltas(ids, tokenizer, skipSpecialTokens: false) == ["", "", "", "🦜", ""])
        let broken = Array(ids.dropLast())
        #expect(deltas(broken, tokenizer, skipSpecialTokens: false) == ["", "", "", "\u{FFFD}"])
        #expect(
            deltas(broken + [0, ids[3]], tokenizer, skipSpecialTokens: true)
                == ["", "", "", "", "🦜", ""])
    }
}
