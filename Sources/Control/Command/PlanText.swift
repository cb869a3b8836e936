/// A plan as a person reads it, and as JSON. Keys of clients are left out of command lines.
enum PlanText {
    static func text(
        _ deployment: Deployment, _ nodes: [DeploymentPlan.Node], notes: [String]
    ) -> String {
        let (data, tensor) = (deployment.dataParallelSize, deployment.tensorParallelSize)
        let workers = data * tensor == 1 ? "1 worker" : "\(data * tensor) workers"
        var text = "DP \(data) x TP \(tensor) = \(workers), coordinator "
        text += "at \(deployment.coordinatorAddress) port \(deployment.coordinatorPort)\n"
        for node in nodes {
            text += "\nnode \(node.name) (\(node.address))\n"
            text += row("process", "worker", "DP", "TP", "device", "address")
            for process in node.processes {
                let ranks = process.ranks
                text += row(
                    process.name, cell(ranks?.worker), cell(ranks?.dataParallel),
                    cell(ranks?.tensorParallel), cell(ranks?.device), process.endpoint)
            }
            text += "  command lines\n"
            for process in node.processes {
                text += "    " + command(process).map(quoted).joined(separator: " ") + "\n"
            }
            text +=
                "  environment of an Ascend node: derived, none of it has to be set, and the CPU "
            text += "reads none\n"
            for variable in node.environment {
                let value = variable.value.map { "\(variable.name)=\($0)" } ?? variable.name
                text += "    \(padded(value, 30))  \(variable.origin)\n"
            }
        }
        for note in notes { text += "\nnote: \(note)" }
        return text + (notes.isEmpty ? "" : "\n")
    }

    static func json(
        _ deployment: Deployment, _ nodes: [DeploymentPlan.Node], notes: [String]
    ) -> String {
        JSONText.record([
            ("data_parallel_size", .integer(Int64(deployment.dataParallelSize))),
            ("tensor_parallel_size", .integer(Int64(deployment.tensorParallelSize))),
            ("coordinator_address", .string(deployment.coordinatorAddress)),
            ("coordinator_port", .integer(Int64(deployment.coordinatorPort))),
            ("nodes", .array(nodes.map(node))),
            ("notes", .array(notes.map { .string($0) })),
        ]).text + "\n"
    }

    static func json(_ findings: [PlanFinding]) -> String {
        JSONText.record([
            (
                "findings",
                .array(
                    findings.map {
                        .record([
                            ("place", .string($0.place)), ("what", .string($0.what)),
                            ("remedy", .string($0.remedy)),
                        ])
                    })
            )
        ]).text + "\n"
    }

    private static func node(_ node: DeploymentPlan.Node) -> JSONText {
        .record([
            ("name", .string(node.name)), ("address", .string(node.address)),
            ("processes", .array(node.processes.map(process))),
            (
                "environment",
                .array(
                    node.environment.map {
                        .record([
                            ("name", .string($0.name)),
                            ("value", $0.value.map { .string($0) } ?? .null),
                            ("origin", .string($0.origin)),
                        ])
                    })
            ),
        ])
    }

    private static func process(_ process: DeploymentPlan.Process) -> JSONText {
        var members: [(String, JSONText)] = [
            ("name", .string(process.name)), ("program", .string(process.role.rawValue)),
        ]
        if let ranks = process.ranks {
            members += [
                ("worker", .integer(Int64(ranks.worker))),
                ("dp_rank", .integer(Int64(ranks.dataParallel))),
                ("tp_rank", .integer(Int64(ranks.tensorParallel))),
                ("device", .integer(Int64(ranks.device))),
            ]
        }
        members += [
            ("endpoint", .string(process.endpoint)),
            ("command", .array(command(process).map { .string($0) })),
        ]
        return .record(members)
    }

    // MARK: Text

    private static func command(_ process: DeploymentPlan.Process) -> [String] {
        process.command.map { $0.hasPrefix("--api-key=") ? "--api-key=(hidden)" : $0 }
    }

    /// As a shell takes it for one word.
    private static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.utf8.allSatisfy {
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0
                    || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0
                    || UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || "-_./:=,@%+".utf8.contains($0)
            }
        return isPlain ? word : "'" + word.replacing("'", with: #"'\''"#) + "'"
    }

    private static func row(
        _ name: String, _ worker: String, _ data: String, _ tensor: String, _ device: String,
        _ address: String
    ) -> String {
        "  \(padded(name, 12))  \(padded(worker, 6))  \(padded(data, 3))  \(padded(tensor, 3))"
            + "  \(padded(device, 6))  \(address)\n"
    }

    private static func cell(_ number: Int?) -> String { number.map(String.init) ?? "" }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
}
