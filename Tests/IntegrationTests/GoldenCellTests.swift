import Foundation
import Testing

/// Real checkpoints through real daemons: the tokens are those of the reference.
@Suite(.serialized) struct GoldenCellTests {
    struct Setup: CustomStringConvertible, Sendable {
        let model: String
        let dp: Int
        var tp = 1
        var expertParallel = true
        let collectives: String
        var description: String {
            "\(model) dp=\(dp) tp=\(tp) ep=\(expertParallel) \(collectives)"
        }
    }

    static let setups: [Setup] = ["tiny-random", "tiny-fp8", "tiny-w8a8"].flatMap { model in
        [Setup(model: model, dp: 1, collectives: "auto")]
            + [2, 4].flatMap { dp in
                ["shared-memory", "ucx"].map {
                    Setup(model: model, dp: dp, collectives: $0)
                }
            }
            + [
                Setup(model: model, dp: 2, tp: 2, collectives: "shared-memory"),
                Setup(model: model, dp: 1, tp: 4, collectives: "ucx"),
                Setup(model: model, dp: 2, expertParallel: false, collectives: "ucx"),
                Setup(
                    model: model, dp: 2, tp: 2, expertParallel: false,
                    collectives: "shared-memory"),
            ]
    }

    /// How many of the 12 continuations are those of the reference, as far as its margins decide.
    private static func agreement(_ cell: RunningCell, _ model: String) throws -> Int {
        let goldens = try Goldens(model)
        let http = cell.http
        let prompts = goldens.cases.map(\.prompt)
        // All prompts at once, so that the batch changes all the time.
        let answers = try http.all(prompts.count) { try http.greedy(prompts[$0]) }
        return zip(goldens.cases, answers).reduce(0) { count, pair in
            let certain = pair.0.firstUncertain(below: 1e-3)
            let isEqual =
                pair.1.status == 200
                && pair.1.tokens().prefix(certain) == pair.0.tokens.prefix(certain)
            return count + (isEqual ? 1 : 0)
        }
    }

    /// Int8 activations are discontinuous: a difference of 1e-7 before a rounding can change a code
    /// and then a token. The reference kernels meet no such edge in these prompts, so they must
    /// agree on all of them; see the next test for the vectorised ones.
    @Test(arguments: setups)
    func greedyContinuationsAreThoseOfTheReference(setup: Setup) throws {
        let isInt8 = setup.model.hasSuffix("w8a8")
        let cell = try RunningCell(
            model: setup.model, dp: setup.dp, tp: setup.tp,
            expertParallel: setup.expertParallel,
            options: [
                "--dtype", "float32", "--collectives", setup.collectives, "--max-model-len", "512",
            ],
            workerOptions: isInt8 ? ["--kernel-level", "reference"] : [])
        #expect(try Self.agreement(cell, setup.model) == 12)
        #expect(cell.stop() == Array(repeating: 0, count: setup.dp * setup.tp + 2))
    }

    /// The deployment that operators write for two nodes, on one: sixteen workers.
    @Test func fourRanksOfFourWorkersContinueAsTheReference() throws {
        let cell = try RunningCell(
            model: "demo-bf16", dp: 4, tp: 4, options: ["--dtype", "float32"])
        #expect(try Self.agreement(cell, "demo-bf16") == 12)
        #expect(cell.stop() == Array(repeating: 0, count: 18))
    }

    @Test(arguments: ["tiny-w8a8", "demo-w8a8"])
    func vectorisedInt8AgreesButForRoundingEdges(model: String) throws {
        let cell = try RunningCell(model: model, dp: 2, options: ["--dtype", "float32"])
        let count = try Self.agreement(cell, model)
        print("\(model), vectorised kernels: \(count) of 12 continuations equal")
        #expect(count >= 11)
    }

    @Test func theBundledModelContinuesAsTheReference() throws {
        let cell = try RunningCell(
            model: "demo-bf16", dp: 2, options: ["--dtype", "float32"])
        #expect(try Self.agreement(cell, "demo-bf16") == 12)
    }

    /// The inputs of products rounded to BF16, as the model was made. In a prompt or two rounding
    /// chooses another expert than float32 does, and each kernel level has its own such prompts:
    /// AVX-512 BF16 has none, AMX two.
    @Test(arguments: [("avx512_bf16", 11), ("amx", 10)])
    func theDefaultTypeContinuesTheBundledModelNearlyAlike(level: String, least: Int) throws {
        let flag = level == "amx" ? "amx_bf16" : level
        guard Self.processorFlags.contains(Substring(flag)) else {
            return print("demo-bf16 at \(level): this processor does not have it")
        }
        let cell = try RunningCell(
            model: "demo-bf16", dp: 2, workerOptions: ["--kernel-level", level])
        let count = try Self.agreement(cell, "demo-bf16")
        print("demo-bf16, --dtype auto, \(level): \(count) of 12 continuations equal")
        #expect(count >= least)
    }

    /// What `make serve` runs.
    @Test func theDefaultLevelContinuesAsOneOfThese() throws {
        let cell = try RunningCell(model: "demo-bf16", dp: 2)
        #expect(try Self.agreement(cell, "demo-bf16") >= 10)
    }

    private static let processorFlags: Set<Substring> = {
        let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
        return Set(line.split(separator: " "))
    }()
}
