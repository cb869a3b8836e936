/// All that can be wrong with a deployment before anything starts.
struct PlanChecks {
    private let deployment: Deployment
    private(set) var findings: [PlanFinding] = []

    init(_ deployment: Deployment) {
        self.deployment = deployment
        checkModel()
        checkOptions()
        for node in deployment.nodes { checkSizes(of: node) }
        if findings.isEmpty { checkRanks() }
        for node in deployment.nodes { checkAddress(of: node) }
        checkReach()
        checkPorts()
    }

    private mutating func find(_ place: String, _ what: String, _ remedy: String) {
        findings.append(PlanFinding(place: place, what: what, remedy: remedy))
    }

    private mutating func checkModel() {
        let model = deployment.model
        guard let path = model.path else {
            // Workers alone hear of it from the coordinator.
            if deployment.nodes.contains(where: \.runsCoordinator) {
                find("model", "none is given", "give the checkpoint's folder")
            }
            return
        }
        if let problem = model.problem {
            find("model \(path)", problem, "give the checkpoint's folder on this host")
        }
    }

    private mutating func checkOptions() {
        let workers = deployment.dataParallelSize * deployment.tensorParallelSize
        if workers > Self.workersMax {
            find(
                "data-parallel-size x tensor-parallel-size",
                "\(workers) workers are more than \(Self.workersMax)", "lower one of them")
        }
        if deployment.maxNumBatchedTokens < deployment.maxNumSeqs {
            find(
                "max-num-batched-tokens \(deployment.maxNumBatchedTokens)",
                "is less than max-num-seqs \(deployment.maxNumSeqs), and every running sequence "
                    + "needs a token a tick", "raise it, or lower max-num-seqs")
        }
    }

    /// Of a group, by the coordinator's own limit.
    static let workersMax = 512

    // MARK: Ranks

    private mutating func checkSizes(of node: Deployment.Node) {
        let (devices, size) = (node.devices.count, deployment.tensorParallelSize)
        let place = "\(node.place): node \"\(node.name)\""
        if devices == 0 && !node.runsCoordinator && !node.runsGateway {
            find(
                place, "it has no devices, no gateway and no coordinator: nothing runs there",
                "give it devices, or leave --headless out")
        } else if !devices.isMultiple(of: size) {
            find(
                place,
                "\(devices) devices are no multiple of tensor-parallel-size \(size), and "
                    + "the workers of a DP rank must be on one node",
                "give it \(devices / size * size) or \(devices / size * size + size)")
        } else if node.localSize * size != devices {
            find(
                place,
                "data-parallel-size-local \(node.localSize) x tensor-parallel-size \(size) "
                    + "needs \(node.localSize * size) devices, and it has \(devices)",
                "leave data-parallel-size-local out, or change devices")
        }
    }

    private mutating func checkRanks() {
        let size = deployment.dataParallelSize
        var owners: [Int: Deployment.Node] = [:]
        for node in deployment.nodes {
            for rank in node.startRank..<(node.startRank + node.localSize) {
                let place = "\(node.place): node \"\(node.name)\""
                if rank >= size && !deployment.isWhole {
                    return find(
                        place,
                        "its DP ranks \(node.startRank) to "
                            + "\(node.startRank + node.localSize - 1) do not fit into "
                            + "data-parallel-size \(size)",
                        "raise that, or lower data-parallel-size-local or "
                            + "data-parallel-start-rank")
                }
                if let other = owners[rank] {
                    return find(
                        place, "DP rank \(rank) is on node \"\(other.name)\" (\(other.place)) too",
                        "leave data-parallel-start-rank out, or give ranks that do not overlap")
                }
                owners[rank] = node
            }
        }
        guard deployment.isWhole else { return }
        let tensor = deployment.tensorParallelSize
        let devices = deployment.nodes.reduce(0) { $0 + $1.devices.count }
        if devices != size * tensor {
            return find(
                "nodes",
                "they have \(devices) devices, and data-parallel-size \(size) x "
                    + "tensor-parallel-size \(tensor) needs \(size * tensor)",
                devices.isMultiple(of: tensor) && devices > 0
                    ? "give data-parallel-size \(devices / tensor), or change devices"
                    : "change devices")
        }
        let missing = (0..<size).filter { owners[$0] == nil }
        if let first = missing.first {
            find(
                "nodes", "no node has DP rank \(first)",
                "leave data-parallel-start-rank out, or give ranks from 0 without a gap")
        }
    }

