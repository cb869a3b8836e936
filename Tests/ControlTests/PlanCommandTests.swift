import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import Control

/// `phalanxctl plan` from its command line to what it prints.
@Suite struct PlanCommandTests {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    static let model = root.appendingPathComponent("models/demo/w8a8").path

    /// The documented command line of vLLM-Ascend for its first node, with another model.
    static let original: [String] = [
        model, "--host", "0.0.0.0", "--port", "8004", "--data-parallel-size", "4",
        "--data-parallel-size-local", "2", "--data-parallel-address", "127.0.0.1",
        "--data-parallel-rpc-port", "13389", "--tensor-parallel-size", "4", "--seed", "1024",
        "--served-model-name", "deepseek_r1", "--enable-expert-parallel", "--max-num-seqs", "16",
        "--max-model-len", "1024", "--quantization", "ascend", "--max-num-batched-tokens", "4096",
        "--trust-remote-code", "--no-enable-prefix-caching", "--gpu-memory-utilization", "0.92",
        "--additional-config",
        #"{"ascend_scheduler_config":{"enabled":true},"torchair_graph_config":{"enabled":true}}"#,
    ]

    static func json(_ arguments: [String]) throws -> [String: Any] {
        let run = ControlRun(["plan"] + arguments + ["--json"])
        #expect(run.exit == .success, "\(run.complaints)")
        return try #require(
            try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
    }

    static func processes(_ plan: [String: Any]) throws -> [[String: Any]] {
        let nodes = try #require(plan["nodes"] as? [[String: Any]])
        return nodes.flatMap { $0["processes"] as? [[String: Any]] ?? [] }
    }

    /// Every planned command line is one that its daemon takes.
    static func daemonOptions(_ process: [String: Any]) throws -> Options {
        let program = try #require(process["program"] as? String)
        let command = try #require(process["command"] as? [String])
        let kind: DaemonKind = try #require(DaemonKind(rawValue: program))
        return try Options(daemon: kind, arguments: Array(command.dropFirst()))
    }

