/// Makes the processes of every node out of a deployment's description, or says all that is wrong
/// with it. It reads no file and no clock: the same description gives the same plan anywhere.
///
/// worker = DP rank x TP + TP rank; the workers of a DP rank are on one node.
enum Planner {
    enum Outcome: Sendable {
        case plan(DeploymentPlan)
        case refused([PlanFinding])
    }

    static func plan(_ deployment: Deployment) -> Outcome {
        let findings = PlanChecks(deployment).findings
        guard findings.isEmpty else { return .refused(findings) }
        let nodes = deployment.nodes.map { node in
            DeploymentPlan.Node(
                name: node.name, address: node.address,
                processes: processes(of: node, deployment),
                environment: AscendEnvironment.variables(of: node, deployment))
        }
        return .plan(DeploymentPlan(nodes: nodes, notes: notes(deployment)))
    }

    /// In the order in which they are started.
    private static func processes(
        of node: Deployment.Node, _ deployment: Deployment
    ) -> [DeploymentPlan.Process] {
        var processes: [DeploymentPlan.Process] = []
        if node.runsCoordinator {
            processes.append(
                DeploymentPlan.Process(
                    name: "coordinator", role: .coordinator, ranks: nil,
                    endpoint: endpoint(
                        "tcp", deployment.coordinatorAddress, deployment.coordinatorPort),
                    command: node.commands[.coordinator] ?? []))
        }
        for (place, device) in node.devices.enumerated() {
            let worker = node.startRank * deployment.tensorParallelSize + place
            let ranks = DeploymentPlan.Ranks(
                worker: worker, dataParallel: worker / deployment.tensorParallelSize,
                tensorParallel: worker % deployment.tensorParallelSize, device: device)
            processes.append(
                DeploymentPlan.Process(
                    name: "worker-\(worker)", role: .worker, ranks: ranks,
                    endpoint: endpoint("tcp", node.address, 0),
                    command: (node.commands[.worker] ?? []) + ["--device-index=\(device)"]))
        }
        if node.runsGateway {
            processes.append(
                DeploymentPlan.Process(
                    name: "gateway", role: .gateway, ranks: nil,
                    endpoint: endpoint("http", node.httpHost, node.httpPort),
                    command: node.commands[.gateway] ?? []))
        }
        return processes
    }

    private static func endpoint(_ scheme: String, _ address: String, _ port: Int) -> String {
        let host = address.contains(":") ? "[\(address)]" : address
        return "\(scheme)://\(host):\(port == 0 ? "(picked at start)" : "\(port)")"
    }

    private static func notes(_ deployment: Deployment) -> [String] {
        var notes: [String] = []
        let here = deployment.nodes.reduce(0) { $0 + $1.localSize }
        if !deployment.isWhole && here < deployment.dataParallelSize {
            notes.append(
                "\(here) of \(deployment.dataParallelSize) DP ranks are on this node; the others "
                    + "are the command lines of other nodes, or one file with nodes:")
        }
        let gateways = deployment.nodes.filter(\.runsGateway)
        if deployment.isWhole && gateways.isEmpty {
            notes.append("no node runs a gateway: give one `headless: false`")
        }
        for node in gateways
        where deployment.nodes.count > 1 && PlanChecks.isLoopback(node.httpHost)
            && node.parsedAddress?.isLoopback == false
        {
            notes.append(
                "node \"\(node.name)\" serves HTTP on \(node.httpHost) alone; for clients "
                    + "elsewhere give `host: \(node.address)`")
        }
        return notes
    }
}
