import Protocol
import Testing

@testable import Gateway

/// What is decided once the prompt is counted; the context of the fixtures has 100 tokens.
@Suite struct GenerationCallTests {
    private func parameters(
        _ call: GenerationCall, promptTokens: Int, choice: Int = 0
    ) -> Result<Int32, APIError> {
        do {
            return .success(
                try call.samplingParameters(
                    promptTokens: promptTokens, choice: choice, drawnSeed: 1
                ).maxTokens)
        } catch {
            return .failure(error)
        }
    }

    @Test func aCompletionTakesItsOwnNumberOfTokens() throws {
        let call = try APIFixtures.call(.completion, #""max_tokens":40"#)
        #expect(parameters(call, promptTokens: 60) == .success(40))
        let error = APIError.contextTooLong(limit: 100, requestedOutput: 40, promptTokens: 61)
        #expect(parameters(call, promptTokens: 61) == .failure(error))
        #expect(error.status == 400 && error.parameter == "input_tokens")
        #expect(
            error.message.hasPrefix(
                "This model's maximum context length is 100 tokens. However, you requested 40 "
                    + "output tokens and your prompt contains 61 input tokens, for a total of "
                    + "101 tokens. Please reduce the length"))
    }

    @Test func aChatTakesWhatTheContextLeaves() throws {
        let call = try APIFixtures.call(.chat, #""min_tokens":5"#)
        #expect(parameters(call, promptTokens: 1) == .success(99))
        #expect(parameters(call, promptTokens: 95) == .success(5))
        guard case .failure(let error) = parameters(call, promptTokens: 96) else {
            Issue.record("4 tokens are fewer than min_tokens")
            return
        }
        #expect(error.parameter == "min_tokens")
        for count in [100, 101, Int.max] {
            #expect(
                parameters(call, promptTokens: count)
                    == .failure(
                        .contextTooLong(limit: 100, requestedOutput: 1, promptTokens: count)))
        }
    }