    @Test func theOriginalCommandLineIsHonouredOptionByOption() throws {
        let plan = try Self.json(Self.original)
        let processes = try Self.processes(plan)
        #expect(processes.count == 10)
        let coordinator = try Self.daemonOptions(processes[0])
        let expected: [String: String?] = [
            "model": Self.model, "data-parallel-size": "4", "tensor-parallel-size": "4",
            "data-parallel-address": "127.0.0.1", "data-parallel-rpc-port": "13389",
            "seed": "1024", "served-model-name": "deepseek_r1", "enable-expert-parallel": "true",
            "max-num-seqs": "16", "max-model-len": "1024", "quantization": "ascend",
            "max-num-batched-tokens": "4096", "trust-remote-code": "true",
            "enable-prefix-caching": "false", "additional-config": Self.original.last,
        ]
        for (name, value) in expected { #expect(coordinator.text(name) == value, "\(name)") }
        #expect(coordinator.text("gpu-memory-utilization") == nil)
        let gateway = try Self.daemonOptions(processes[9])
        #expect(gateway.text("host") == "0.0.0.0")
        #expect(gateway.integer("port") == 8004)
        let worker = try Self.daemonOptions(processes[8])
        #expect(worker.devicePlace == 7)
        #expect(worker.integer("data-parallel-size-local") == 2)
        let notes = try #require(plan["notes"] as? [String])
        for name in ["gpu-memory-utilization", "trust-remote-code", "torchair_graph_config"] {
            #expect(notes.contains { $0.contains(name) }, "\(name)")
        }
    }

    @Test func theSecondNodesLineHasWorkersAloneThatRepeatWhatAllShare() throws {
        let arguments = Self.original + ["--headless", "-dpr", "2"]
        let processes = try Self.processes(try Self.json(arguments))
        #expect(processes.compactMap { $0["worker"] as? Int } == Array(8..<16))
        #expect(processes.count == 8)
        let worker = try Self.daemonOptions(processes[7])
        #expect(worker.devicePlace == 7)
        #expect(worker.declared.contains { $0.key == "max-num-seqs" && $0.value == "16" })
    }

    @Test func shortFormsAreTheLongOnes() throws {
        let short = [
            Self.model, "-dp=4", "-dpl", "2", "-tp", "2", "-dpr", "0", "-dpa", "127.0.0.1",
            "-dpp=13390", "-ep", "-q", "ascend",
        ]
        let long = [
            Self.model, "--data-parallel-size", "4", "--data-parallel-size-local", "2",
            "--tensor-parallel-size=2", "--data-parallel-start-rank", "0",
            "--data-parallel-address=127.0.0.1", "--data-parallel-rpc-port", "13390",
            "--enable-expert-parallel", "--quantization", "ascend",
        ]
        #expect(ControlRun(["plan"] + short).output == ControlRun(["plan"] + long).output)
        // The model may stand anywhere.
        let last = Array(short.dropFirst()) + [Self.model]
        #expect(ControlRun(["plan"] + last).output == ControlRun(["plan"] + long).output)
        #expect(try Self.processes(try Self.json(short)).count == 6)
    }

    @Test func oneFilePlansEveryNodeAndTheDaemonsTakeTheirLines() throws {
        let path = FileManager.default.temporaryDirectory
            .appendingPathComponent("phalanx \(UUID().uuidString).yaml").path
        let file = """
            model: \(Self.model)
            data-parallel-size: 2
            enable-expert-parallel: true
            api-key: [secret]
            nodes:
              - {name: node-a, address: 127.0.0.1, devices: 1}
              - {name: node-b, address: 127.0.0.2, devices: [3], headless: false, port: 8001}
            """
        try Data(file.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let processes = try Self.processes(try Self.json(["--config", path]))
        #expect(
            processes.compactMap { $0["name"] as? String }
                == ["coordinator", "worker-0", "gateway", "worker-1", "gateway"])
        for process in processes { _ = try Self.daemonOptions(process) }
        let worker = try Self.daemonOptions(processes[3])
        #expect(worker.devicePlace == 0)
        #expect(worker.text("worker-address") == "127.0.0.2")
        let one = ControlRun(["plan", "--config", path, "--node", "node-b"])
        #expect(one.output.contains("node node-b (127.0.0.2)"))
        #expect(!one.output.contains("node node-a"))
        #expect(one.output.contains("'--config=\(path)'"))
        let key = ControlRun(["plan", "--config", path, "--api-key", "hush"])
        #expect(key.output.contains("--api-key=(hidden)") && !key.output.contains("hush"))
    }

    static let refusals: [(arguments: [String], part: String)] = [
        ([], "model: none is given"),
        (["/nonexistent"], "model /nonexistent: there is no such folder"),
        ([#filePath], "is no folder"),
        ([model, "--prot", "1"], "did you mean \"port\"?"),
        ([model, "-dqr", "1"], "unknown option \"-dqr\"; did you mean \"-dp"),
        ([model, "-dp"], "--data-parallel-size: needs a value"),
        ([model, "stray"], "\"stray\": expected an option"),
        ([model, "-pp", "2"], "-pp 2: is refused: there are no pipeline stages"),
        ([model, "-dpm"], "is refused: start a gateway a rank"),
        ([model, "--reasoning-parser", "deepseek_r1"], "is refused: what a model thinks"),
        ([model, "--gpu-memory-utilization", "2"], "2.0 is not in 0.01...1.0"),
        ([model, "-dp", "2", "-ep", "-dpr", "1", "-dpl", "2"], "ranks 1 to 2 do not fit"),
        ([model, "--data-parallel-address", "head"], "address \"head\" is no IP address"),
        ([model, "--data-parallel-rpc-port", "8000"], "port 8000 is data-parallel-rpc-port"),
        ([model, "--node", "a"], "there is no file with nodes"),
        ([model, "--config", "/nonexistent.yaml"], "/nonexistent.yaml: cannot be read"),
    ]

    @Test(arguments: refusals)
    func aRefusedPlanEndsWith64(arguments: [String], part: String) {
        let run = ControlRun(["plan"] + arguments)
        #expect(run.exit.rawValue == 64)
        #expect(run.complaints.contains(part), "\(run.complaints)")
    }

    @Test func whatHasNoEffectIsANoteWithTheReason() throws {
        let arguments = [
            Self.model, "--swap-space", "4", "--enforce-eager", "--pipeline-parallel-size=1",
            "--no-enable-log-requests", "--data_parallel_backend", "mp",
        ]
        let notes = try #require(try Self.json(arguments)["notes"] as? [String])
        #expect(notes.count == 5, "\(notes)")
        #expect(
            notes.contains { $0.contains("--enforce-eager has no effect: nothing is captured") })
    }

    @Test func severalServedNamesAreOneOption() throws {
        let plan = try Self.json([Self.model, "--served-model-name", "a", "b", "--port", "1"])
        let coordinator = try Self.daemonOptions(try Self.processes(plan)[0])
        #expect(coordinator.text("served-model-name") == "a,b")
    }

    @Test func aDifferenceEndsWith1() {
        // No cell of another test has these values.
        let run = ControlRun([
            "plan", Self.model, "--diff", "--max-num-seqs", "65530",
            "--max-num-batched-tokens", "65531",
        ])
        #expect(run.exit == .finding)
        #expect(run.output.contains("worker-0"), "\(run.output)")
    }
}
