import Foundation
import Testing

/// Processes of two protocol versions in one deployment, as while it is upgraded. The older ones
/// are of this build and told to speak version 1 alone, so what they send has the bytes of then.
@Suite(.serialized) struct UpgradeTests {
    private let prompt = [0, 9, 8, 7]

    private struct Old: OptionSet, Sendable, CustomTestStringConvertible {
        let rawValue: Int
        static let coordinator = Old(rawValue: 1)
        static let worker = Old(rawValue: 2)
        static let gateway = Old(rawValue: 4)
        var testDescription: String { "\(rawValue)" }

        func options(_ which: Old) -> [String] { contains(which) ? ["--protocol-max", "1"] : [] }
    }

    private func versions(_ cell: RunningCell) throws -> [String: [Int]] {
        let text = try ControlProcess(["status", "--json"], port: cell.coordinatorPort).output
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any], "\(text)")
        // In the order of devices: which place a worker gets is chance.
        func all(_ key: String) -> [Int] {
            (object[key] as? [[String: Any]] ?? [])
                .sorted { ($0["device"] as? Int ?? 0) < ($1["device"] as? Int ?? 0) }
                .compactMap { $0["protocol"] as? Int }
        }
        let view = (object["view"] as? [String: Any])?["protocol"] as? Int
        return [
            "workers": all("workers"), "gateways": all("gateways"), "view": [view ?? 0],
        ]
    }

    private static let mixes: [(old: Old, view: Int)] = [
        ([.coordinator], 1), ([.gateway], 2), ([.worker], 1), ([.coordinator, .worker], 1),
    ]

    @Test(arguments: mixes.indices)
    func aMixedDeploymentAnswersAsAnyOther(mix: Int) throws {
        let (old, view) = Self.mixes[mix]
        let cell = try RunningCell(
            dp: 2, options: old.options(.coordinator), workerOptions: old.options(.worker),
            gatewayOptions: old.options(.gateway))
        #expect(try cell.http.greedy(prompt, 8).tokens().count == 8)
        let found = try versions(cell)
        let worker = old.isDisjoint(with: [.coordinator, .worker]) ? 2 : 1
        let gateway = old.isDisjoint(with: [.coordinator, .gateway]) ? 2 : 1
        #expect(found["workers"] == [worker, worker])
        #expect(found["gateways"] == [gateway])
        #expect(found["view"] == [view])
        #expect(cell.stop().allSatisfy { $0 == 0 })
    }

    /// The workers are replaced one by one while streams run; no stream sees it.
    @Test func workersAreUpgradedOneByOneUnderLoad() throws {
        let cell = try RunningCell(dp: 2, workerOptions: ["--protocol-max", "1"])
        #expect(try versions(cell)["view"] == [1])
        let body: [String: Any] = [
            "prompt": Array(40..<60), "max_tokens": 600, "temperature": 0.8, "seed": 5,
            "ignore_eos": true, "return_token_ids": true,
        ]
        let expected = try cell.http.post("/v1/completions", body).tokens()
        let streams = try (0..<4).map { _ in try cell.http.stream("/v1/completions", body) }
        for stream in streams { _ = try stream.event() }
        for index in cell.workers.indices {
            cell.workers[index].send(SIGKILL)
            #expect(cell.workers[index].exitCode() == -SIGKILL)
            try cell.restartWorker(index, options: [])
            // While one view follows another the gateway is ready, and there is none.
            try cell.wait("the view") {
                let found = try versions(cell)
                return try cell.http.get("/ready").status == 200
                    && found["workers"]?.dropFirst(index).first == 2
                    && found["view"] == [index == 0 ? 1 : 2]
            }
        }
        for stream in streams {
            let rest = try stream.wholeText()
            #expect(rest.tokens == Array(expected.dropFirst()), "\(cell.logs)")
        }
    }
}
