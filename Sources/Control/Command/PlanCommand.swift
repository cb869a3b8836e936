internal import DaemonRuntime

/// `phalanxctl plan`: what every node runs, before anything starts.
enum PlanCommand {
    static let synopsis = (
        arguments: "[MODEL] [--config FILE] [--node NAME] [--json] [--diff] [OPTION ...]",
        summary: "which processes each node runs, with which ranks, ports and command lines"
    )
    static let page = """
        usage: phalanxctl plan [MODEL] [--config FILE] [OPTION ...]

        Takes the options of `vllm serve`, or a file with the nodes of a deployment, checks
        them, and prints every node's processes. Nothing is started.

          --config FILE   options as YAML; with a list nodes: all nodes of the deployment
          --node NAME     this node alone; with --diff, which node this host is
          --json          as JSON
          --diff          compare with the daemons that run on this host
          --bin FOLDER    of the daemons; default: the folder of phalanxctl

        Exit codes: 0; 1 where --diff finds something; 64 for a plan that is refused.

        """

    static let ownOptions = ["node": true, "json": false, "diff": false, "bin": true]

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let serve = try ServeArguments(arguments, own: ownOptions)
        let host = HostFacts.current()
        let reader = DeploymentReader(
            options: serve.options, host: host, binaries: serve.own["bin"],
            localName: serve.own["node"])
        let deployment = try reader.read()
        switch Planner.plan(deployment) {
        case .refused(let findings):
            if serve.own["json"] != nil { output.write(PlanText.json(findings)) }
            for finding in findings { output.complain(finding.description) }
            return .usage
        case .plan(let plan):
            let shown = try select(plan, serve, deployment)
            if serve.own["diff"] != nil {
                return try compare(shown, reader, host, output)
            }
            let notes = serve.notes + plan.notes
            output.write(
                serve.own["json"] != nil
                    ? PlanText.json(deployment, shown, notes: notes)
                    : PlanText.text(deployment, shown, notes: notes))
            return .success
        }
    }

    private static func select(
        _ plan: DeploymentPlan, _ serve: ServeArguments, _ deployment: Deployment
    ) throws(ControlError) -> [DeploymentPlan.Node] {
        guard deployment.isWhole, let name = serve.own["node"] else { return plan.nodes }
        return plan.nodes.filter { $0.name == name }
    }

    private static func compare(
        _ nodes: [DeploymentPlan.Node], _ reader: DeploymentReader, _ host: HostFacts,
        _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let local = try reader.localNodeName()
        guard let node = nodes.first(where: { local == nil || $0.name == local }) else {
            throw .usage("--diff: this host is called \"\(host.name)\": give --node")
        }
        var planned: [PlanDifference.Daemon] = []
        for process in node.processes {
            guard let kind = DaemonKind(rawValue: process.role.rawValue) else { continue }
            do throws(OptionError) {
                let options = try Options(
                    daemon: kind, arguments: Array(process.command.dropFirst()), host: host.name)
                planned.append(
                    PlanDifference.Daemon(
                        name: process.name, role: process.role, options: options.all))
            } catch {
                throw .usage("\(process.name): \(error.description)")
            }
        }
        let difference = PlanDifference(
            planned: planned, running: RunningDaemons.find(host: host.name))
        for line in difference.lines + difference.others { output.write(line + "\n") }
        if !difference.lines.isEmpty { return .finding }
        output.write("node \(node.name) runs as planned: \(node.processes.count) processes\n")
        return .success
    }
}
