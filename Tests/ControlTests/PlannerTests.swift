import Testing

@testable import Control

/// A deployment whose parts a test changes.
struct Draft {
    var dataParallelSize = 4
    var tensorParallelSize = 4
    var maxNumSeqs = 16
    var maxNumBatchedTokens = 4096
    var model = ModelFacts(
        path: "/m", problem: nil,
        experts: ModelFacts.Experts(count: 256, perToken: 8, hiddenSize: 7168))
    var coordinatorAddress = "10.0.0.1"
    var coordinatorPort = 13389
    var isWhole = true
    var nodes = [DraftNode("a", "10.0.0.1", start: 0), DraftNode("b", "10.0.0.2", start: 2)]

    var deployment: Deployment {
        Deployment(
            dataParallelSize: dataParallelSize, tensorParallelSize: tensorParallelSize,
            maxNumSeqs: maxNumSeqs,
            maxNumBatchedTokens: maxNumBatchedTokens, model: model,
            coordinatorAddress: coordinatorAddress, coordinatorPort: coordinatorPort,
            nodes: nodes.map(\.node), isWhole: isWhole)
    }

    var findings: [String] {
        guard case .refused(let findings) = Planner.plan(deployment) else { return [] }
        return findings.map(\.description)
    }

    var plan: DeploymentPlan? {
        guard case .plan(let plan) = Planner.plan(deployment) else { return nil }
        return plan
    }
}

struct DraftNode {
    let name: String
    var address: String
    var start: Int
    var devices = Array(0..<8)
    var localSize = 2
    var interface: String?
    var runsCoordinator: Bool
    var runsGateway: Bool
    var host = "0.0.0.0"
    var port = 8004
    var interfaces: [HostInterface]?

    init(_ name: String, _ address: String, start: Int) {
        self.name = name
        self.address = address
        self.start = start
        runsCoordinator = start == 0
        runsGateway = start == 0
    }

    var node: Deployment.Node {
        Deployment.Node(
            name: name, place: "file \(name)", address: address,
            parsedAddress: NetworkAddress(address), interface: interface, devices: devices,
            startRank: start, localSize: localSize, runsCoordinator: runsCoordinator,
            runsGateway: runsGateway, httpHost: host, httpPort: port, hostInterfaces: interfaces,
            commands: [.coordinator: ["c"], .worker: ["w", "--x"], .gateway: ["g"]])
    }
}

