import Foundation
import Testing

/// `phalanxctl` against a real cell.
@Suite(.serialized) struct OperatorCommandTests {
    private func json(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    /// Places are given in the order of HELLOs, which is not that of the processes' starts.
    private func device(ofRank rank: Int, _ cell: RunningCell) throws -> Int {
        let run = try ControlProcess(["status", "--json"], port: cell.coordinatorPort)
        let workers = try #require(try json(run.output)["workers"] as? [[String: Any]])
        let worker = workers.first { $0["dp_rank"] as? Int == rank }
        return try #require(worker?["device"] as? Int)
    }

    @Test func statusFollowsACellThatServesAndOneThatDoesNot() throws {
        let cell = try RunningCell(
            dp: 2, options: ["--lease", "1000", "--data-parallel-size-min", "2"])
        _ = try cell.http.post(
            "/v1/completions", ["prompt": [40, 41, 42], "max_tokens": 20, "ignore_eos": true])
        try cell.wait("the loads") {
            let run = try ControlProcess(["status", "--json"], port: cell.coordinatorPort)
            guard run.exitCode == 0 else { return false }
            let workers = try #require(try json(run.output)["workers"] as? [[String: Any]])
            let loads = workers.compactMap { $0["load"] as? [String: Any] }
            let rows = loads.compactMap { $0["tick_tokens_group"] as? Int }
            // One rank has all the rows, and both wait for each other.
            guard rows.count == 2, rows.allSatisfy({ $0 == 22 }) else { return false }
            #expect(loads.compactMap { $0["imbalance"] as? Double } == [2, 2])
            #expect(loads.allSatisfy { ($0["exchange_wait_seconds"] as? Double ?? 0) > 0 })
            return true
        }
        let screen = try ControlProcess(["status"], port: cell.coordinatorPort)
        #expect(screen.exitCode == 0)
        #expect(screen.output.hasPrefix("serving\n"), "\(screen.output)")
        let top = try ControlProcess(["top", "--once"], port: cell.coordinatorPort)
        #expect(top.exitCode == 0)
        #expect(top.output.contains("\n1  1   0 "), "\(top.output)")

        let lost = cell.workers[try device(ofRank: 1, cell)]
        lost.send(SIGKILL)
        var run = screen
        try cell.wait("the loss") {
            run = try ControlProcess(["status"], port: cell.coordinatorPort)
            return run.exitCode == 1
                && run.output.hasPrefix("not serving: worker 1 has not said HELLO")
        }
        cell.coordinator.send(SIGKILL)
        #expect(cell.coordinator.exitCode() == -SIGKILL)
        run = try ControlProcess(["status", "--timeout", "1"], port: cell.coordinatorPort)
        #expect(run.exitCode == 1)
        let address = "tcp://127.0.0.1:\(cell.coordinatorPort)"
        #expect(run.complaints.contains("no coordinator answers at \(address) within 1.0 s"))
    }

    @Test func topDrawsOnATerminalAndGivesItBack() throws {
        let cell = try RunningCell(dp: 1)
        let terminal = try Terminal()
        let before = try terminal.settings()
        let process = try terminal.start(
            "phalanxctl",
            [
                "top", "--data-parallel-rpc-port", cell.coordinatorPort,
            ])
        // Two drawings, so that it goes on by itself.
        let drawn = terminal.read(until: "\u{1B}[J", times: 2, within: 30)
        #expect(drawn.hasPrefix("\u{1B}[?1049h"), "\(drawn)")
        #expect(drawn.contains("\u{1B}[H") && drawn.contains("W  DP  TP  STAGE"), "\(drawn)")
        #expect(try terminal.settings() != before)
        terminal.write("q")
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        #expect(try terminal.settings() == before)
        let rest = terminal.read(until: "\u{1B}[?1049l", times: 1, within: 30)
        #expect(rest.hasSuffix("\u{1B}[?25h\u{1B}[?1049l"), "\(rest)")
    }

    @Test func aDrainedRankFinishesItsSequencesAndLeaves() throws {
        let cell = try RunningCell(dp: 2, options: ["--lease", "1000"])
        let body: [String: Any] = [
            "prompt": Array(40..<60), "max_tokens": 300, "temperature": 0, "ignore_eos": true,
            "return_token_ids": true,
        ]
        let expected = try cell.http.post("/v1/completions", body).tokens()
        let streams = try (0..<4).map { _ in try cell.http.stream("/v1/completions", body) }
        for stream in streams { _ = try stream.event() }
        let leaving = try device(ofRank: 1, cell)
        let unknown = try ControlProcess(["drain", "7"], port: cell.coordinatorPort)
        #expect(unknown.exitCode == 1)
        #expect(unknown.complaints.contains("the deployment has DP ranks 0 to 1"))
        let drain = try ControlProcess(["drain", "1"], port: cell.coordinatorPort)
        #expect(drain.exitCode == 0, "\(drain.complaints)\n\(cell.logs)")
        #expect(drain.output.contains("DP rank 1 has left\nthe view ended: worker 1"))
        // Which of the two depends on who is faster.
        let ends = ["the other ranks go on without it", "is active with 1 worker"]
        #expect(ends.contains(where: drain.output.contains), "\(drain.output)")
        #expect(cell.workers[leaving].exitCode() == 0, "\(drain.output)\n\(cell.logs)")
        let second = try ControlProcess(["drain", "1"], port: cell.coordinatorPort)
        #expect(second.exitCode == 1)
        #expect(second.complaints.contains("is missing already"))
        // The other rank's sequences go on, and the replacement is taken in.
        try cell.restartWorker(leaving)
        for stream in streams {
            #expect(try stream.wholeText().tokens == Array(expected.dropFirst()), "\(cell.logs)")
        }
        #expect(cell.stop() == [0, 0, 0, 0])
    }

    @Test func theDoctorFindsAHealthyCellWellAndWrongOptionsNot() throws {
        let cell = try RunningCell(dp: 2)
        let well = try ControlProcess(["doctor", "--json"], port: cell.coordinatorPort)
        #expect(well.exitCode == 0, "\(well.output)")
        let findings = try #require(try json(well.output)["findings"] as? [[String: String]])
        func severity(_ check: String) -> [String] {
            findings.filter { $0["check"] == check }.compactMap { $0["severity"] }
        }
        #expect(severity("worker") == ["ok", "ok"])
        #expect(severity("pairs") == ["ok"])
        #expect(severity("checkpoint") == ["ok"])
        #expect(severity("coordinator") == ["ok"])
        let checkpoint = findings.first { $0["check"] == "checkpoint" }
        #expect(checkpoint?["what"]?.hasSuffix("as the 2 workers here") == true)

        let wrong = try ControlProcess(
            ["doctor", "--worker-address", "203.0.113.7", "--block-size", "32"],
            port: cell.coordinatorPort)
        #expect(wrong.exitCode == 1)
        #expect(wrong.output.contains("--worker-address 203.0.113.7: no interface"))
        #expect(wrong.output.contains("this host has \"32\", the coordinator \"16\""))
        #expect(cell.stop() == [0, 0, 0, 0])
    }
}
