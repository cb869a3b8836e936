import Protocol

/// One frame of every kind of leader message, with every field set, as version 1 writes it.
/// A frame that changes here breaks a deployment of mixed versions: raise `ProtocolVersion`.
enum LeaderFrames {
    static let all: [GoldenFrame<LeaderMessage>] = [
        opened, outputs, rejected,
    ]

    static let opened = GoldenFrame(
        name: "opened",
        message: LeaderMessage.opened(
            Opened(worker: Incarnation(rawValue: 12), view: 4, requestsMax: 1280)),
        hex: "0a0e090c00000000000000100418800a")

    static let outputs = GoldenFrame(
        name: "outputs",
        message: LeaderMessage.outputs(
            [first, last], load: ControlFrames.load, knownSubmissions: 9),
        hex: "12cd010a6a090100000000000000120205061a1b080515000000bf180222070809150000"
            + "80be2207080515000000bf1a1b080615000000bf18022207080915000080be2207080615"
            + "000000bf221b080715000000bf18022207080915000080be2207080715000000bf40e0c6"
            + "5b48200a1d090200000000000000120100280430013a0b646576696365206c6f7374123e"
            + "08011002180320a01f2d0000003f3006380740084809508080808020588080808040604d"
            + "6a05050000ac02700e78960180011088018080019001129801131809")

    static let rejected = GoldenFrame(
        name: "rejected",
        message: LeaderMessage.rejected(
            RequestID(rawValue: 77), reason: .tooLong, text: "4096 tokens at most"),
        hex: "1a20094d0000000000000010041a133430393620746f6b656e73206174206d6f7374")

    static let first = RequestOutput(
        requestID: RequestID(rawValue: 1),
        tokenIDs: [5, 6],
        logprobs: [logprobs(5), logprobs(6)],
        promptLogprobs: [logprobs(7)],
        queued: Interval(nanoseconds: 1_500_000),
        cachedPromptTokens: 32)

    static let last = RequestOutput(
        requestID: RequestID(rawValue: 2), tokenIDs: [0], finishReason: .error, stopTokenID: 0,
        error: "device lost")

    static func logprobs(_ token: Int32) -> TokenLogprobs {
        TokenLogprobs(
            tokenID: token, logprob: -0.5, rank: 2,
            top: [
                .init(tokenID: 9, logprob: -0.25), .init(tokenID: token, logprob: -0.5),
            ])
    }
}
