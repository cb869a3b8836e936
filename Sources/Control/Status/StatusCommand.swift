internal import Protocol

/// `phalanxctl status`.
enum StatusCommand {
    static let synopsis = (
        arguments: "[--json]",
        summary: "does the deployment serve, who is in it, and what is missing"
    )
    static let page = """
        usage: phalanxctl status [--json] [--option value ...]

        Asks the coordinator and prints the deployment, its view, every worker and gateway.
        IMBALANCE and WAITED are since the worker's start: rows of the busiest ranks as a multiple
        of the mean, and time spent waiting for other ranks at the beginning of ticks.

          --json                            one line of JSON instead of the screen
          --timeout SECONDS                 for the answer (default: 5)
        \(ControlArguments.page)
        Exit codes: 0 it serves; 1 it does not, or nobody answers; 64 for a refused command line.

        """

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        let arguments = try ControlArguments(arguments, command: "status", flags: ["json"])
        let link = try OperatorLink(
            endpoint: arguments.endpoint, security: arguments.security())
        defer { link.close() }
        let report = try link.status(within: arguments.timeout)
        output.write(
            arguments.has("json")
                ? StatusJSON.text(report, endpoint: arguments.endpoint)
                : StatusScreen.text(report, endpoint: arguments.endpoint))
        return DeploymentHealth(report).serves ? .success : .finding
    }
}
