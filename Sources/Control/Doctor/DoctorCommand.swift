internal import DaemonRuntime

/// `phalanxctl doctor`: runs every check of the table on this host.
enum DoctorCommand {
    static let synopsis = (
        arguments: "[--json] [--strict] [--preflight ROLE]",
        summary: "look at this host and the way to the others, and say what to mend"
    )
    static let page = """
        usage: phalanxctl doctor [--json] [--strict] [--option value ...]
               phalanxctl doctor --preflight ROLE [--preflight-refuse WHAT] [--option value ...]

        Looks at this host as a worker of the deployment would find it: coordinator, ports,
        addresses, the ways to all workers, checkpoint, memory, kernel, libraries, processor. It
        changes nothing. Give it the options of this host's worker, or its --config; options of the
        whole deployment come from the coordinator, where one answers. Run it on each host.

          --json                            one line of JSON instead of lines
          --strict                          exit code 1 for warnings too
          --timeout SECONDS                 for each connection and answer (default: 2)
        \(PreflightCommand.page)\(ControlArguments.page)
        Exit codes: 0 nothing is wrong; 1 errors (with --strict also warnings); 64 for a refused
        command line.

        """
    static let timeoutSecondsDefault = 2

    /// Every check there is, in the order in which they are told.
    static let checks = NetworkChecks.all + ModelChecks.all + HostChecks.all

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        if PreflightCommand.isAsked(arguments) {
            return try PreflightCommand.run(arguments, output)
        }
        let arguments = try ControlArguments(
            arguments, command: "doctor", flags: ["json", "strict"], shared: nil,
            timeoutSeconds: timeoutSecondsDefault)
        let context = try DoctorContext(arguments)
        let report = DoctorReport(
            entries: checks.flatMap { check in
                check.run(context).map { .init(check: check.name, finding: $0) }
            })
        output.write(arguments.has("json") ? report.json : report.text(matrix: context.matrix))
        return report.exit(isStrict: arguments.has("strict"))
    }
}
