import Testing

@testable import Gateway

/// Whatever bytes come, a parser gives a value or an ``APIError`` whose own body is JSON.
@Suite struct RequestFuzzTests {
    private static let completion = #"""
        {"model":"tiny","prompt":["a",[1,2],"\u00e9"],"temperature":0.5,"top_p":0.25,"top_k":40,
        "seed":-7,"stop":["a","b"],"stop_token_ids":[5,3],"max_tokens":9,"logit_bias":{"9":500},
        "stream":true,"stream_options":{"include_usage":true},"logprobs":3,"n":2,"priority":-3,
        "response_format":{"type":"text"},"allowed_token_ids":[3,9],"truncate_prompt_tokens":5}
        """#
    private static let chat = #"""
        {"messages":[{"role":"user","content":[{"type":"text","text":"a\n"},"b"]},
        {"role":"assistant","content":null,"tool_calls":[
        {"function":{"name":"f","arguments":"{}"}}]}],
        "logprobs":true,"top_logprobs":5,"max_completion_tokens":null,"tool_choice":"none",
        "add_generation_prompt":false,"continue_final_message":true,"chat_template_kwargs":{}}
        """#
    private static let tokenize = #"{"tokens":[1,2,999],"prompt":"x","messages":[{"role":"u"}]}"#
    /// Pieces that change the meaning of a body more often than single bytes do.
    private static let pieces = [
        "null", "[]", "{}", "-1", "1e308", "1e-320", "9223372036854775807", "-9223372036854775808",
        "18446744073709551615", "0", "true", #""""#, #""x""#, "[[", "]", "}", ",", ":", #"\ud800"#,
        #"\u0000"#, "0.1", "[null]", "[1]", #"{"a":1}"#,
    ]

    @Test func mutatedBodiesGiveAValueOrAnError() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("SEED=\(seed)")
        var random = APIRandom(seed: seed)
        var values = 0
        var errors = 0
        for round in 0..<6_000 {
            let original = [Self.completion, Self.chat, Self.tokenize][round % 3]
            var body = Array(original.utf8)
            for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&body, &random) }
            for outcome in parseWithAll(body) {
                switch outcome {
                case nil: values += 1
                case .some(let error):
                    errors += 1
                    #expect(error.status == 400 || error.status == 404, "SEED=\(seed) \(error)")
                }
            }
        }
        // The mutations must reach both ends to mean anything.
        #expect(values > 100 && errors > 1_000, "SEED=\(seed): \(values) values")
    }

    private func parseWithAll(_ body: [UInt8]) -> [APIError?] {
        let defaults = APIFixtures.defaults
        return [
            APIFixtures.error { () throws(APIError) in
                let call = try GenerationCall.parseCompletion(
                    body: body, headers: .init(), defaults: defaults)
                // What is accepted must also survive what follows.
                _ = try call.samplingParameters(promptTokens: 1, choice: 0, drawnSeed: 0)
                return call
            },
            APIFixtures.error { () throws(APIError) in
                let call = try GenerationCall.parseChat(
                    body: body, headers: .init(), defaults: defaults)
                _ = try call.samplingParameters(promptTokens: 1, choice: 0, drawnSeed: 0)
                return call
            },
            APIFixtures.error { () throws(APIError) in
                try TokenizeCall.parse(body: body, defaults: defaults)
            },
            APIFixtures.error { () throws(APIError) in
                try DetokenizeCall.parse(body: body, defaults: defaults)
            },
            APIFixtures.error { () throws(APIError) in try GenerationConfig(json: body) },
        ]
    }

    private func mutate(_ body: inout [UInt8], _ random: inout APIRandom) {
        guard !body.isEmpty else { return }
        let position = Int.random(in: 0..<body.count, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: body[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: body.remove(at: position)
        case 2: body.removeSubrange(position...)
        case 3:
            let piece = Self.pieces.randomElement(using: &random) ?? ""
            body.insert(contentsOf: Array(piece.utf8), at: position)
        default: replaceValue(&body, after: position, &random)
        }
    }

    /// Puts a piece in the place of what stands between a colon and the next comma, which keeps
    /// the body JSON more often than not.
    private func replaceValue(
        _ body: inout [UInt8], after position: Int, _ random: inout APIRandom
    ) {
        guard let colon = body[position...].firstIndex(of: UInt8(ascii: ":")) else { return }
        let rest = body[(colon + 1)...]
        let end = rest.firstIndex { $0 == UInt8(ascii: ",") || $0 == UInt8(ascii: "}") }
        let piece = Self.pieces.randomElement(using: &random) ?? ""
        body.replaceSubrange((colon + 1)..<(end ?? body.endIndex), with: Array(piece.utf8))
    }
}
