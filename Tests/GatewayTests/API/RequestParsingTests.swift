import Protocol
import Testing

@testable import Gateway

/// A field of both kinds of call, with values that are taken and values that are refused.
struct FieldCase: CustomTestStringConvertible, Sendable {
    let name: String
    let good: [String]
    let bad: [String]
    /// Named in `param` where it isn't the field itself.
    let parameter: String?

    init(_ name: String, good: [String], bad: [String], parameter: String? = nil) {
        self.name = name
        self.good = good
        self.bad = bad
        self.parameter = parameter
    }

    var testDescription: String { name }
}

@Suite struct RequestParsingTests {
    static let shared: [FieldCase] = [
        FieldCase("model", good: ["null", #""tiny""#, #""alias""#, #""""#], bad: ["1", "[]"]),
        FieldCase(
            "temperature", good: ["null", "0", "0.001", "2", #""0.5""#],
            bad: ["-0.1", "2.1", "[]", #""hot""#, #""nan""#, "{}"]),
        FieldCase("top_p", good: ["null", "1", "0.01"], bad: ["0", "1.1", "-1", "1e-60", "[]"]),
        FieldCase(
            "top_k", good: ["null", "-1", "0", "5", "5.0"], bad: ["-2", "1.5", "[]", #""x""#]),
        FieldCase("min_p", good: ["null", "0", "1"], bad: ["-0.1", "1.1", "{}"]),
        FieldCase("presence_penalty", good: ["null", "-2", "2"], bad: ["-2.1", "2.1", #""x""#]),
        FieldCase("frequency_penalty", good: ["null", "-2", "2"], bad: ["-2.1", "2.1", "[]"]),
        FieldCase(
            "repetition_penalty", good: ["null", "0.1", "9"], bad: ["0", "-1", "1e60", "[]"]),
        FieldCase(
            "seed", good: ["null", "-1", "0", "9223372036854775807", "-9223372036854775808"],
            bad: ["9223372036854775808", "1.5", "[]", #""x""#]),
        FieldCase(
            "stop", good: ["null", "[]", #""a""#, #"["a","b","c","d"]"#],
            bad: [#""""#, #"["a",""]"#, "1", "[1]", "{}", #"["a","b","c","d","e"]"#]),
        FieldCase(
            "stop_token_ids", good: ["null", "[]", "[1,999]"], bad: ["1", "[1000]", "[-1]"]),
        FieldCase("min_tokens", good: ["0", "16"], bad: ["null", "-1", "4294967296", "[]"]),
        FieldCase(
            "ignore_eos", good: ["true", "false", "1", #""yes""#], bad: ["null", "2", "[]"]),
        FieldCase(
            "logit_bias", good: ["null", "{}", #"{"5":1,"7":-500}"#],
            bad: [#"{"x":1}"#, #"{"1000":1}"#, #"{"-1":1}"#, "[]", "1"]),
        FieldCase(
            "allowed_token_ids", good: ["null", "[0]", "[1,2]"], bad: ["[]", "[1000]", "1"]),
        FieldCase("prompt_logprobs", good: ["null", "0", "20"], bad: ["-2", "21", "-1", "[]"]),
        FieldCase("stream", good: ["null", "true", "false"], bad: ["[]", #""maybe""#, "3"]),
        FieldCase("stream_options", good: ["null", "{}"], bad: [#"{"include_usage":true}"#, "1"]),
        FieldCase("include_stop_str_in_output", good: ["true"], bad: ["null", "[]"]),
        FieldCase("skip_special_tokens", good: ["false"], bad: ["null", "[]"]),
        FieldCase("spaces_between_special_tokens", good: ["false"], bad: ["null", "[]"]),
        FieldCase("add_special_tokens", good: ["true", "false"], bad: ["null", "{}"]),
        FieldCase("return_token_ids", good: ["null", "true"], bad: ["[]"]),
        FieldCase("return_tokens_as_token_ids", good: ["null", "true"], bad: ["[]"]),
        FieldCase(
            "truncate_prompt_tokens", good: ["null", "-1", "1", "100"], bad: ["-2", "0", "101"]),
        FieldCase(
            "truncation_side", good: ["null", #""left""#, #""right""#], bad: [#""up""#, "1"]),
        FieldCase("priority", good: ["0", "-5"], bad: ["null", "1.5", "9223372036854775808"]),
        FieldCase("cache_salt", good: ["null", #""tenant""#], bad: [#""""#, "1"]),
        FieldCase("request_id", good: [#""mine""#], bad: ["null", "1"]),
        FieldCase("user", good: ["null", #""me""#], bad: ["1"]),
        FieldCase("length_penalty", good: ["1.0", "2"], bad: ["null", "[]"]),
        FieldCase("max_tokens", good: ["null", "1", "100"], bad: ["0", "-1", "101", "1.5", "[]"]),
        FieldCase("an_unknown_field", good: ["null", "1", #"{"a":[]}"#], bad: []),
    ]

    static let unsupported: [FieldCase] = [
        FieldCase("best_of", good: ["null", "1"], bad: ["2"]),
        FieldCase("use_beam_search", good: ["false"], bad: ["true"]),
        FieldCase(
            "response_format", good: ["null", #"{"type":"text"}"#],
            bad: [#"{"type":"json_object"}"#, #"{"type":"json_schema"}"#]),
        FieldCase("structured_outputs", good: ["null"], bad: [#"{"regex":"a"}"#]),
        FieldCase("guided_json", good: ["null"], bad: ["{}"]),
        FieldCase("guided_regex", good: ["null"], bad: [#""a""#]),
        FieldCase("guided_choice", good: ["null"], bad: [#"["a"]"#]),
        FieldCase("guided_grammar", good: ["null"], bad: [#""a""#]),
        FieldCase("bad_words", good: ["[]", "null"], bad: [#"["a"]"#]),
        FieldCase("prompt_embeds", good: ["null"], bad: [#""AAAA""#]),
        FieldCase("thinking_token_budget", good: ["null", "-1"], bad: ["0", "5"]),
        FieldCase("repetition_detection", good: ["null"], bad: [#"{"min_count":3}"#]),
        FieldCase("logprob_token_ids", good: ["null"], bad: ["[1]"]),
        FieldCase("kv_transfer_params", good: ["null", "{}"], bad: [#"{"a":1}"#]),
        FieldCase("vllm_xargs", good: ["null", "{}"], bad: [#"{"a":1}"#]),
        FieldCase("stream_interval", good: ["null", "1"], bad: ["2", "0"]),
    ]

    static let completionOnly: [FieldCase] = [
        FieldCase("n", good: ["1", "16384"], bad: ["null", "0", "-1", "16385", "1.5"]),
        FieldCase("echo", good: ["null", "true"], bad: ["[]"]),
        FieldCase("suffix", good: ["null", #""x""#], bad: ["1"]),
        FieldCase("logprobs", good: ["null", "0", "20", "true"], bad: ["-1", "-2", "21", "[]"]),
    ]

    static let chatOnly: [FieldCase] = [
        FieldCase("n", good: ["null", "1"], bad: ["0", "16385"]),
        FieldCase("echo", good: ["true"], bad: ["null", "[]"]),
        FieldCase("logprobs", good: ["null", "true", "false"], bad: ["5", "[]"]),
        FieldCase("top_logprobs", good: ["null", "0"], bad: ["1", "-1", "-2", "21", "[]"]),
        FieldCase(
            "max_completion_tokens", good: ["null", "1", "100"], bad: ["0", "101", "1.5"]),
        FieldCase("tools", good: ["null"], bad: ["[]", #"[{"type":"function"}]"#, "{}"]),
        FieldCase("tool_choice", good: ["null", #""none""#], bad: [#""auto""#, #""required""#]),
        FieldCase("reasoning_effort", good: ["null", #""low""#], bad: [#""huge""#, "1"]),
        FieldCase("include_reasoning", good: ["true"], bad: ["null"]),
        FieldCase("parallel_tool_calls", good: ["null", "true"], bad: ["[]"]),
        FieldCase("documents", good: ["null", "[]"], bad: [#"[{"text":"a"}]"#]),
        FieldCase("chat_template", good: ["null"], bad: [#""x""#]),
        FieldCase("chat_template_kwargs", good: ["null", "{}"], bad: [#"{"thinking":true}"#]),
        FieldCase("continue_final_message", good: ["false"], bad: ["null", "true"]),
    ]

    @Test(arguments: [GenerationCall.Kind.completion, .chat], shared + unsupported)
    func aFieldOfBothKindsIsTakenOrRefusedByName(kind: GenerationCall.Kind, field: FieldCase) {
        expectNamed(kind, field)
    }

    @Test(arguments: completionOnly)
    func aFieldOfCompletionsIsTakenOrRefusedByName(field: FieldCase) {
        expectNamed(.completion, field)
    }

    @Test(arguments: chatOnly)
    func aFieldOfChatsIsTakenOrRefusedByName(field: FieldCase) {
        expectNamed(.chat, field)
    }

    private func expectNamed(_ kind: GenerationCall.Kind, _ field: FieldCase) {
        for value in field.good {
            let error = APIFixtures.error { () throws(APIError) in
                try APIFixtures.call(kind, #""\#(field.name)":\#(value)"#)
            }
            #expect(error == nil, "\(kind) \(field.name): \(value)")
        }
        for value in field.bad {
            let error = APIFixtures.error { () throws(APIError) in
                try APIFixtures.call(kind, #""\#(field.name)":\#(value)"#)
            }
            let what: Comment = "\(kind) \(field.name): \(value)"
            #expect(error?.status == 400, what)
            let parameter = error?.parameter ?? ""
            #expect(parameter.hasPrefix(field.parameter ?? field.name), what)
            #expect(error?.message.contains("`\(parameter)`") == true, what)
        }
    }

    @Test func defaultsOfACompletion() throws {
        let call = try APIFixtures.completion(#"{"prompt":"Hi"}"#)
        #expect(call.kind == .completion)
        #expect(call.input == .prompts([.text("Hi")]))
        #expect(call.maxTokens == 16)
        #expect(call.count == 1)
        #expect(call.sampling == SamplingParameters())
        #expect(call.addSpecialTokens)
        #expect(call.skipSpecialTokens)
        #expect(!call.stream && !call.echo && !call.includeUsage && !call.returnTokenIDs)
        #expect(call.logprobs == nil && call.seed == nil && call.requestID == nil)
    }

    @Test func defaultsOfAChat() throws {
        let call = try APIFixtures.chat(#"{"messages":[{"role":"user","content":"Hi"}]}"#)
        #expect(call.kind == .chat)
        #expect(call.input == .messages([ChatMessage(role: "user", content: "Hi")]))
        #expect(call.maxTokens == nil)
        #expect(!call.addSpecialTokens)
        #expect(call.addGenerationPrompt && !call.continueFinalMessage)
    }

    @Test func everySamplingFieldArrives() throws {
        let call = try APIFixtures.completion(
            #"""
            {"prompt":"Hi","temperature":0.5,"top_p":0.25,"top_k":40,"min_p":0.125,
             "presence_penalty":1.5,"frequency_penalty":-1.5,"repetition_penalty":1.25,
             "seed":-7,"stop":["a","b"],"stop_token_ids":[5,3,5],"min_tokens":2,"max_tokens":9,
             "ignore_eos":true,"logit_bias":{"9":500,"3":-1.5,"09":-200},
             "allowed_token_ids":[3,9,3],"n":2,"logprobs":3,"prompt_logprobs":4,
             "include_stop_str_in_output":true,"skip_special_tokens":false,
             "add_special_tokens":false,"return_token_ids":true,
             "return_tokens_as_token_ids":true,"truncate_prompt_tokens":5,
             "truncation_side":"right","priority":-3,"request_id":"mine","model":"alias",
             "cache_salt":"é"}
            """#)
        var sampling = SamplingParameters()
        sampling.temperature = 0.5
        sampling.topP = 0.25
        sampling.topK = 40
        sampling.minP = 0.125
        sampling.presencePenalty = 1.5
        sampling.frequencyPenalty = -1.5
        sampling.repetitionPenalty = 1.25
        sampling.stopTokenIDs = [5, 3]
        sampling.minTokens = 2
        sampling.ignoreEOS = true
        sampling.logitBias = [.init(tokenID: 3, bias: -1.5), .init(tokenID: 9, bias: -100)]
        sampling.allowedTokenIDs = [3, 9]
        sampling.logprobs = 3
        sampling.promptLogprobs = 4
        #expect(call.sampling == sampling)
        #expect(call.stop == ["a", "b"] && call.count == 2 && call.seed == -7)
        #expect(call.maxTokens == 9 && call.priority == -3 && call.requestID == "mine")
        #expect(call.includeStopStringInOutput && !call.skipSpecialTokens)
        #expect(!call.addSpecialTokens && call.returnTokenIDs && call.returnPromptLogprobs)
        #expect(call.logprobs == LogprobsFormat(topCount: 3, tokensAsTokenIDs: true))
        #expect(call.truncatePromptTokens == 5 && call.truncationSide == .right)
        #expect(call.model == "alias" && call.cacheSalt == "é")
    }

    @Test func temperatureZeroIsGreedyAndTakesOneSequence() throws {
        let call = try APIFixtures.completion(
            #"{"prompt":"Hi","temperature":0,"top_p":0.5,"top_k":7,"min_p":0.5}"#)
        #expect(call.sampling.temperature == 0 && call.sampling.topP == 1)
        #expect(call.sampling.topK == 0 && call.sampling.minP == 0)
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.completion(#"{"prompt":"Hi","temperature":0,"n":2}"#)
        }
        #expect(error?.parameter == "n")
        let tiny = try APIFixtures.completion(#"{"prompt":"Hi","temperature":0.0001,"n":2}"#)
        #expect(tiny.sampling.temperature == 0.01)
    }

    @Test func aModelsOwnDefaultsFillTheGaps() throws {
        var defaults = APIFixtures.defaults
        defaults.sampling = try GenerationConfig(
            json: Array(
                #"{"_from_model_config":true,"do_sample":true,"temperature":0.25,"top_p":0.75,"#
                    .utf8)
                + Array(#""top_k":3,"min_p":0.5,"repetition_penalty":1.5,"eos_token_id":1}"#.utf8))
        let open = try APIFixtures.completion(
            #"{"prompt":"Hi","top_p":null}"#, defaults: defaults)
        #expect(open.sampling.temperature == 0.25 && open.sampling.topP == 0.75)
        #expect(open.sampling.topK == 3 && open.sampling.minP == 0.5)
        #expect(open.sampling.repetitionPenalty == 1.5)
        let closed = try APIFixtures.completion(
            #"{"prompt":"Hi","top_p":1,"top_k":-1,"temperature":1}"#, defaults: defaults)
        #expect(closed.sampling.topP == 1 && closed.sampling.topK == 0)
        let error = APIFixtures.error { () throws(APIError) in
            try GenerationConfig(json: Array(#"{"top_p":7}"#.utf8))
        }
        #expect(error?.parameter == "top_p")
    }

    @Test func anUnknownModelIsNotFound() {
        for kind in [GenerationCall.Kind.completion, .chat] {
            let error = APIFixtures.error { () throws(APIError) in
                try APIFixtures.call(kind, #""model":"other""#)
            }
            #expect(error == .modelNotFound(name: "other"))
            #expect(error?.status == 404)
        }
    }

    @Test func headersWinOverTheBody() throws {
        let call = try APIFixtures.completion(
            #"{"prompt":"Hi","request_id":"body","priority":3}"#,
            headers: .init(requestID: "header", dataParallelRank: "5", priority: "-2"))
        #expect(call.requestID == "header" && call.dataParallelRank == 5 && call.priority == -2)
        let odd = try APIFixtures.completion(
            #"{"prompt":"Hi","request_id":"body"}"#, headers: .init(dataParallelRank: "many"))
        #expect(odd.requestID == "body" && odd.dataParallelRank == nil)
    }

    @Test func streamOptionsNeedAStream() throws {
        let call = try APIFixtures.completion(
            #"{"prompt":"Hi","stream":true,"stream_options":{"include_usage":true,"#
                + #""continuous_usage_stats":true}}"#)
        #expect(call.stream && call.includeUsage && call.continuousUsage)
        let quiet = try APIFixtures.completion(
            #"{"prompt":"Hi","stream":true,"stream_options":{"continuous_usage_stats":true}}"#)
        #expect(!quiet.includeUsage && !quiet.continuousUsage)
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.completion(
                #"{"prompt":"Hi","stream":true,"stream_options":{"include_usage":[]}}"#)
        }
        #expect(error?.parameter == "stream_options.include_usage")
        let logprobs = APIFixtures.error { () throws(APIError) in
            try APIFixtures.completion(#"{"prompt":"Hi","stream":true,"prompt_logprobs":1}"#)
        }
        #expect(logprobs?.parameter == "prompt_logprobs")
    }

    @Test func ofEqualNamesTheLastOneCounts() throws {
        let call = try APIFixtures.completion(#"{"prompt":"a","prompt":"b","top_k":1,"top_k":2}"#)
        #expect(call.input == .prompts([.text("b")]) && call.sampling.topK == 2)
    }
}
