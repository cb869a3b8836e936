import DaemonRuntime
import Protocol
import Testing

@testable import Gateway

/// Streams, compared with the text that vLLM sends for the same tokens.
@Suite struct ChunkTemplateTests {
    private let completion = ResponseIdentity(
        kind: .completion, requestID: "7", created: 1_700_000_000, model: "tiny")
    private let chat = ResponseIdentity(
        kind: .chat, requestID: "7", created: 1_700_000_000, model: "tiny")

    @Test func aCompletionsStream() {
        let template = ChunkTemplate(identity: completion, logprobs: nil)
        var output: [UInt8] = []
        template.appendDelta(ChoiceText(index: 0, text: "Hé"), to: &output)
        template.appendDelta(ChoiceText(index: 1, text: "\"\n"), to: &output)
        var last = ChoiceText(index: 0, text: "")
        last.finishReason = .stop
        last.stopReason = .text("END")
        template.appendDelta(last, to: &output)
        last = ChoiceText(index: 1, text: "x")
        last.finishReason = .length
        template.appendDelta(last, to: &output)
        template.appendUsage(TokenUsage(promptTokens: 5, completionTokens: 4), to: &output)
        ChunkTemplate.appendDone(to: &output)
        let head =
            #"data: {"id":"cmpl-7","object":"text_completion","created":1700000000,"#
            + #""model":"tiny","choices":["#
        let tail = #","prompt_token_ids":null,"token_ids":null}]}"# + "\n\n"
        #expect(
            APIFixtures.text(output)
                == APIFixtures.joined(
                    head, #"{"index":0,"text":"Hé","logprobs":null,"#,
                    #""finish_reason":null,"stop_reason":null"#, tail, head,
                    #"{"index":1,"text":"\"\n","logprobs":null,"#,
                    #""finish_reason":null,"stop_reason":null"#, tail, head,
                    #"{"index":0,"text":"","logprobs":null,"#,
                    #""finish_reason":"stop","stop_reason":"END""#, tail, head,
                    #"{"index":1,"text":"x","logprobs":null,"#,
                    #""finish_reason":"length","stop_reason":null"#, tail, head,
                    #"],"usage":{"prompt_tokens":5,"total_tokens":9,"completion_tokens":4}}"#,
                    "\n\n", "data: [DONE]\n\n"))
    }

    @Test func aChatsStream() {
        let template = ChunkTemplate(identity: chat, logprobs: nil)
        var output: [UInt8] = []
        template.appendRole(index: 0, promptTokenIDs: nil, usage: nil, to: &output)
        template.appendDelta(ChoiceText(index: 0, text: "Hi"), to: &output)
        var last = ChoiceText(index: 0, text: "!")
        last.finishReason = .stop
        last.stopReason = .token(9)
        template.appendDelta(last, to: &output)
        ChunkTemplate.appendDone(to: &output)
        let head =
            #"data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1700000000,"#
            + #""model":"tiny","choices":[{"index":0,"delta":{"#
        #expect(
            APIFixtures.text(output)
                == APIFixtures.joined(
                    head, #""role":"assistant","content":""},"logprobs":null,"#,
                    #""finish_reason":null}],"prompt_token_ids":null,"prompt_text":null}"#, "\n\n",
                    head, #""content":"Hi"},"logprobs":null,"finish_reason":null,"#,
                    #""token_ids":null}]}"#, "\n\n", head,
                    #""content":"!"},"logprobs":null,"finish_reason":"stop","#,
                    #""stop_reason":9,"token_ids":null}]}"#, "\n\n", "data: [DONE]\n\n"))
    }

    @Test func usageGoesWithEveryChunkWhenAsked() throws {
        for identity in [completion, chat] {
            let template = ChunkTemplate(identity: identity, logprobs: nil)
            let usage = TokenUsage(promptTokens: 5, completionTokens: 1, cachedTokens: 4)
            var output: [UInt8] = []
            template.appendDelta(ChoiceText(index: 0, text: "x"), usage: usage, to: &output)
            if identity.kind == .chat {
                template.appendRole(
                    "user", index: 0, promptTokenIDs: [1, 2], usage: usage, to: &output)
            }
            template.appendUsage(usage, to: &output)
            let events = try events(output)
            #expect(events.count == (identity.kind == .chat ? 3 : 2))
            for event in events {
                #expect(event["usage"]?["prompt_tokens"]?.integer == 5)
                #expect(event["usage"]?["total_tokens"]?.integer == 6)
                #expect(event["usage"]?["completion_tokens"]?.integer == 1)
                #expect(
                    event["usage"]?["prompt_tokens_details"]?["cached_tokens"]?.integer == 4)
            }
            #expect(events.last?["choices"]?.array?.isEmpty == true)
            if identity.kind == .chat {
                #expect(events[1]["prompt_token_ids"]?.array?.map(\.integer) == [1, 2])
                let delta = events[1]["choices"]?.array?.first?["delta"]
                #expect(delta?["role"]?.string == "user")
            }
        }
    }

    @Test func anErrorAfterTheHeaderIsAnEvent() throws {
        var output: [UInt8] = []
        ChunkTemplate.appendError(.engineError(reason: "rank 3 \"lost\""), to: &output)
        ChunkTemplate.appendDone(to: &output)
        #expect(
            APIFixtures.text(output)
                == APIFixtures.joined(
                    #"data: {"error":{"message":"The engine failed: rank 3 \"lost\"","#,
                    #""type":"InternalServerError","param":null,"code":500}}"#, "\n\n",
                    "data: [DONE]\n\n"))
    }

    @Test func tokenIDsAndLogprobsGoWithTheirChunk() throws {
        let format = LogprobsFormat(topCount: 1, tokensAsTokenIDs: true)
        for identity in [completion, chat] {
            let template = ChunkTemplate(identity: identity, logprobs: format)
            var choice = ChoiceText(index: 0, text: "x")
            choice.tokenIDs = [5]
            choice.promptTokenIDs = [1, 2]
            choice.textOffset = 3
            choice.logprobs = [
                LogprobEntry(
                    token: .init(tokenID: 5, text: "x", logprob: -0.5), rank: 1,
                    top: [.init(tokenID: 5, text: "x", logprob: -0.5)])
            ]
            var output: [UInt8] = []
            template.appendDelta(choice, to: &output)
            let read = try #require(try events(output).first?["choices"]?.array?.first)
            #expect(read["token_ids"]?.array?.map(\.integer) == [5])
            let logprobs = try #require(read["logprobs"])
            if identity.kind == .completion {
                #expect(read["prompt_token_ids"]?.array?.map(\.integer) == [1, 2])
                #expect(logprobs["text_offset"]?.array?.map(\.integer) == [3])
                #expect(logprobs["tokens"]?.array?.map(\.string) == ["token_id:5"])
            } else {
                let token = logprobs["content"]?.array?.first
                #expect(token?["token"]?.string == "token_id:5")
                #expect(token?["bytes"]?.array?.count == "token_id:5".utf8.count)
            }
        }
    }

    @Test func anIdentityIsEscapedOnce() throws {
        let odd = ResponseIdentity(
            kind: .completion, requestID: "a\"\\\n", created: 1, model: "m\"é")
        var output: [UInt8] = []
        ChunkTemplate(identity: odd, logprobs: nil).appendDelta(
            ChoiceText(index: 0, text: "x"), to: &output)
        let event = try #require(try events(output).first)
        #expect(event["id"]?.string == "cmpl-a\"\\\n")
        #expect(event["model"]?.string == "m\"é")
    }

    @Test func anyTextReadsBack() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("SEED=\(seed)")
        var random = APIRandom(seed: seed)
        for round in 0..<500 {
            let bytes = (0..<Int.random(in: 0...12, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            // What isn't UTF-8 becomes replacement characters, as in the detokenizer.
            let text = String(decoding: bytes, as: UTF8.self)
            let identity = round % 2 == 0 ? completion : chat
            var output: [UInt8] = []
            ChunkTemplate(identity: identity, logprobs: nil).appendDelta(
                ChoiceText(index: 0, text: text), to: &output)
            let choice = try #require(try events(output).first?["choices"]?.array?.first)
            let read = choice["text"] ?? choice["delta"]?["content"]
            #expect(read?.string == text, "SEED=\(seed)")
        }
    }

    /// The JSON of each event; no event has a line end inside.
    private func events(_ output: [UInt8]) throws -> [JSONValue] {
        let text = APIFixtures.text(output)
        #expect(text.hasSuffix("\n\n"))
        var values: [JSONValue] = []
        for line in text.split(separator: "\n") {
            #expect(line.hasPrefix("data: "))
            values.append(try JSONDocument(Array(line.dropFirst(6).utf8)).root)
        }
        return values
    }
}
