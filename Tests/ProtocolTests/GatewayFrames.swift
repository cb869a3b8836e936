import Protocol

/// One frame of every kind of gateway message, with every field set, as version 1 writes it.
/// A frame that changes here breaks a deployment of mixed versions: raise `ProtocolVersion`.
enum GatewayFrames {
    static let all: [GoldenFrame<GatewayMessage>] = [
        open, submit, cancel,
    ]

    static let open = GoldenFrame(
        name: "open",
        message: GatewayMessage.open(
            protocols: ProtocolRange(oldest: 1, newest: 1) ?? .ofThisBuild,
            gateway: Incarnation(rawValue: 0xA0B0_C0D0_E0F0_0102), view: 4),
        hex: "0a0d0801110201f0e0d0c0b0a01804")

    static let submit = GoldenFrame(
        name: "submit",
        message: GatewayMessage.submit(request),
        hex: "127c091032547698badcfe10041a050001fff10722510d0000403f10281d0000003f2500"
            + "00803e2d0000c0bf350000c03f3d0000a03f41efcdab89674523014864500a5801620401"
            + "80e807680170067a070803150000c8c27a070804150000204082010303040528feffffff"
            + "ffffffffff01320207083a0674656e616e74")

    static let cancel = GoldenFrame(
        name: "cancel",
        message: GatewayMessage.cancel([
            RequestID(rawValue: 1), RequestID(rawValue: .max),
        ]),
        hex: "1a120a100100000000000000ffffffffffffffff")

    static let sampling: SamplingParameters = {
        var sampling = SamplingParameters()
        sampling.temperature = 0.75
        sampling.topK = 40
        sampling.topP = 0.5
        sampling.minP = 0.25
        sampling.presencePenalty = -1.5
        sampling.frequencyPenalty = 1.5
        sampling.repetitionPenalty = 1.25
        sampling.seed = 0x0123_4567_89AB_CDEF
        sampling.maxTokens = 100
        sampling.minTokens = 10
        sampling.ignoreEOS = true
        sampling.stopTokenIDs = [1, 128_000]
        sampling.logprobs = 0
        sampling.promptLogprobs = 5
        sampling.logitBias = [.init(tokenID: 3, bias: -100), .init(tokenID: 4, bias: 2.5)]
        sampling.allowedTokenIDs = [3, 4, 5]
        return sampling
    }()

    static let request = request(sampling)

    static func request(
        _ sampling: SamplingParameters, tokens: [Int32] = [0, 1, 129_279]
    ) -> GenerationRequest {
        GenerationRequest(
            requestID: RequestID(rawValue: 0xFEDC_BA98_7654_3210), view: 4,
            promptTokenIDs: tokens, sampling: sampling, priority: -2,
            deliveredTokenIDs: [7, 8], cacheSalt: Array("tenant".utf8))
    }
}
