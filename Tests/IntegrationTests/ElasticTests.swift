import Foundation
import Testing

/// Workers come and go under streams, and no client notices.
@Suite(.serialized) struct ElasticTests {
    private func body(seed: Int, tokens: Int = 300) -> [String: Any] {
        [
            "prompt": Array(40..<60), "max_tokens": tokens, "temperature": 0.8, "seed": seed,
            "ignore_eos": true, "return_token_ids": true,
        ]
    }

    private func expected(_ cell: RunningCell, tokens: Int = 300) throws -> [[Int]] {
        try (0..<4).map {
            try cell.http.post("/v1/completions", body(seed: $0, tokens: tokens)).tokens()
        }
    }

    /// Streams that have had a token each.
    private func streams(_ cell: RunningCell, tokens: Int = 300) throws -> [HTTPConnection] {
        let streams = try (0..<4).map {
            try cell.http.stream("/v1/completions", body(seed: $0, tokens: tokens))
        }
        for stream in streams { _ = try stream.event() }
        return streams
    }

    private func expectRest(
        _ streams: [HTTPConnection], _ expected: [[Int]], _ cell: RunningCell
    ) throws {
        for (stream, expected) in zip(streams, expected) {
            let rest = try stream.wholeText()
            #expect(rest.tokens == Array(expected.dropFirst()), "\(cell.logs)")
            #expect(rest.finish == "length")
        }
    }

    @Test func fromTwoToFourAndBackUnderStreams() throws {
        let cell = try RunningCell(dp: 2)
        let expected = try expected(cell)
        var running = try streams(cell)
        try cell.addWorker()
        try cell.addWorker()
        try expectRest(running, expected, cell)
        #expect(cell.coordinator.line(containing: "is active with 4 workers", within: 30) != nil)
        running = try streams(cell)
        cell.workers[3].send(SIGTERM)
        #expect(cell.workers[3].exitCode(within: 60) == 0)
        cell.workers[2].send(SIGTERM)
        #expect(cell.workers[2].exitCode(within: 60) == 0)
        try expectRest(running, expected, cell)
        #expect(try cell.http.get("/ready").status == 200)
        #expect(try self.expected(cell) == expected)
        #expect(cell.stop().prefix(3) == [0, 0, 0])
    }

    /// Sequences of the rank that stays keep their cache; those of the killed one move.
    @Test func aKilledWorkerIsDoneWithout() throws {
        let cell = try RunningCell(dp: 2, options: ["--lease", "1000"])
        let expected = try expected(cell)
        let running = try streams(cell)
        cell.workers[1].send(SIGKILL)
        try expectRest(running, expected, cell)
        #expect(cell.coordinator.line(containing: "with 1 workers of 2", within: 30) != nil)
        #expect(try cell.http.get("/ready").status == 200)
        try cell.restartWorker(1)
        #expect(cell.workers[1].line(containing: "view is active", within: 60) != nil)
        #expect(try self.expected(cell) == expected)
    }

    @Test func workersRestartOneAfterTheOtherUnderStreams() throws {
        let cell = try RunningCell(dp: 2, workerOptions: ["--shutdown-timeout", "1"])
        let expected = try expected(cell, tokens: 1200)
        let running = try streams(cell, tokens: 1200)
        for round in 0..<4 {
            let index = round % 2
            cell.workers[index].send(SIGTERM)
            #expect(cell.workers[index].exitCode(within: 60) == 0, "\(cell.logs)")
            try cell.restartWorker(index)
            #expect(cell.workers[index].line(containing: "view is active", within: 60) != nil)
        }
        try expectRest(running, expected, cell)
    }

    @Test func slicedExpertsFollowTheGroup() throws {
        // Device i is worker i, so that two of them are a DP rank.
        let cell = try RunningCell(
            model: "tiny-random", dp: 2, tp: 2, expertParallel: false,
            workerOptions: ["--data-parallel-start-rank", "0"])
        let expected = try expected(cell, tokens: 60)
        for index in [2, 3] { cell.workers[index].send(SIGTERM) }
        for index in [2, 3] { #expect(cell.workers[index].exitCode(within: 60) == 0) }
        #expect(try self.expected(cell, tokens: 60) == expected)
        #expect(cell.coordinator.line(containing: "with 2 workers of 4", within: 30) != nil)
        try cell.addWorker()
        try cell.addWorker()
        #expect(cell.coordinator.line(containing: "is active with 4 workers", within: 60) != nil)
        #expect(try self.expected(cell, tokens: 60) == expected)
    }
}
