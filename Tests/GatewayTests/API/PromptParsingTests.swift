import Testing

@testable import Gateway

/// Prompts, messages and the text of bodies.
@Suite struct PromptParsingTests {
    @Test func theFourFormsOfAPrompt() throws {
        let forms: [(json: String, prompts: [GenerationCall.PromptInput])] = [
            (#""one""#, [.text("one")]),
            (#"["one","","two"]"#, [.text("one"), .text(""), .text("two")]),
            ("[1,2.0,999]", [.tokens([1, 2, 999])]),
            ("[[1],[2,3]]", [.tokens([1]), .tokens([2, 3])]),
        ]
        for form in forms {
            let call = try APIFixtures.completion(#"{"prompt":\#(form.json)}"#)
            #expect(call.input == .prompts(form.prompts), "\(form.json)")
        }
    }

    @Test(arguments: [
        "null", #""""#, "[]", "[[]]", "[[1],[]]", "5", "true", "{}", #"["a",1]"#, #"[1,"a"]"#,
        #"["a",[1]]"#, #"[[1],"a"]"#, #"[["a"]]"#, "[1,[2]]", "[-1]", "[1000]", "[1.5]",
        "[99999999999]", "[null]", "[[null]]", #"["a",null]"#, "[{}]",
    ])
    func aPromptOfAnotherFormIsRefused(prompt: String) {
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.completion(#"{"prompt":\#(prompt)}"#)
        }
        #expect(error?.status == 400)
        #expect(error?.parameter == "prompt")
    }

    @Test func aCompletionWithoutAPromptIsRefused() {
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.completion(#"{"model":"tiny"}"#)
        }
        #expect(error?.parameter == "prompt")
    }

    @Test func aListHasAtMostALimitOfPrompts() throws {
        func body(_ count: Int) -> String {
            let list = Array(repeating: #""x""#, count: count).joined(separator: ",")
            return #"{"prompt":[\#(list)]}"#
        }
        let limit = CompletionRequestParser.promptsMax
        let call = try APIFixtures.completion(body(limit))
        guard case .prompts(let prompts) = call.input else {
            Issue.record("\(call.input)")
            return
        }
        #expect(prompts.count == limit)
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.completion(body(limit + 1))
        }
        #expect(error?.parameter == "prompt")
        // A list of tokens is one prompt, however long.
        let tokens = Array(repeating: "7", count: limit + 1).joined(separator: ",")
        #expect(try APIFixtures.completion(#"{"prompt":[\#(tokens)]}"#).kind == .completion)
    }

    @Test func aRoleThatNoTemplateWritesIsRefused() {
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.chat(
                #"{"messages":[{"role":"user","content":"a"},{"role":"bot","content":"b"}]}"#)
        }
        #expect(error?.status == 400)
        #expect(error?.parameter == "messages[1].role")
    }

    @Test func messagesBecomeWhatATemplateReads() throws {
        let call = try APIFixtures.chat(
            #"""
            {"messages":[
              {"role":"system","content":"Be brief."},
              {"role":"user","content":[{"type":"text","text":"a"},"b",{"text":"c"}],"name":"me"},
              {"role":"assistant","content":null,"tool_calls":[
                {"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
              {"role":"tool","content":"42","tool_call_id":"1"},
              {"role":"user","content":null},
              {"role":"developer","content":[]}
            ]}
            """#)
        #expect(
            call.input
                == .messages([
                    ChatMessage(role: "system", content: "Be brief."),
                    ChatMessage(role: "user", content: "a\nb\nc"),
                    ChatMessage(
                        role: "assistant", content: nil,
                        toolCalls: [.init(type: "function", name: "f", arguments: #"{"x":1}"#)]),
                    ChatMessage(role: "tool", content: "42"),
                    ChatMessage(role: "user", content: ""),
                    ChatMessage(role: "system", content: ""),
                ]))
    }

    @Test(arguments: [
        ("null", "messages"), ("[]", "messages"), ("{}", "messages"), (#""x""#, "messages"),
        ("[1]", "messages[0]"), ("[null]", "messages[0]"),
        (#"[{"content":"x"}]"#, "messages[0].role"),
        (#"[{"role":1,"content":"x"}]"#, "messages[0].role"),
        (#"[{"role":"user","content":5}]"#, "messages[0].content"),
        (#"[{"role":"user","content":[5]}]"#, "messages[0].content[0]"),
        (
            #"[{"role":"user","content":[{"type":"text"}]}]"#,
            "messages[0].content[0].text"
        ),
        (
            #"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#,
            "messages[0].content[0]"
        ),
        (
            #"[{"role":"user","content":[{"type":"input_audio"}]}]"#,
            "messages[0].content[0]"
        ),
        (#"[{"role":"assistant","tool_calls":{}}]"#, "messages[0].tool_calls"),
        (#"[{"role":"assistant","tool_calls":[{}]}]"#, "messages[0].tool_calls[0].function"),
        (
            #"[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{}}}]}]"#,
            "messages[0].tool_calls[0].function.arguments"
        ),
    ])
    func aMalformedMessageIsRefusedByItsPlace(messages: String, parameter: String) {
        let error = APIFixtures.error { () throws(APIError) in
            try APIFixtures.chat(#"{"messages":\#(messages)}"#)
        }
        #expect(error?.status == 400)
        #expect(error?.parameter == parameter)
    }

    @Test func escapesAndUnicodeArriveAsText() throws {
        let call = try APIFixtures.completion(
            #"{"prompt":"\u00e9\ud83d\ude00\n\t\"\\\/ é😀 \u0000"}"#)
        #expect(call.input == .prompts([.text("é😀\n\t\"\\/ é😀 \0")]))
    }

    @Test(arguments: [
        "", " ", "{", #"{"prompt":"x""#, #"{"prompt":"x"}}"#, #"{"prompt":"\ud800"}"#,
        #"{"prompt":"\udc00\ud800"}"#, #"{"prompt":"\q"}"#, #"{"prompt":NaN}"#,
        #"{"prompt":"x","n":01}"#, #"{"prompt":"x",}"#, #"{"prompt":"x","n":1e999}"#,
        #"{"prompt":"x","n":123456789012345678901234567890}"#, "{'prompt':'x'}",
        "{\"prompt\":\"a\nb\"}",
    ])
    func aBodyThatIsNotJSONIsRefused(body: String) {
        let error = APIFixtures.error { () throws(APIError) in try APIFixtures.completion(body) }
        guard case .invalidJSON(let reason) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(!reason.isEmpty)
        #expect(error?.status == 400)
    }

    @Test func bytesThatAreNotUTF8AreRefused() {
        let bytes = Array(#"{"prompt":""#.utf8) + [0xFF, 0xFE] + Array(#""}"#.utf8)
        let error = APIFixtures.error { () throws(APIError) in
            try GenerationCall.parseCompletion(
                body: bytes, headers: .init(), defaults: APIFixtures.defaults)
        }
        #expect(error?.status == 400)
    }

    @Test(arguments: ["[]", "null", "1", #""x""#])
    func aBodyThatIsNoObjectIsRefused(body: String) {
        let error = APIFixtures.error { () throws(APIError) in try APIFixtures.chat(body) }
        #expect(error == .invalidType(name: "body", expected: "an object"))
    }

    @Test func deepNestingIsRefusedOrIgnoredButNeverTraps() {
        for depth in [10, 1_000, 1_100, 100_000] {
            let nest =
                String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
            let unknown = APIFixtures.error { () throws(APIError) in
                try APIFixtures.completion(#"{"prompt":"x","unknown":\#(nest)}"#)
            }
            #expect(unknown == nil || unknown?.status == 400)
            #expect((unknown == nil) == (depth < 1_024), "depth \(depth)")
            let prompt = APIFixtures.error { () throws(APIError) in
                try APIFixtures.completion(#"{"prompt":\#(nest)}"#)
            }
            #expect(prompt?.status == 400)
        }
    }

    @Test func tokenizeTakesAPromptOrMessages() throws {
        func parse(_ json: String) throws(APIError) -> TokenizeCall {
            try .parse(body: Array(json.utf8), defaults: APIFixtures.defaults)
        }
        let prompt = try parse(#"{"model":"tiny","prompt":"","return_token_strs":true}"#)
        #expect(prompt.input == .prompt("") && prompt.addSpecialTokens)
        #expect(prompt.returnTokenStrings)
        let chat = try parse(
            #"{"messages":[{"role":"user","content":"x"}],"add_generation_prompt":false,"#
                + #""continue_final_message":true}"#)
        #expect(chat.input == .messages([ChatMessage(role: "user", content: "x")]))
        #expect(!chat.addSpecialTokens && !chat.addGenerationPrompt && chat.continueFinalMessage)
        let bad = [
            ("{}", "prompt"), (#"{"prompt":1}"#, "prompt"), (#"{"messages":[]}"#, "messages"),
            (#"{"prompt":"x","model":"other"}"#, "model"),
            (#"{"prompt":"x","add_special_tokens":null}"#, "add_special_tokens"),
        ]
        for (json, parameter) in bad {
            let error = APIFixtures.error { () throws(APIError) in try parse(json) }
            #expect(error?.parameter == parameter, "\(json)")
        }
    }

    @Test func detokenizeTakesTokensOfTheVocabulary() throws {
        func parse(_ json: String) throws(APIError) -> DetokenizeCall {
            try .parse(body: Array(json.utf8), defaults: APIFixtures.defaults)
        }
        #expect(try parse(#"{"tokens":[]}"#).tokens == [])
        #expect(try parse(#"{"tokens":[1,999]}"#).tokens == [1, 999])
        for json in ["{}", #"{"tokens":null}"#, #"{"tokens":[1000]}"#, #"{"tokens":[-1]}"#] {
            let error = APIFixtures.error { () throws(APIError) in try parse(json) }
            #expect(error?.parameter == "tokens", "\(json)")
        }
    }
}
