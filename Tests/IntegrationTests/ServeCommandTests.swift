import Foundation
import Testing

/// `phalanxctl serve` with real daemons: one line of `vllm serve` on this machine.
@Suite(.serialized) struct ServeCommandTests {
    static let model = RunningCell.model("demo-w8a8")
    static let ports = ["--port", "0", "--data-parallel-rpc-port", "0"]

    /// Waits until it serves, and returns a client of its gateway.
    static func client(of launcher: RunningLauncher) throws -> HTTPClient {
        let ready = try #require(
            launcher.line(containing: "ready ", within: 120), "\(launcher.output)")
        let address = ready.split(separator: " ").first { $0.hasPrefix("http://") } ?? ""
        return HTTPClient(
            port: try #require(address.split(separator: ":").last.flatMap { UInt16($0) }))
    }

    static func complete(_ http: HTTPClient) throws -> HTTPClient.Answer {
        try http.post(
            "/v1/completions",
            ["prompt": "In the beginning", "max_tokens": 4, "temperature": 0])
    }

    @Test func theDocumentedLineAnswersAndStopsCleanly() throws {
        let launcher = try RunningLauncher(
            serve: [
                Self.model, "--host", "127.0.0.1", "-dp", "2", "--data-parallel-size-local", "2",
                "--data-parallel-address", "127.0.0.1", "--tensor-parallel-size", "1", "--seed",
                "1024", "--served-model-name", "deepseek_r1", "--enable-expert-parallel",
                "--max-num-seqs", "16", "--max-model-len", "512", "--quantization", "ascend",
                "--max-num-batched-tokens", "4096", "--trust-remote-code",
                "--no-enable-prefix-caching", "--gpu-memory-utilization", "0.92",
                "--additional-config",
                #"{"ascend_scheduler_config":{"enabled":true},"#
                    + #""torchair_graph_config":{"enabled":true}}"#,
            ] + Self.ports)
        defer { launcher.end() }
        let answer = try Self.complete(try Self.client(of: launcher))
        #expect(answer.status == 200, "\(answer.text)")
        #expect(answer.json["model"] as? String == "deepseek_r1")
        #expect(answer.choices.count == 1)
        for note in ["gpu-memory-utilization", "trust-remote-code", "torchair_graph_config"] {
            #expect(launcher.output.contains(note))
        }
        let children = launcher.children
        #expect(children.count == 4)
        launcher.send(SIGTERM)
        #expect(launcher.exitCode() == 0)
        #expect(launcher.output.hasSuffix("stopped"), "\(launcher.output)")
        #expect(RunningLauncher.waitForEnd(of: children) == [])
        let goodbyes = ["[gateway] notice", "[worker-0] notice", "[coordinator] warning"]
            .compactMap {
                launcher.output.components(separatedBy: "stopping ").last?.range(of: $0)?.lowerBound
            }
        #expect(goodbyes.count == 3, "\(launcher.output)")
        #expect(goodbyes.min() == goodbyes.first, "the gateway drains first")
    }

    @Test func planFindsThatItRunsAsPlannedAndWhatDiffers() throws {
        let line = [Self.model, "-dp", "2", "-ep"] + Self.ports
        let launcher = try RunningLauncher(serve: line)
        defer { launcher.end() }
        _ = try Self.client(of: launcher)
        let same = try RunningLauncher(control: ["plan", "--diff"] + line)
        #expect(same.exitCode() == 0, "\(same.output)")
        #expect(same.output.contains("runs as planned: 4 processes"), "\(same.output)")
        let other = try RunningLauncher(
            control: ["plan", "--diff", "--max-num-seqs", "7"] + line)
        #expect(other.exitCode() == 1)
        #expect(other.output.contains("has max-num-seqs 256, planned 7"), "\(other.output)")
        launcher.send(SIGTERM)
        #expect(launcher.exitCode() == 0)
    }

    @Test func aKilledWorkerComesBackAndAKilledGatewayEndsAll() throws {
        let launcher = try RunningLauncher(serve: [Self.model, "-dp=2", "-ep"] + Self.ports)
        defer { launcher.end() }
        let http = try Self.client(of: launcher)
        let workers = launcher.children(running: "phalanx-engine-worker")
        #expect(workers.count == 2)
        for worker in workers.prefix(1) { kill(worker, SIGKILL) }
        #expect(launcher.line(containing: "is started again in", within: 30) != nil)
        #expect(launcher.line(containing: "view 3 is active", within: 60) != nil)
        // The gateway hears of the view a little later; every try is a request.
        let deadline = Date(timeIntervalSinceNow: 30)
        var status = try Self.complete(http).status
        while status != 200 && Date() < deadline { status = try Self.complete(http).status }
        #expect(status == 200)
        let children = launcher.children
        for gateway in launcher.children(running: "phalanx-gateway") { kill(gateway, SIGKILL) }
        #expect(launcher.exitCode() == 1)
        #expect(launcher.output.contains("gateway was killed by signal 9; all stop"))
        #expect(RunningLauncher.waitForEnd(of: children) == [])
    }

    @Test func aSecondLineWithoutHeadBringsTheOtherRanks() throws {
        let common = ["-dp", "2", "-dpl", "1", "-ep", "--data-parallel-address", "127.0.0.1"]
        let head = try RunningLauncher(serve: [Self.model] + common + Self.ports)
        defer { head.end() }
        let line = try #require(head.line(containing: "coordinator at ", within: 60))
        let port = try #require(line.split(separator: ":").last.map(String.init))
        let other = try RunningLauncher(
            serve: [Self.model] + common + [
                "--headless", "-dpr", "1", "--data-parallel-rpc-port", port, "--node-name", "b",
            ])
        defer { other.end() }
        #expect(try Self.complete(try Self.client(of: head)).status == 200)
        #expect(other.line(containing: "ready ", within: 30)?.contains("workers on node b") == true)
        #expect(other.children.count == 1)
        other.send(SIGTERM)
        #expect(other.exitCode() == 0)
        head.send(SIGTERM)
        #expect(head.exitCode() == 0)
    }

    @Test func aDaemonThatRefusesEndsAllWithItsCodeAndReason() throws {
        let launcher = try RunningLauncher(
            serve: [Self.model, "--max-model-len", "16777216"] + Self.ports)
        defer { launcher.end() }
        #expect(launcher.exitCode() == 1)
        #expect(launcher.output.contains("--max-model-len"), "\(launcher.output)")
        #expect(launcher.output.contains("all stop"), "\(launcher.output)")
    }
}