@Suite struct PlannerTests {
    @Test func twoNodesOfEightDevices() throws {
        let plan = try #require(Draft().plan)
        #expect(
            plan.nodes[0].processes.map(\.name)
                == ["coordinator"] + (0..<8).map { "worker-\($0)" } + ["gateway"])
        #expect(plan.nodes[1].processes.map(\.name) == (8..<16).map { "worker-\($0)" })
        let ranks = plan.nodes[1].processes.compactMap(\.ranks)
        #expect(ranks.map(\.dataParallel) == [2, 2, 2, 2, 3, 3, 3, 3])
        #expect(ranks.map(\.tensorParallel) == [0, 1, 2, 3, 0, 1, 2, 3])
        #expect(ranks.map(\.device) == Array(0..<8))
        #expect(plan.nodes[1].processes[3].command == ["w", "--x", "--device-index=3"])
        #expect(plan.nodes[0].processes[0].endpoint == "tcp://10.0.0.1:13389")
        #expect(plan.nodes[0].processes[9].endpoint == "http://0.0.0.0:8004")
        #expect(plan.notes.isEmpty)
    }

    @Test func theRankIsThePlaceOfADeviceNotItsIndex() throws {
        var draft = Draft()
        draft.nodes[1].devices = [7, 6, 5, 4, 3, 2, 1, 0]
        let ranks = try #require(draft.plan).nodes[1].processes.compactMap(\.ranks)
        #expect(ranks.map(\.worker) == Array(8..<16))
        #expect(ranks.map(\.device) == [7, 6, 5, 4, 3, 2, 1, 0])
    }

    static func value(_ name: String, _ draft: Draft, node: Int = 0) -> String? {
        draft.plan?.nodes[node].environment.first { $0.name == name }?.value
    }

    @Test func theEnvironmentIsDerived() {
        var draft = Draft()
        draft.nodes[1].interface = "eth0"
        #expect(Self.value("HCCL_IF_IP", draft, node: 1) == "10.0.0.2")
        for name in ["HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"] {
            #expect(Self.value(name, draft, node: 1) == "eth0")
            #expect(Self.value(name, draft) == nil)
        }
        draft.nodes[0].interfaces = Self.interfaces
        #expect(Self.value("HCCL_SOCKET_IFNAME", draft) == "eth1")
        #expect(Self.value("OMP_NUM_THREADS", draft) == nil)
    }

    @Test func theBufferFollowsTheFormula() {
        // 2 x (256 rows x 16 ranks x 8 experts x 7168 x 2 bytes + 2 MiB) is 900 MiB.
        var draft = Draft()
        draft.maxNumSeqs = 256
        #expect(Self.value("HCCL_BUFFSIZE", draft) == "900")
        // A rank's dispatch takes no more rows.
        draft.maxNumSeqs = 4096
        #expect(Self.value("HCCL_BUFFSIZE", draft) == "900")
        // 64 MiB are less than HCCL's own default.
        draft.maxNumSeqs = 16
        #expect(Self.value("HCCL_BUFFSIZE", draft) == "200")
        draft.model = ModelFacts(path: "/m", problem: nil, experts: nil)
        #expect(Self.value("HCCL_BUFFSIZE", draft) == nil)
    }

    static let interfaces = [
        HostInterface(name: "lo", address: address("127.0.0.1"), prefixLength: 8),
        HostInterface(name: "eth0", address: address("192.168.1.5"), prefixLength: 24),
        HostInterface(name: "eth1", address: address("10.0.0.1"), prefixLength: 16),
    ]

    static func address(_ text: String) -> NetworkAddress {
        NetworkAddress(text) ?? NetworkAddress(text: text, bytes: [0, 0, 0, 0])
    }

    static let refusals: [(change: @Sendable (inout Draft) -> Void, parts: [String])] = [
        ({ $0.dataParallelSize = 3 }, ["16 devices", "needs 12", "give data-parallel-size 4"]),
        ({ $0.nodes.removeLast() }, ["8 devices", "needs 16", "data-parallel-size 2"]),
        (
            { $0.nodes[1].devices.removeLast() },
            ["file b", "7 devices", "multiple", "give it 4 or 8"]
        ),
        (
            { $0.nodes[0].localSize = 1 },
            ["file a", "data-parallel-size-local 1", "needs 4", "has 8"]
        ),
        ({ $0.nodes[1].start = 1 }, ["DP rank 1", "node \"a\" (file a) too", "overlap"]),
        ({ $0.nodes[1].start = 3 }, ["no node has DP rank 2", "without a gap"]),
        (
            {
                $0.nodes[1].devices = []
                $0.nodes[1].localSize = 0
            }, ["file b", "nothing runs there", "give it devices"]
        ),
        (
            {
                $0.isWhole = false
                $0.nodes[1].start = 3
            }, ["ranks 3 to 4", "data-parallel-size 4"]
        ),
        ({ $0.maxNumSeqs = 5000 }, ["max-num-batched-tokens 4096", "max-num-seqs 5000"]),
        ({ $0.dataParallelSize = 512 }, ["2048 workers are more than 512"]),
        ({ $0.nodes[1].address = "node-b" }, ["file b", "\"node-b\" is no IP address"]),
        ({ $0.nodes[1].address = "0.0.0.0" }, ["file b", "means every address"]),
        ({ $0.nodes[1].address = "127.0.0.1" }, ["file b", "cannot reach 127.0.0.1"]),
        ({ $0.nodes[0].runsCoordinator = false }, ["data-parallel-address", "no node's address"]),
        ({ $0.coordinatorPort = 0 }, ["data-parallel-rpc-port 0", "give a port"]),
        ({ $0.coordinatorPort = 8004 }, ["file a", "port 8004", "data-parallel-rpc-port"]),
        (
            {
                $0.nodes[1].runsGateway = true
                $0.nodes[1].address = "10.0.0.1"
            }, ["file b", "port 8004 is port of node \"a\" too"]
        ),
        (
            { $0.model = ModelFacts(path: "/m", problem: "there is no such folder", experts: nil) },
            ["model /m", "no such folder", "on this host"]
        ),
        ({ $0.model = ModelFacts(path: nil, problem: nil, experts: nil) }, ["model", "none"]),
        (
            {
                $0.nodes[0].interfaces = interfaces
                $0.nodes[0].interface = "eth9"
            }, ["no interface \"eth9\"", "eth1 10.0.0.1/16"]
        ),
        (
            {
                $0.nodes[0].interfaces = interfaces
                $0.nodes[0].interface = "eth0"
            }, ["10.0.0.1 is in no subnet of interface \"eth0\"", "eth0 192.168.1.5/24"]
        ),
        (
            {
                $0.nodes[1].interfaces = interfaces
                $0.nodes[1].interface = "eth1"
            }, ["this host does not have address 10.0.0.2"]
        ),
    ]

    @Test(arguments: refusals.indices)
    func aFindingSaysWhatWhereAndWhatToDo(index: Int) {
        var draft = Draft()
        Self.refusals[index].change(&draft)
        #expect(draft.findings.count == 1, "\(draft.findings)")
        for part in Self.refusals[index].parts {
            #expect(draft.findings.first?.contains(part) == true, "\(part): \(draft.findings)")
        }
    }

    @Test func allFindingsAreSaidAtOnce() {
        var draft = Draft()
        draft.maxNumSeqs = 5000
        draft.nodes[0].address = "x"
        draft.nodes[1].devices = [0]
        #expect(draft.findings.count == 3, "\(draft.findings)")
    }

    @Test func oneLineOfSeveralNodesNeedsNoWhole() throws {
        var draft = Draft()
        draft.isWhole = false
        draft.nodes.removeFirst()
        let plan = try #require(draft.plan)
        #expect(plan.nodes[0].processes.map(\.name) == (8..<16).map { "worker-\($0)" })
        #expect(plan.notes.contains { $0.hasPrefix("2 of 4 DP ranks") })
    }

    @Test func whatClientsCannotReachIsANote() throws {
        var draft = Draft()
        draft.nodes[0].host = "127.0.0.1"
        #expect(try #require(draft.plan).notes.contains { $0.contains("`host: 10.0.0.1`") })
        draft.nodes[0].runsGateway = false
        #expect(try #require(draft.plan).notes.contains { $0.contains("headless: false") })
    }

    @Test(arguments: [
        ("10.1.2.3", "10.1.2.200", 24, true), ("10.1.2.3", "10.1.3.3", 24, false),
        ("10.1.2.3", "10.1.3.3", 23, true), ("10.1.2.3", "99.0.0.0", 0, true),
        ("10.1.2.3", "10.1.2.3", 32, true), ("10.1.2.3", "10.1.2.2", 32, false),
        ("fd00::1", "fd00::ffff", 64, true), ("fd00::1", "fd01::1", 64, false),
        ("::1", "127.0.0.1", 0, false),
    ])
    func aSubnetIsAPrefix(left: String, right: String, length: Int, shares: Bool) {
        let (left, right) = (Self.address(left), Self.address(right))
        #expect(left.sharesPrefix(of: length, with: right) == shares)
    }
}
