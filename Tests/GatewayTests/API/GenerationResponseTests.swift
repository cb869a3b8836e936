import DaemonRuntime
import Protocol
import Testing

@testable import Gateway

/// Whole answers, compared with the text that vLLM sends for the same tokens.
@Suite struct GenerationResponseTests {
    private let usage = TokenUsage(promptTokens: 3, completionTokens: 2)

    private func identity(_ kind: GenerationCall.Kind) -> ResponseIdentity {
        ResponseIdentity(kind: kind, requestID: "7", created: 1_700_000_000, model: "tiny")
    }

    @Test func aCompletion() {
        var choice = ChoiceText(index: 0, text: "Hé\n")
        choice.finishReason = .length
        let body = GenerationResponse.encode(
            identity(.completion), choices: [choice], usage: usage, logprobs: nil)
        #expect(
            APIFixtures.text(body)
                == APIFixtures.joined(
                    #"{"id":"cmpl-7","object":"text_completion","created":1700000000,"#,
                    #""model":"tiny","choices":[{"index":0,"text":"Hé\n","logprobs":null,"#,
                    #""finish_reason":"length","stop_reason":null,"token_ids":null,"#,
                    #""prompt_logprobs":null,"prompt_token_ids":null}],"service_tier":null,"#,
                    #""system_fingerprint":null,"usage":{"prompt_tokens":3,"total_tokens":5,"#,
                    #""completion_tokens":2,"prompt_tokens_details":null,"#,
                    #""completion_tokens_details":null},"kv_transfer_params":null}"#))
    }

    @Test func aChat() {
        var choice = ChoiceText(index: 0, text: "Hi")
        choice.finishReason = .stop
        choice.stopReason = .text("\"")
        let body = GenerationResponse.encode(
            identity(.chat), choices: [choice], usage: usage, logprobs: nil)
        #expect(
            APIFixtures.text(body)
                == APIFixtures.joined(
                    #"{"id":"chatcmpl-7","object":"chat.completion","created":1700000000,"#,
                    #""model":"tiny","choices":[{"index":0,"message":{"role":"assistant","#,
                    #""content":"Hi","refusal":null,"annotations":null,"audio":null,"#,
                    #""function_call":null,"reasoning":null},"logprobs":null,"#,
                    #""finish_reason":"stop","stop_reason":"\"","token_ids":null}],"#,
                    #""service_tier":null,"system_fingerprint":null,"usage":{"prompt_tokens":3,"#,
                    #""total_tokens":5,"completion_tokens":2,"prompt_tokens_details":null,"#,
                    #""completion_tokens_details":null},"prompt_logprobs":null,"#,
                    #""prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null}"#))
    }

    /// Two tokens; the second one is sampled outside the two likeliest.
    private var entries: [LogprobEntry] {
        let first = LogprobEntry.Candidate(tokenID: 5, text: "é", logprob: -0.5)
        let second = LogprobEntry.Candidate(
            tokenID: 6, text: "\u{FFFD}", bytes: [0xF0], logprob: -.infinity)
        return [
            LogprobEntry(
                token: first, rank: 1,
                top: [first, .init(tokenID: 8, text: "b", logprob: -1.25)]),
            LogprobEntry(
                token: second, rank: 9,
                top: [
                    .init(tokenID: 8, text: "b", logprob: -0.25),
                    .init(tokenID: 9, text: "\u{FFFD}", logprob: -2),
                ]),
        ]
    }

    @Test func logprobsOfACompletion() throws {
        var choice = ChoiceText(index: 0, text: "é\u{FFFD}")
        choice.logprobs = entries
        choice.textOffset = 2
        let body = GenerationResponse.encode(
            identity(.completion), choices: [choice], usage: usage,
            logprobs: LogprobsFormat(topCount: 2, tokensAsTokenIDs: false))
        let text = APIFixtures.text(body)
        // The sampled token comes first; two tokens of one text are one member.
        #expect(
            text.contains(
                APIFixtures.joined(
                    #""logprobs":{"text_offset":[2,3],"token_logprobs":[-0.5,-9999.0],"#,
                    #""tokens":["é","\#u{FFFD}"],"top_logprobs":[{"é":-0.5,"b":-1.25},"#,
                    #"{"\#u{FFFD}":-2.0,"b":-0.25}]},"#)), "\(text)")
    }

    @Test func logprobsOfACompletionByTokenID() {
        var choice = ChoiceText(index: 0, text: "")
        choice.logprobs =
            [.promptStart(tokenID: 1, text: "<s>")] + entries
        let text = APIFixtures.text(
            GenerationResponse.encode(
                identity(.completion), choices: [choice], usage: usage,
                logprobs: LogprobsFormat(topCount: 1, tokensAsTokenIDs: true)))
        #expect(
            text.contains(
                APIFixtures.joined(
                    #""logprobs":{"text_offset":[0,10,20],"token_logprobs":[null,-0.5,-9999.0],"#,
                    #""tokens":["token_id:1","token_id:5","token_id:6"],"top_logprobs":[null,"#,
                    #"{"token_id:5":-0.5,"token_id:8":-1.25},"#,
                    #"{"token_id:6":-9999.0,"token_id:8":-0.25}]},"#)), "\(text)")
    }

    @Test func logprobsOfAChat() {
        var choice = ChoiceText(index: 0, text: "")
        choice.logprobs = entries
        let text = APIFixtures.text(
            GenerationResponse.encode(
                identity(.chat), choices: [choice], usage: usage,
                logprobs: LogprobsFormat(topCount: 2, tokensAsTokenIDs: false)))
        let first = #""token":"é","logprob":-0.5,"bytes":[195,169]"#
        let second = #""token":"\#u{FFFD}","logprob":-9999.0,"bytes":[240]"#
        #expect(
            text.contains(
                APIFixtures.joined(
                    #""logprobs":{"content":[{\#(first),"top_logprobs":[{\#(first)},"#,
                    #"{"token":"b","logprob":-1.25,"bytes":[98]}]},"#,
                    #"{\#(second),"top_logprobs":[{\#(second)},"#,
                    #"{"token":"b","logprob":-0.25,"bytes":[98]}]}]},"#)), "\(text)")
    }

    @Test func aChatWithoutAlternativesHasNone() throws {
        var choice = ChoiceText(index: 0, text: "")
        choice.logprobs = entries
        let body = GenerationResponse.encode(
            identity(.chat), choices: [choice], usage: usage,
            logprobs: LogprobsFormat(topCount: 0, tokensAsTokenIDs: false))
        let logprobs = try JSONDocument(body).root["choices"]?.array?.first?["logprobs"]
        let content = try #require(logprobs?["content"]?.array)
        #expect(content.count == 2)
        #expect(content.allSatisfy { $0["top_logprobs"]?.array?.isEmpty == true })
    }

    @Test func promptLogprobsAreKeyedByToken() throws {
        for kind in [GenerationCall.Kind.completion, .chat] {
            var choice = ChoiceText(index: 0, text: "")
            choice.promptLogprobs = [.promptStart(tokenID: 1, text: "<s>")] + entries
            choice.promptTokenIDs = [1, 5, 6]
            choice.tokenIDs = [7]
            let text = APIFixtures.text(
                GenerationResponse.encode(
                    identity(kind), choices: [choice], usage: usage, logprobs: nil))
            #expect(
                text.contains(
                    APIFixtures.joined(
                        #""prompt_logprobs":[null,"#,
                        #"{"5":{"logprob":-0.5,"rank":1,"decoded_token":"é"},"#,
                        #""8":{"logprob":-1.25,"rank":2,"decoded_token":"b"}},"#,
                        #"{"6":{"logprob":-9999.0,"rank":9,"decoded_token":"\#u{FFFD}"},"#,
                        #""8":{"logprob":-0.25,"rank":1,"decoded_token":"b"},"#,
                        #""9":{"logprob":-2.0,"rank":2,"decoded_token":"\#u{FFFD}"}}],"#,
                        #""prompt_token_ids":[1,5,6]"#)), "\(text)")
            #expect(text.contains(#""token_ids":[7]"#))
        }
    }

    @Test func noLogprobIsBeyondJSON() {
        #expect(JSONWriter.floored(-.infinity) == -9999)
        #expect(JSONWriter.floored(.nan) == -9999)
        #expect(JSONWriter.floored(.infinity) == 0)
        #expect(JSONWriter.floored(-20_000) == -9999)
        #expect(JSONWriter.floored(-3.5) == -3.5)
    }

    @Test func cachedTokensAreDetails() throws {
        let body = GenerationResponse.encode(
            identity(.completion), choices: [ChoiceText(index: 0, text: "")],
            usage: TokenUsage(promptTokens: 9, completionTokens: 0, cachedTokens: 8),
            logprobs: nil)
        let details = try JSONDocument(body).root["usage"]?["prompt_tokens_details"]
        #expect(details?["cached_tokens"]?.integer == 8)
    }

    @Test func smallAnswers() throws {
        let card = ModelCard(
            id: "tiny", root: "/models/tiny", created: 1_700_000_000, contextLength: 100)
        let models = APIFixtures.text(ServerResponses.models([card]))
        #expect(
            models
                == APIFixtures.joined(
                    #"{"object":"list","data":[{"id":"tiny","object":"model","#,
                    #""created":1700000000,"owned_by":"phalanx","root":"/models/tiny","#,
                    #""parent":null,"#,
                    #""max_model_len":100,"permission":[{"id":"modelperm-tiny","#,
                    #""object":"model_permission","created":1700000000,"#,
                    #""allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"#,
                    #""allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"#,
                    #""organization":"*","group":null,"is_blocking":false}]}]}"#))
        let one = try ServerResponses.model("tiny", of: [card])
        #expect(try JSONDocument(one).root["id"]?.string == "tiny")
        let error = APIFixtures.error { () throws(APIError) in
            try ServerResponses.model("other", of: [card])
        }
        #expect(error == .modelNotFound(name: "other"))
        #expect(APIFixtures.text(ServerResponses.version("1.0")) == #"{"version":"1.0"}"#)
        #expect(APIFixtures.text(ServerResponses.load(3)) == #"{"server_load":3}"#)
        let tokens = TokenizeCall.response(
            tokens: [1, 2], tokenStrings: nil, contextLength: 100)
        #expect(
            APIFixtures.text(tokens)
                == #"{"count":2,"max_model_len":100,"tokens":[1,2],"token_strs":null}"#)
        let strings = TokenizeCall.response(
            tokens: [1], tokenStrings: ["\""], contextLength: 100)
        #expect(APIFixtures.text(strings).hasSuffix(#""token_strs":["\""]}"#))
        #expect(APIFixtures.text(DetokenizeCall.response(prompt: "é")) == #"{"prompt":"é"}"#)
    }
}
