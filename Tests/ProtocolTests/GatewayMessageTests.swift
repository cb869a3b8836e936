import Protocol
import Testing

@Suite struct GatewayMessageTests {
    @Test(arguments: GatewayFrames.all)
    func aFrameIsWrittenAndReadAsInVersionOne(golden: GoldenFrame<GatewayMessage>) {
        FrameChecks.expectGolden(golden)
    }

    @Test(arguments: GatewayFrames.all)
    func noTruncationOrBitFlipCrashesTheDecoder(golden: GoldenFrame<GatewayMessage>) {
        FrameChecks.expectEveryDamageIsHandled(golden)
    }

    @Test func noiseNeverCrashesTheDecoder() {
        FrameChecks.expectNoiseIsHandled(GatewayFrames.all, rounds: 3000)
    }

    @Test func aFrameAboveTheLimitIsRefusedUnread() {
        let limit = CodecLimits.gatewayMessageBytesMax
        let frame = [UInt8](repeating: 0xFF, count: limit + 1)
        #expect(
            GatewayMessage.decode(frame)
                == .failure(
                    .tooLarge(message: "GatewayMessage", byteCount: limit + 1, limit: limit)))
    }

    @Test func aMessageWithoutBodyIsRefused() {
        let missing = CodecError.missingBody(message: "GatewayMessage")
        #expect(GatewayMessage.decode([]) == .failure(missing))
        #expect(GatewayMessage.decode(Wire.message(99, [])) == .failure(missing))
        #expect(
            GatewayMessage.decode(Wire.message(2, Wire.integer(2, 1)))
                == .failure(.missingBody(message: "Submit.sampling")))
    }

    /// One field out of its range, and the name that the refusal gives it.
    struct Change: Sendable {
        let field: String
        let value: String
        let apply: @Sendable (inout SamplingParameters) -> Void

        init<Value: Sendable>(
            _ field: String, _ path: WritableKeyPath<SamplingParameters, Value> & Sendable,
            _ value: Value
        ) {
            self.field = field
            self.value = "\(value)"
            apply = { $0[keyPath: path] = value }
        }
    }

    static let badChanges: [Change] =
        [Float.nan, -0.01, 2.01, .infinity, -.infinity].map {
            Change("temperature", \.temperature, $0)
        }
        + [Float.nan, 0, -1, 1.01].map { Change("top_p", \.topP, $0) }
        + [Float.nan, -0.01, 1.01].map { Change("min_p", \.minP, $0) }
        + [Float.nan, -2.01, 2.01].map { Change("presence_penalty", \.presencePenalty, $0) }
        + [Float.nan, -2.01, 2.01].map { Change("frequency_penalty", \.frequencyPenalty, $0) }
        + [Float.nan, 0, -1, .infinity].map {
            Change("repetition_penalty", \.repetitionPenalty, $0)
        }
        + [-1, .min].map { Change("top_k", \.topK, $0) }
        + [-1, .min].map { Change("max_tokens", \.maxTokens, $0) }
        + [-1, 101, .max].map { Change("min_tokens", \.minTokens, $0) }
        + [-2, .min].map { Change("logprobs", \.logprobs, $0) }
        + [-2, .min].map { Change("prompt_logprobs", \.promptLogprobs, $0) }
        + [Float.nan, -101, 100.5].map {
            Change("logit_bias", \.logitBias, [.init(tokenID: 1, bias: $0)])
        }
        + [
            Change("stop_token_ids", \.stopTokenIDs, tooMany),
            Change("allowed_token_ids", \.allowedTokenIDs, tooMany),
            Change("logit_bias", \.logitBias, tooMany.map { .init(tokenID: $0, bias: 0) }),
        ]

    static let tooMany = [Int32](repeating: 1, count: CodecLimits.listEntriesMax + 1)

    @Test(arguments: badChanges)
    func aSamplingValueOutOfRangeIsRefusedByName(change: Change) {
        var sampling = GatewayFrames.sampling
        change.apply(&sampling)
        let frame = GatewayMessage.submit(GatewayFrames.request(sampling)).encoded()
        guard case .failure(.invalid(_, let field, _)) = GatewayMessage.decode(frame) else {
            Issue.record("\(change.field) is taken")
            return
        }
        #expect(field == change.field)
    }

    static let goodChanges: [Change] = [
        Change("temperature", \.temperature, 0), Change("temperature", \.temperature, 2),
        Change("top_p", \.topP, 1), Change("top_p", \.topP, .leastNonzeroMagnitude),
        Change("min_p", \.minP, 0), Change("min_p", \.minP, 1),
        Change("presence_penalty", \.presencePenalty, -2),
        Change("presence_penalty", \.presencePenalty, 2),
        Change("top_k", \.topK, 0), Change("top_k", \.topK, .max),
        Change("max_tokens", \.maxTokens, .max), Change("min_tokens", \.minTokens, 100),
        Change("logprobs", \.logprobs, nil), Change("prompt_logprobs", \.promptLogprobs, nil),
        Change("seed", \.seed, .max),
    ]

    @Test(arguments: goodChanges)
    func aSamplingValueAtTheEdgeIsTaken(change: Change) {
        var sampling = GatewayFrames.sampling
        change.apply(&sampling)
        let message = GatewayMessage.submit(GatewayFrames.request(sampling))
        #expect(GatewayMessage.decode(message.encoded()) == .success(message))
    }

    @Test func zeroTokensNeedPromptLogprobs() {
        var sampling = SamplingParameters()
        sampling.maxTokens = 0
        sampling.promptLogprobs = 0
        let echo = GatewayMessage.submit(GatewayFrames.request(sampling))
        #expect(GatewayMessage.decode(echo.encoded()) == .success(echo))
        sampling.promptLogprobs = nil
        let frame = GatewayMessage.submit(GatewayFrames.request(sampling)).encoded()
        #expect(
            GatewayMessage.decode(frame)
                == .failure(
                    .invalid(
                        message: "SamplingParameters", field: "max_tokens",
                        value: "0 without prompt_logprobs")))
    }

    @Test(arguments: [[], [-1], [5, -2_147_483_648]] as [[Int32]])
    func aPromptOfNothingOrOfNegativeTokensIsRefused(tokens: [Int32]) {
        let request = GatewayFrames.request(SamplingParameters(), tokens: tokens)
        guard
            case .failure(.invalid("Submit", "prompt_token_ids", _)) = GatewayMessage.decode(
                GatewayMessage.submit(request).encoded())
        else {
            Issue.record("taken: \(tokens)")
            return
        }
    }

    @Test func aPromptAboveTheLimitIsRefused() {
        let tokens = [Int32](repeating: 1, count: CodecLimits.promptTokensMax + 1)
        let request = GatewayFrames.request(SamplingParameters(), tokens: tokens)
        let decoded = GatewayMessage.decode(GatewayMessage.submit(request).encoded())
        #expect(
            decoded
                == .failure(
                    .invalid(
                        message: "Submit", field: "prompt_token_ids",
                        value: "\(CodecLimits.promptTokensMax + 1) tokens")))
    }
}