    @Test func aModelsDefaultBoundsAChatThatHasNone() throws {
        var defaults = APIFixtures.defaults
        defaults.sampling.maxNewTokens = 7
        let open = try APIFixtures.chat(
            #"{"messages":[{"role":"user","content":"Hi"}]}"#, defaults: defaults)
        #expect(parameters(open, promptTokens: 10) == .success(7))
        #expect(parameters(open, promptTokens: 96) == .success(4))
    }

    @Test func anEmptyPromptIsRefused() throws {
        for kind in [GenerationCall.Kind.completion, .chat] {
            let call = try APIFixtures.call(kind, "")
            guard case .failure(let error) = parameters(call, promptTokens: 0) else {
                Issue.record("an empty prompt was taken")
                return
            }
            #expect(error.parameter == (kind == .chat ? "messages" : "prompt"))
        }
    }

    @Test func anEchoNeedsNoOutput() throws {
        let call = try APIFixtures.call(
            .completion, #""echo":true,"max_tokens":0,"logprobs":2"#)
        #expect(parameters(call, promptTokens: 100) == .success(0))
        #expect(call.sampling.promptLogprobs == 2 && !call.returnPromptLogprobs)
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.call(.completion, #""max_tokens":0"#)
        }
        #expect(error?.parameter == "max_tokens")
    }

    /// An engine refuses a request for neither tokens nor scores, and its client would wait.
    @Test func aPureEchoAsksTheEngineForScoresThatItDrops() throws {
        let call = try APIFixtures.call(.completion, #""echo":true,"max_tokens":0"#)
        let sampling = try call.samplingParameters(promptTokens: 3, choice: 0, drawnSeed: 1)
        #expect(sampling.maxTokens == 0 && sampling.promptLogprobs == 0)
        #expect(!call.returnPromptLogprobs && call.logprobs == nil)
    }

    @Test func eachChoiceHasItsOwnSeed() throws {
        let seeded = try APIFixtures.call(.completion, #""n":3,"seed":-9223372036854775808"#)
        let drawn = try APIFixtures.call(.completion, #""n":3,"seed":-1"#)
        for choice in 0..<3 {
            let first = try seeded.samplingParameters(
                promptTokens: 1, choice: choice, drawnSeed: 5)
            #expect(first.seed == UInt64(1) << 63 + UInt64(choice))
            let second = try drawn.samplingParameters(
                promptTokens: 1, choice: choice, drawnSeed: .max)
            #expect(second.seed == UInt64.max &+ UInt64(choice))
        }
    }

    @Test func minTokensStayBelowMaxTokens() {
        for kind in [GenerationCall.Kind.completion, .chat] {
            let error = APIFixtures.error { () throws(APIError) in
                try APIFixtures.call(kind, #""max_tokens":3,"min_tokens":4"#)
            }
            #expect(error?.parameter == "min_tokens")
        }
    }

    @Test func theNewerNameOfMaxTokensWins() throws {
        let call = try APIFixtures.call(.chat, #""max_tokens":3,"max_completion_tokens":5"#)
        #expect(call.maxTokens == 5)
        #expect(try APIFixtures.call(.chat, #""max_tokens":3"#).maxTokens == 3)
    }

    @Test func truncationKeepsTheEndThatIsAskedFor() throws {
        let tokens: [Int32] = [1, 2, 3, 4, 5]
        let cases: [(String, [Int32])] = [
            ("", tokens),
            (#""truncate_prompt_tokens":2"#, [4, 5]),
            (#""truncate_prompt_tokens":2,"truncation_side":"right""#, [1, 2]),
            (#""truncate_prompt_tokens":-1,"max_tokens":97"#, [3, 4, 5]),
            (#""truncate_prompt_tokens":9"#, tokens),
        ]
        for (members, expected) in cases {
            let call = try APIFixtures.call(.completion, members)
            #expect(call.truncated(tokens) == expected, "\(members)")
        }
    }

    @Test func logprobsOfBothKindsMeetInOneValue() throws {
        let completion = try APIFixtures.call(.completion, #""logprobs":0"#)
        #expect(completion.sampling.logprobs == 0)
        #expect(completion.logprobs == LogprobsFormat(topCount: 0, tokensAsTokenIDs: false))
        let chat = try APIFixtures.call(.chat, #""logprobs":true,"top_logprobs":5"#)
        #expect(chat.sampling.logprobs == 5 && chat.logprobs?.topCount == 5)
        let plain = try APIFixtures.call(.chat, #""logprobs":true"#)
        #expect(plain.sampling.logprobs == 0 && plain.logprobs?.topCount == 0)
        let off = try APIFixtures.call(.chat, #""logprobs":false,"top_logprobs":0"#)
        #expect(off.sampling.logprobs == nil && off.logprobs == nil)
        var defaults = APIFixtures.defaults
        defaults.maxLogprobs = -1
        let all = try APIFixtures.completion(
            #"{"prompt":"Hi","logprobs":-1}"#, defaults: defaults)
        #expect(all.sampling.logprobs == 1_000)
    }

    @Test func aTextThatCannotFitIsRefusedUnread() throws {
        let call = try APIFixtures.call(.completion, "")
        try call.checkLength(of: String(repeating: "é", count: 300), tokenCharactersMax: 3)
        let error = APIFixtures.error { () throws(APIError) in
            try call.checkLength(of: String(repeating: "é", count: 301), tokenCharactersMax: 3)
        }
        #expect(error == .textTooLong(characters: 301, limit: 300))
        let truncated = try APIFixtures.call(.completion, #""truncate_prompt_tokens":5"#)
        try truncated.checkLength(of: String(repeating: "x", count: 301), tokenCharactersMax: 3)
    }

    @Test func aChatEchoesTheMessageThatItContinues() throws {
        func call(_ members: String) throws -> GenerationCall {
            try APIFixtures.chat(
                #"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#
                    + members + "}")
        }
        #expect(try call("").answerRole == "assistant")
        #expect(try call("").echoedContent == nil)
        #expect(try call(#","echo":true"#).echoedContent == "b")
        let user = try APIFixtures.call(.chat, #""echo":true,"add_generation_prompt":false"#)
        #expect(user.answerRole == "user" && user.echoedContent == "Hi")
        let other = try APIFixtures.call(.chat, #""echo":true"#)
        #expect(other.echoedContent == nil)
    }
}