    // MARK: Addresses and ports

    private mutating func checkAddress(of node: Deployment.Node) {
        let place = "\(node.place): node \"\(node.name)\""
        guard let address = node.parsedAddress else {
            return find(
                place, "address \"\(node.address)\" is no IP address", "give a number, not a name")
        }
        if address.isUnspecified {
            return find(
                place, "address \(node.address) means every address, and others cannot reach it",
                "give the address of one interface")
        }
        // Only the node itself knows its interfaces.
        guard let interfaces = node.hostInterfaces else { return }
        let known = interfaces.map { "\($0.name) \($0.address.text)/\($0.prefixLength)" }
            .joined(separator: ", ")
        if let name = node.interface {
            let own = interfaces.filter { $0.name == name }
            if own.isEmpty {
                return find(
                    place, "this host has no interface \"\(name)\" with an address",
                    "there are \(known)")
            }
            if !own.contains(where: { address.sharesPrefix(of: $0.prefixLength, with: $0.address) })
            {
                return find(
                    place, "address \(node.address) is in no subnet of interface \"\(name)\"",
                    "there are \(known)")
            }
        }
        if !address.isLoopback && !interfaces.contains(where: { $0.address.bytes == address.bytes })
        {
            find(place, "this host does not have address \(node.address)", "there are \(known)")
        }
    }

    private mutating func checkReach() {
        let parsed = deployment.nodes.compactMap(\.parsedAddress)
        if parsed.contains(where: \.isLoopback) && !parsed.allSatisfy(\.isLoopback) {
            for node in deployment.nodes where node.parsedAddress?.isLoopback == true {
                find(
                    "\(node.place): node \"\(node.name)\"",
                    "other nodes cannot reach \(node.address)",
                    "give the address of a network interface")
            }
        }
        if deployment.isWhole && !deployment.nodes.contains(where: \.runsCoordinator) {
            find(
                "data-parallel-address \(deployment.coordinatorAddress)", "is no node's address",
                "leave it out: the coordinator then runs on the first node")
        }
        let isAlone = deployment.nodes.count == 1 && deployment.nodes.allSatisfy(\.runsCoordinator)
        if deployment.coordinatorPort == 0 && !isAlone {
            find(
                "data-parallel-rpc-port 0",
                "the coordinator would pick a port that other nodes cannot know",
                "give a port")
        }
    }

    /// Two listeners that cannot both have their port. Nodes of one address share a host.
    private mutating func checkPorts() {
        struct Listener {
            let what: String
            let node: Deployment.Node
            let host: String
            let port: Int
        }
        var listeners: [Listener] = []
        for node in deployment.nodes {
            var own: [Listener] = []
            if node.runsCoordinator {
                own.append(
                    Listener(
                        what: "data-parallel-rpc-port", node: node,
                        host: deployment.coordinatorAddress, port: deployment.coordinatorPort))
            }
            if node.runsGateway {
                own.append(
                    Listener(what: "port", node: node, host: node.httpHost, port: node.httpPort))
            }
            for listener in own where listener.port != 0 {
                let other = listeners.first {
                    $0.port == listener.port && $0.node.address == node.address
                        && ($0.host == listener.host || Self.isEverywhere($0.host)
                            || Self.isEverywhere(listener.host))
                }
                if let other {
                    find(
                        "\(node.place): node \"\(node.name)\"",
                        "\(listener.what) \(listener.port) is \(other.what) of node "
                            + "\"\(other.node.name)\" too", "give another \(listener.what)")
                }
                listeners.append(listener)
            }
        }
    }

    private static func isEverywhere(_ host: String) -> Bool { host == "0.0.0.0" || host == "::" }

    static func isLoopback(_ host: String) -> Bool {
        host == "localhost" || host == "::1" || host.hasPrefix("127.")
    }
}
