internal import DaemonRuntime
internal import Protocol

/// `phalanxctl serve`: one line of `vllm serve`, on this node and in the foreground.
enum ServeCommand {
    static let synopsis = (
        arguments: "[MODEL] [--config FILE] [--node NAME] [OPTION ...]",
        summary: "runs this node's processes in the foreground, as `vllm serve` does"
    )
    static let page = """
        usage: phalanxctl serve [MODEL] [--config FILE] [OPTION ...]

        Takes the options of `vllm serve` and starts coordinator, workers and gateway of this node;
        with --headless only workers. `phalanxctl plan` with the same options shows what that is.
        Ctrl-C or SIGTERM stops all in order, a second one kills. A worker that is killed is
        started again; when anything else ends, all end with its exit code.

          --config FILE   options as YAML; with a list nodes: those of this node
          --node NAME     which of the file's nodes this is; default: the one called as the host
          --bin FOLDER    of the daemons; default: the folder of phalanxctl

        """

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let serve = try ServeArguments(arguments, own: ["node": true, "bin": true])
        let folder = try DaemonFolder.find(serve.own["bin"])
        let host = HostFacts.current()
        let reader = DeploymentReader(
            options: serve.options, host: host, binaries: folder, localName: serve.own["node"])
        switch Planner.plan(try reader.read()) {
        case .refused(let findings):
            for finding in findings { output.complain(finding.description) }
            return .usage
        case .plan(let plan):
            let local = try reader.localNodeName()
            let isWhole = !serve.options.nodes.isEmpty
            guard let node = plan.nodes.first(where: { !isWhole || $0.name == local }) else {
                let known = plan.nodes.map(\.name).joined(separator: ", ")
                throw .usage(
                    "this host is called \"\(host.name)\", and the file has no such node; give "
                        + "--node, one of \(known)")
            }
            for note in serve.notes + plan.notes { output.write("note       \(note)\n") }
            let timeout = Interval.seconds(serve.options.requiredInteger("shutdown-timeout"))
            let level = serve.options.requiredText("log-level")
            let launcher = try Launcher(
                node, shutdownTimeout: timeout,
                hidesPartings: level != "info" && level != "debug", output)
            return launcher.run()
        }
    }
}
