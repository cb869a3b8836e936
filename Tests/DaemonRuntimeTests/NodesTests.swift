import Foundation
import Testing

@testable import DaemonRuntime

/// One file for all nodes: what each process takes of it, and what is refused.
@Suite struct NodesTests {
    static let file = """
        data-parallel-size: 5
        tensor_parallel_size: 2
        log-level: warning
        nodes:
          - name: node-a
            address: 10.0.0.1
            interface: eth0
            devices: 4
            port: 8004
            log-level: debug
          - name: node-b
            address: 10.0.0.2
            devices: [4, 5, 2, 3]
            worker_threads: 7
          - name: node-c
            address: 10.0.0.3
            devices: 2
            collectives-device: mlx5_0:1
            interface: eth1
        """

    static func parse(
        _ text: String, _ daemon: DaemonKind?, _ flags: [String] = [], host: String = "elsewhere"
    ) throws -> Result<Options, OptionError> {
        let path = FileManager.default.temporaryDirectory
            .appendingPathComponent("phalanx-\(UUID().uuidString).yaml").path
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        do throws(OptionError) {
            return .success(
                try Options(daemon: daemon, arguments: ["--config", path] + flags, host: host))
        } catch {
            return .failure(error)
        }
    }

    @Test func aWorkerTakesItsNode() throws {
        let flags = ["--node-name", "node-b", "--device-index", "2"]
        let options = try Self.parse(Self.file, .worker, flags).get()
        #expect(options.text("node-name") == "node-b")
        #expect(options.text("worker-address") == "10.0.0.2")
        #expect(options.text("data-parallel-address") == "10.0.0.1")
        #expect(options.integer("data-parallel-start-rank") == 2)
        #expect(options.integer("data-parallel-size-local") == 2)
        #expect(options.integer("worker-threads") == 7)
        #expect(options.text("log-level") == "warning")
        #expect(options.text("collectives-device") == nil)
        #expect(options.devicePlace == 2)
    }

    @Test func theHostsNameChooses() throws {
        for host in ["node-a", "node-a.example.org"] {
            let options = try Self.parse(Self.file, .gateway, host: host).get()
            #expect(options.text("node-name") == "node-a")
            #expect(options.integer("port") == 8004)
            #expect(options.text("log-level") == "debug")
            #expect(options.text("collectives-device") == "eth0")
        }
    }

    @Test func flagsGoBeforeTheNodeAndTheNodeBeforeTheFile() throws {
        let flags = ["--node-name", "node-c", "--worker-address", "10.9.9.9", "--device-index=1"]
        let options = try Self.parse(Self.file, .worker, flags).get()
        #expect(options.text("worker-address") == "10.9.9.9")
        #expect(options.text("collectives-device") == "mlx5_0:1")
        #expect(options.integer("data-parallel-start-rank") == 4)
        #expect(options.devicePlace == 1)
    }

    @Test func theCoordinatorRunsOnTheNodeWithItsAddress() throws {
        let there = "data-parallel-address: 10.0.0.2\n" + Self.file
        #expect(throws: Never.self) { try Self.parse(there, .coordinator, host: "node-b").get() }
        guard case .failure(let error) = try Self.parse(there, .coordinator, host: "node-a") else {
            Issue.record("accepted")
            return
        }
        #expect(error.description.contains("the coordinator runs on node \"node-b\""))
    }

    @Test func withoutAListADevicesPlaceIsItsIndex() throws {
        #expect(try OptionsTests.options([], .worker).get().devicePlace == 0)
        #expect(try OptionsTests.options(["--device-index", "3"], .worker).get().devicePlace == 3)
    }

    static let processRefusals: [(daemon: DaemonKind, flags: [String], parts: [String])] = [
        (.worker, [], ["this host is called \"elsewhere\"", "node-a, node-b, node-c"]),
        (.worker, ["--node-name", "x"], ["no node \"x\"", "node-a, node-b, node-c"]),
        (
            .worker, ["--node-name", "node-b"],
            ["--device-index 0", "node-b", "line 11", "4, 5, 2, 3"]
        ),
        (.coordinator, ["--node-name", "node-b"], ["the coordinator runs on node \"node-a\""]),
    ]

