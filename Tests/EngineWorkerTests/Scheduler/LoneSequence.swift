import Protocol

@testable import EngineWorker

/// What a sequence must yield: the same model and sampler, one sequence, no cache, no scheduler.
struct LoneSequence: Equatable {
    var tokens: [SampledToken] = []
    var promptLogprobs: [TokenLogprobs]?
    var finish: SequenceUpdate.Finish?

    init() {}

    static func run(
        prompt: [Int32],
        parameters: SamplingParameters,
        sampler: Sampler,
        eosTokenIDs: [Int32],
        maxModelLength: Int
    ) throws -> LoneSequence {
        var lone = LoneSequence()
        if let topCount = parameters.promptLogprobs {
            lone.promptLogprobs = try (1..<max(1, prompt.count)).map { index in
                try PagedFakeModel.logits(after: prompt[..<index]).withUnsafeBufferPointer {
                    try sampler.logprobs(
                        logits: $0, tokenID: prompt[index], topCount: Int(topCount))
                }
            }
        }
        var output: [Int32] = []
        while lone.finish == nil {
            if output.count < Int(parameters.maxTokens) {
                let request = SamplerTests.request(parameters, prompt: prompt, output: output)
                let logits = PagedFakeModel.logits(after: prompt + output)
                let token = try logits.withUnsafeBufferPointer {
                    try sampler.sample(logits: $0, request: request)
                }
                lone.tokens.append(token)
                output.append(token.tokenID)
            }
            let mayStop = output.count >= Int(parameters.minTokens)
            if mayStop, let last = output.last {
                if eosTokenIDs.contains(last) && !parameters.ignoreEOS {
                    lone.finish = .init(reason: .stop)
                } else if parameters.stopTokenIDs.contains(last) {
                    lone.finish = .init(reason: .stop, stopTokenID: last)
                }
            }
            let isFull = prompt.count + output.count == maxModelLength
            if lone.finish == nil, isFull || output.count == Int(parameters.maxTokens) {
                lone.finish = .init(reason: .length)
            }
        }
        return lone
    }
}
