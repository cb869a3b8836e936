import Foundation
import Testing

/// The deployment of two nodes, in network namespaces of this machine.
@Suite(
    .serialized,
    .enabled(
        if: NodeNetwork.obstacle == nil, "needs network namespaces: \(NodeNetwork.obstacle ?? "")"))
struct TwoNodeTests {
    /// How many of `prompts` continue with the golden tokens, as far as their margins decide.
    private static func agreement(
        _ http: HTTPClient, _ model: String, prompts: Range<Int>, tokens: Int
    ) throws -> Int {
        let cases = Array(try Goldens(model).cases[prompts])
        let questions = cases.map(\.prompt)
        let answers = try http.all(questions.count) { try http.greedy(questions[$0], tokens) }
        return zip(cases, answers).reduce(0) { count, pair in
            let certain = min(pair.0.firstUncertain(below: 1e-3), tokens)
            let isEqual =
                pair.1.status == 200
                && pair.1.tokens().prefix(certain) == pair.0.tokens.prefix(certain)
            return count + (isEqual ? 1 : 0)
        }
    }

    @Test(arguments: ["demo-bf16", "demo-w8a8"])
    func theOriginalLinesGiveTheGoldenTokens(model: String) throws {
        let isInt8 = model.hasSuffix("w8a8")
        let began = Date()
        let deployment = try TwoNodeLines(
            NodeNetwork(), model: model, quantization: isInt8 ? "ascend" : nil)
        let ready = Date()
        let count = try Self.agreement(deployment.http, model, prompts: 0..<12, tokens: 32)
        print(
            "two nodes, \(model): \(count) of 12, ready after "
                + "\(ready.timeIntervalSince(began)) s, answered in "
                + "\(Date().timeIntervalSince(ready)) s")
        // One continuation of the int8 model stands on a rounding edge: see GoldenCellTests.
        #expect(count >= (isInt8 ? 11 : 12))
        #expect(deployment.stop() == [0, 0])
    }

    @Test func aSlowLinkThatLosesPacketsGivesTheSameTokens() throws {
        let deployment = try TwoNodeLines(
            NodeNetwork(.relay(delayMilliseconds: 2, lossPercent: 1)), model: "demo-bf16")
        let ready = Date()
        let count = try Self.agreement(deployment.http, "demo-bf16", prompts: 0..<4, tokens: 8)
        print(
            "two nodes, 2 ms and 1 % loss: \(count) of 4, 8 tokens in "
                + "\(Date().timeIntervalSince(ready)) s")
        #expect(count == 4)
        #expect(deployment.stop() == [0, 0])
    }
}