    @Test(arguments: processRefusals)
    func aProcessOfNoNodeIsRefused(daemon: DaemonKind, flags: [String], parts: [String]) throws {
        guard case .failure(let error) = try Self.parse(Self.file, daemon, flags) else {
            Issue.record("accepted")
            return
        }
        for part in parts { #expect(error.description.contains(part), "\(error)") }
    }

    static let node = "nodes:\n- name: a\n  address: 10.0.0.1\n  devices: 1\n"

    static let fileRefusals: [(text: String, parts: [String])] = [
        ("nodes:\n", ["line 1", "expected a list"]),
        ("nodes: []\n", ["line 1", "is empty"]),
        ("nodes: [a]\n", ["line 1", "of a node"]),
        ("nodes:\n- address: x\n  devices: 1\n", ["line 2", "without `name`"]),
        ("nodes:\n- name: a\n  devices: 1\n", ["line 2", "no `address`"]),
        ("nodes:\n- name: a\n  address: x\n", ["line 2", "no `devices`"]),
        (node + "- name: a\n  address: x\n  devices: 1\n", ["line 5", "is there already"]),
        (node + "  adress: y\n", ["line 5", "unknown key \"adress\"", "\"address\""]),
        (node + "  prot: 1\n", ["line 5", "unknown key \"prot\"", "\"port\""]),
        (node + "  port: x\n", ["line 5", "not a whole number"]),
        (node + "  port: [1]\n", ["line 5", "takes one value"]),
        (node + "  device-index: 1\n", ["line 5", "`devices`"]),
        (node + "  node-name: b\n", ["line 5", "`name`"]),
        (node + "  max-num-seqs: 1\n", ["line 5", "whole deployment", "beside nodes"]),
        (node + "  data-parallel-rpc-port: 1\n", ["line 5", "beside nodes"]),
        (node + "  interface: []\n", ["line 5", "expected a text"]),
        (node + "worker-address: 10.0.0.1\n", ["line 5", "put it into a node", "line 1"]),
        ("nodes:\n- name: a\n  address: x\n  devices: 2000\n", ["line 4", "0...1024"]),
        ("nodes:\n- name: a\n  address: x\n  devices: [1, 1]\n", ["line 4", "twice"]),
        ("nodes:\n- name: a\n  address: x\n  devices: [-1]\n", ["line 4", "indices"]),
        ("nodes:\n- name: a\n  address: x\n  devices: {}\n", ["line 4", "count"]),
        ("port: [[[[[[[[[1]]]]]]]]]\n", ["line 1", "nested too deeply"]),
        ("reasoning-parser: deepseek_r1\n", ["line 1", "is refused", "answer's text"]),
    ]

    @Test(arguments: fileRefusals)
    func aRefusalNamesTheLine(text: String, parts: [String]) throws {
        guard case .failure(let error) = try Self.parse(text, nil) else {
            Issue.record("accepted: \(text)")
            return
        }
        for part in parts { #expect(error.description.contains(part), "\(error)") }
    }

    @Test func damageNeverCrashes() throws {
        let text = Array((Self.node + "  port: 5\n").utf8)
        var refused = 0
        for index in text.indices {
            for byte in [0x0A, 0x2D, 0x3A, 0x5B, 0x7B, 0xFF] as [UInt8] {
                var damaged = text
                damaged[index] = byte
                let result = try ConfigurationFileTests.parse(damaged)
                if case .failure(let error) = result {
                    refused += 1
                    #expect(!error.description.isEmpty)
                }
            }
        }
        #expect(refused > 0)
    }

    @Test func startRanksThatANodeGivesCountForTheNext() throws {
        let text = Self.file.replacing(
            "devices: 4\n", with: "devices: 4\n    data-parallel-start-rank: 1\n")
        let options = try Self.parse(text, nil).get()
        #expect(options.nodeRanks.map(\.start) == [1, 3, 5])
        #expect(options.nodeRanks.map(\.size) == [2, 2, 1])
    }
}
