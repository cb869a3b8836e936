import Foundation

/// The deployment of two nodes as operators type it: one line a node, vLLM-Ascend's own options.
final class TwoNodeLines {
    let network: NodeNetwork
    let http: HTTPClient
    let lines: [RunningDaemon]
    private let keys: DeploymentKeys

    static let httpPort: UInt16 = 8004
    static let additional = """
        {"ascend_scheduler_config":{"enabled":true},"torchair_graph_config":{"enabled":true}}
        """

    /// The original line of the first node, then what the second one adds to it.
    static func line(_ model: String, quantization: String?) -> [String] {
        [
            "serve", RunningCell.model(model), "--host", "0.0.0.0", "--port", "\(httpPort)",
            "--data-parallel-size", "4", "--data-parallel-size-local", "2",
            "--data-parallel-address", "10.77.0.1", "--data-parallel-rpc-port", "13389",
            "--tensor-parallel-size", "4", "--seed", "1024", "--served-model-name", "deepseek_v3",
            "--enable-expert-parallel", "--max-num-seqs", "16", "--max-model-len", "1024",
            "--max-num-batched-tokens", "4096", "--trust-remote-code",
            "--no-enable-prefix-caching", "--gpu-memory-utilization", "0.92",
            "--additional-config", additional,
        ] + (quantization.map { ["--quantization", $0] } ?? [])
    }
    static let second = ["--headless", "--data-parallel-start-rank", "2"]

    init(_ network: NodeNetwork, model: String, quantization: String? = nil) throws {
        self.network = network
        http = HTTPClient(port: Self.httpPort, node: network.a)
        let keys = try DeploymentKeys()
        self.keys = keys
        // Both nodes have one kernel, which would be one host and one name.
        let ours = ["--keys", keys.folder, "--collectives", "ucx", "--dtype", "float32"]
        lines = try [(network.a, []), (network.b, Self.second)].map { node, more in
            try RunningDaemon(
                "serve-\(node.name)", "phalanxctl",
                Self.line(model, quantization: quantization) + more + ours
                    + ["--node-name", node.name], on: node)
        }
        let deadline = Date(timeIntervalSinceNow: 120)
        while (try? http.get("/ready").status) != 200 {
            guard Date() < deadline, lines.allSatisfy(\.isRunning) else {
                throw CellError(description: "not ready:\n\(logs)")
            }
            // A refused connection answers at once: this waits for what the launchers say.
            _ = lines[0].line(containing: "never said", within: 0.1)
        }
    }

    var logs: String { lines.map { "--- \($0.name)\n\($0.log)" }.joined(separator: "\n") }

    /// Stops the first node, then the second.
    func stop() -> [Int32?] {
        lines.map { line in
            line.send(SIGTERM)
            return line.exitCode(within: 90)
        }
    }
}

/// Keys of a deployment, for as long as this object lives.
final class DeploymentKeys {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
        "phalanx-keys-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    ).path

    init() throws {
        let maker = try RunningDaemon("keys", "phalanxctl", ["keys", folder])
        guard maker.exitCode(within: 30) == 0 else {
            throw CellError(description: "no keys:\n\(maker.log)")
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }
}
