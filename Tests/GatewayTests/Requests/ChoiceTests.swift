import Protocol
import Testing

@testable import Gateway

@Suite struct ChoiceTests {
    private let tokenizer: Tokenizer

    init() throws { tokenizer = try RequestsFixture.tokenizer() }

    private func tokens(_ text: String) throws -> [Int32] {
        try tokenizer.encode(text, addSpecialTokens: false)
    }

    /// The bytes of a text as one token each, so that a scalar is cut.
    private func byteTokens(_ text: String) throws -> [Int32] {
        try text.utf8.map { byte in
            try #require(
                (0..<Int32(tokenizer.vocabularyCount)).first {
                    tokenizer.tokenBytes($0) == [byte]
                })
        }
    }

    // MARK: Logprobs

    @Test func anEchoedPromptOfOneTokenIsScoredOnce() throws {
        let call = try RequestsFixture.call(#""echo":true,"logprobs":0"#)
        let choice = try RequestsFixture.choice(call, tokenizer, prompt: [5], text: "x")
        for token: Int32 in [10, 11, 12] {
            _ = choice.receive(RequestsFixture.output([token], logprobs: true))
        }
        #expect(choice.whole.logprobs?.map(\.token.tokenID) == [5, 10, 11, 12])
        #expect(choice.whole.promptLogprobs == nil)
    }

    @Test(arguments: [true, false])
    func aRankThatGoesOnDoesNotScoreThePromptAgain(echo: Bool) throws {
        let call = try RequestsFixture.call(
            echo ? #""echo":true,"logprobs":0"# : #""prompt_logprobs":0,"logprobs":0"#)
        let choice = try RequestsFixture.choice(call, tokenizer, text: "x")
        _ = choice.receive(RequestsFixture.output([10], scored: [6, 7], logprobs: true))
        let delta = choice.receive(RequestsFixture.output([11], scored: [6, 7], logprobs: true))
        #expect(delta.logprobs?.map(\.token.tokenID) == [11])
        #expect(delta.promptLogprobs == nil)
        let whole = choice.whole
        #expect(whole.logprobs?.map(\.token.tokenID) == (echo ? [5, 6, 7, 10, 11] : [10, 11]))
        #expect(whole.promptLogprobs?.map(\.token.tokenID) == (echo ? nil : [5, 6, 7]))
    }

    @Test func textOffsetsCountUnicodeScalars() throws {
        let call = try RequestsFixture.call(#""logprobs":0,"echo":true"#)
        // One Character and three scalars.
        let family = "e\u{301}\u{302}"
        let choice = try RequestsFixture.choice(call, tokenizer, text: family)
        var offsets: [Int] = []
        var scalars = 0
        for token in try tokens("né en été") {
            let delta = choice.receive(RequestsFixture.output([token], logprobs: true))
            #expect(delta.textOffset == scalars)
            offsets.append(delta.textOffset)
            scalars += delta.text.unicodeScalars.count
        }
        #expect(offsets.dropFirst().first ?? 0 >= 3)
        #expect(choice.whole.text == family + "né en été")
    }

    // MARK: Ends

    @Test func aStopStringIsFoundAcrossOutputsAndWhatFollowsIsDropped() throws {
        let call = try RequestsFixture.call(#""stop":"lo w","return_token_ids":true"#)
        let choice = try RequestsFixture.choice(call, tokenizer)
        let bytes = try byteTokens("hello world")
        let first = choice.receive(RequestsFixture.output(Array(bytes[0..<4])))
        #expect(first.text == "hel" && first.finishReason == nil)
        #expect(first.promptTokenIDs == [5, 6, 7])
        let second = choice.receive(RequestsFixture.output(Array(bytes[4...])))
        #expect(second.text.isEmpty && second.finishReason == .stop)
        #expect(second.stopReason == .text("lo w"))
        // "hello w" is seven tokens: usage has no more.
        #expect(choice.outputTokens == Array(bytes[0..<7]))
        #expect(choice.whole.tokenIDs == Array(bytes[0..<7]))
        #expect(choice.whole.text == "hel" && choice.whole.promptTokenIDs == [5, 6, 7])
    }

    @Test func aStopStringDoesNotEndWhatIsShorterThanMinTokens() throws {
        let call = try RequestsFixture.call(#""stop":"a","min_tokens":3,"max_tokens":9"#)
        let choice = try RequestsFixture.choice(call, tokenizer)
        let delta = choice.receive(RequestsFixture.output(try byteTokens("abbab")))
        #expect(delta.text == "abb" && delta.stopReason == .text("a"))
        #expect(choice.outputTokens.count == 4)
    }

    @Test(arguments: [true, false])
    func theTokenThatStopsIsTextOnlyWhereAskedFor(included: Bool) throws {
        let call = try RequestsFixture.call(
            #""include_stop_str_in_output":\#(included),"logprobs":0"#)
        let choice = try RequestsFixture.choice(call, tokenizer)
        let bytes = try byteTokens("abc")
        let delta = choice.receive(
            RequestsFixture.output(bytes, logprobs: true, finish: .stop, stopToken: bytes[2]))
        #expect(delta.text == (included ? "abc" : "ab"))
        #expect(delta.finishReason == .stop && delta.stopReason == .token(bytes[2]))
        #expect(choice.outputTokens.count == 3 && choice.whole.logprobs?.count == 3)
    }

    @Test func whatWasHeldBackComesWithTheEnd() throws {
        let call = try RequestsFixture.call(#""stop":"lo w""#)
        let choice = try RequestsFixture.choice(call, tokenizer)
        let delta = choice.receive(RequestsFixture.output(try byteTokens("hello ")))
        #expect(delta.text == "hel")
        let euro = try byteTokens("€")
        let cut = choice.receive(RequestsFixture.output(Array(euro[0..<2])))
        #expect(!cut.text.contains("\u{FFFD}"))
        let end = choice.receive(RequestsFixture.output([], finish: .length))
        #expect(end.finishReason == .length)
        #expect(choice.whole.text.hasPrefix("hello \u{FFFD}"))
        #expect(choice.whole.finishReason == .length)
    }

    // MARK: Calls

    @Test func usageCountsEachPromptOnceAndEveryChoice() throws {
        let call = try RequestsFixture.call(#""n":2"#, prompt: #"["a","b"]"#)
        let choices = try (0..<4).map { index in
            try RequestsFixture.choice(
                call, tokenizer, prompt: index < 2 ? [5, 6, 7] : [5], index: index)
        }
        let active = RequestsFixture.active(call, choices)
        for (index, choice) in choices.enumerated() {
            let tokens = [Int32](repeating: 10, count: index + 1)
            _ = choice.receive(RequestsFixture.output(tokens, finish: .length))
        }
        #expect(active.usage == TokenUsage(promptTokens: 4, completionTokens: 10))
        let answer = String(decoding: active.answer(), as: UTF8.self)
        #expect(answer.contains(#""prompt_tokens":4"#))
        #expect(answer.contains(#""completion_tokens":10"#))
    }

    @Test func cachedTokensAreTheFirstOutputsAndToldWhereAskedFor() throws {
        let call = try RequestsFixture.call(#""n":2"#, prompt: #"["a","b"]"#)
        let choices = try (0..<4).map {
            try RequestsFixture.choice(call, tokenizer, prompt: [5, 6, 7], index: $0)
        }
        for choice in choices {
            _ = choice.receive(RequestsFixture.output([10], cached: 2))
            // Another rank goes on with it.
            _ = choice.receive(RequestsFixture.output([11], finish: .length, cached: 3))
        }
        let told = RequestsFixture.active(call, choices, tellsCachedTokens: true)
        #expect(
            told.usage == TokenUsage(promptTokens: 6, completionTokens: 8, cachedTokens: 4))
        #expect(RequestsFixture.active(call, choices).usage.cachedTokens == nil)
    }

    @Test func aStreamedChatBeginsWithItsRole() throws {
        let call = try APIFixtures.call(.chat, #""stream":true"#)
        let choice = try RequestsFixture.choice(call, tokenizer)
        let active = ActiveCall(
            exchange: HTTPExchangeID(slot: 0, serial: 1), call: call,
            identity: ResponseIdentity(kind: .chat, requestID: "a", created: 0, model: "tiny"),
            choices: [choice], arrived: .init(nanoseconds: 0), tellsCachedTokens: false)
        func events(_ text: String, isFirst: Bool) throws -> [String] {
            var bytes: [UInt8] = []
            let delta = choice.receive(RequestsFixture.output(try byteTokens(text)))
            active.chunk(delta, of: choice, isFirst: isFirst, into: &bytes)
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n\n")
                .map(String.init)
        }
        let first = try events("a", isFirst: true)
        #expect(first.count == 2)
        #expect(first[0].contains(#""role":"assistant""#) && first[1].contains(#""content":"a""#))
        let second = try events("b", isFirst: false)
        #expect(second.count == 1 && !second[0].contains("role"))
    }
}
