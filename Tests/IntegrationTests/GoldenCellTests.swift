import Foundation
import Testing

/// Real checkpoints through real daemons: the tokens are those of the reference.
@Suite(.serialized) struct GoldenCellTests {
    struct Setup: CustomStringConvertible, Sendable {
        let model: String
        let dp: Int
        let collectives: String
        var description: String { "\(model) dp=\(dp) \(collectives)" }
    }

    static let setups: [Setup] = ["tiny-random", "tiny-fp8", "tiny-w8a8"].flatMap { model in
        [Setup(model: model, dp: 1, collectives: "auto")]
            + [2, 4].flatMap { dp in
                ["shared-memory", "ucx"].map {
                    Setup(model: model, dp: dp, collectives: $0)
                }
            }
    }

    /// All prompts at once, so that the batch changes all the time.
    @Test(arguments: setups)
    func greedyContinuationsAreThoseOfTheReference(setup: Setup) throws {
        let cell = try RunningCell(
            model: setup.model, dp: setup.dp,
            options: ["--collectives", setup.collectives, "--max-model-len", "512"])
        let goldens = try Goldens(setup.model)
        let http = cell.http
        let prompts = goldens.cases.map(\.prompt)
        let answers = try http.all(prompts.count) { try http.greedy(prompts[$0]) }
        #expect(answers.count == 12)
        for (golden, answer) in zip(goldens.cases, answers) {
            #expect(answer.status == 200, "\(answer.text)")
            let certain = golden.firstUncertain(below: 1e-3)
            #expect(answer.tokens().prefix(certain) == golden.tokens.prefix(certain))
        }
        #expect(cell.stop() == Array(repeating: 0, count: setup.dp + 2))
    }

    @Test(arguments: ["demo-bf16", "demo-w8a8"])
    func theBundledModelContinuesAsTheReference(model: String) throws {
        let cell = try RunningCell(model: model, dp: 2)
        let goldens = try Goldens(model)
        let http = cell.http
        let prompts = goldens.cases.map(\.prompt)
        let answers = try http.all(prompts.count) { try http.greedy(prompts[$0]) }
        for (golden, answer) in zip(goldens.cases, answers) {
            let certain = golden.firstUncertain(below: 1e-3)
            #expect(answer.tokens().prefix(certain) == golden.tokens.prefix(certain))
        }
    }
}
