import Foundation
import Testing

/// One of three workers stands still inside a tick, for less than its lease.
@Suite(.serialized) struct HungWorkerProcessTests {
    private func status(_ cell: RunningCell) throws -> [[String: Any]] {
        let run = try ControlProcess(["status", "--json"], port: cell.coordinatorPort)
        let json = try JSONSerialization.jsonObject(with: Data(run.output.utf8))
        return try #require((json as? [String: Any])?["workers"] as? [[String: Any]])
    }

    private func suspects(_ cell: RunningCell) throws -> [Int] {
        try status(cell).filter { $0["suspected"] as? Bool == true }
            .compactMap { $0["device"] as? Int }
    }

    @Test(arguments: ["shared-memory", "ucx"])
    func itIsNamedDoneWithoutAndTakenInAgain(collectives: String) throws {
        let cell = try RunningCell(
            dp: 3,
            options: [
                "--lease", "60000", "--exchange-timeout", "5000", "--collectives", collectives,
            ])
        let body: [String: Any] = [
            "prompt": Array(40..<60), "max_tokens": 1000, "temperature": 0, "ignore_eos": true,
            "return_token_ids": true,
        ]
        let expected = try cell.http.post("/v1/completions", body).tokens()
        let streams = try (0..<3).map { _ in try cell.http.stream("/v1/completions", body) }
        for stream in streams { _ = try stream.event() }

        let hung = cell.workers[1]
        hung.send(SIGSTOP)
        let warning = cell.coordinator.line(containing: "keeps 2 of the others waiting")
        #expect(warning?.contains("device 1)") == true, "\(cell.coordinator.log)")
        try cell.wait("its name in the status") { try suspects(cell) == [1] }
        #expect(cell.coordinator.line(containing: "device 1) hangs", within: 20) != nil)
        #expect(
            cell.coordinator.line(containing: "is active with 2 workers", within: 20) != nil,
            "\(cell.coordinator.log)")
        // Calls go on with the two others.
        let answer = try cell.http.post("/v1/completions", body)
        #expect(answer.status == 200 && answer.tokens() == expected)
        #expect(try suspects(cell) == [1])

        hung.send(SIGCONT)
        try cell.wait("a view of three") {
            try status(cell).filter { $0["member"] as? Bool == true }.count == 3
        }
        #expect(try suspects(cell) == [])
        for stream in streams {
            #expect(try stream.wholeText().tokens == Array(expected.dropFirst()), "\(cell.logs)")
        }
        #expect(cell.stop() == Array(repeating: 0, count: 5))
    }
}
