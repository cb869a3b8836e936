import DaemonRuntime
import Protocol
import Testing

@testable import Gateway

/// Choices and calls with the tiny tokenizer, fed with what a leader would send.
enum RequestsFixture {
    static func tokenizer() throws -> Tokenizer {
        try Tokenizer(folder: TokenizerFixtures.folder("tiny"))
    }

    static let defaults: ModelDefaults = {
        var defaults = ModelDefaults(
            servedModelNames: ["tiny"], contextLength: 4_096, vocabularySize: 2_048)
        defaults.maxLogprobs = 20
        return defaults
    }()

    static func call(_ members: String, prompt: String = #""Hi""#) throws -> GenerationCall {
        try APIFixtures.completion(
            #"{"prompt":\#(prompt),\#(members)}"#, defaults: defaults)
    }

    static func choice(
        _ call: GenerationCall, _ tokenizer: Tokenizer, prompt: [Int32] = [5, 6, 7],
        text: String = "", index: Int = 0
    ) throws -> Choice {
        Choice(
            index: index, call: call, promptTokens: prompt, promptText: text,
            sampling: try call.samplingParameters(
                promptTokens: prompt.count, choice: 0, drawnSeed: 1),
            requestID: RequestID(rawValue: UInt64(index)), tokenizer: tokenizer)
    }

    static func output(
        _ tokens: [Int32], scored prompt: [Int32] = [], logprobs: Bool = false,
        finish: FinishReason? = nil, stopToken: Int32? = nil, cached: UInt32 = 0
    ) -> RequestOutput {
        RequestOutput(
            requestID: RequestID(rawValue: 0), tokenIDs: tokens,
            logprobs: logprobs ? tokens.map(score) : [], promptLogprobs: prompt.map(score),
            finishReason: finish, stopTokenID: stopToken, cachedPromptTokens: cached)
    }

    static func active(
        _ call: GenerationCall, _ choices: [Choice], tellsCachedTokens: Bool = false
    ) -> ActiveCall {
        ActiveCall(
            exchange: HTTPExchangeID(slot: 0, serial: 1), call: call,
            identity: ResponseIdentity(
                kind: .completion, requestID: "a", created: 0, model: "tiny"),
            choices: choices, arrived: Instant(nanoseconds: 0),
            tellsCachedTokens: tellsCachedTokens)
    }

    static func score(_ token: Int32) -> TokenLogprobs {
        TokenLogprobs(tokenID: token, logprob: -1, rank: 1, top: [])
    }
}
