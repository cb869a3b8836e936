internal import DaemonRuntime

/// `phalanxctl`: the operator's side of a deployment. It chooses the command, and turns what the
/// command says into an exit code; it changes nothing by itself.
public enum ControlProgram {
    /// - Parameter arguments: without the program's name.
    public static func run(_ arguments: [String], _ output: ControlOutput) -> ControlExit {
        do throws(ControlError) {
            return try dispatch(arguments, output)
        } catch {
            output.complain(error.description)
            return error.exit
        }
    }

    private static func dispatch(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        guard let first = arguments.first else {
            throw .usage("which command?\n\(usage)")
        }
        if first == "--version" {
            output.write("phalanxctl \(DaemonProcess.version)\n")
            return .success
        }
        if first == "--help" || first == "-h" {
            output.write(usage)
            return .success
        }
        let command = try command(named: first)
        let rest = Array(arguments.dropFirst())
        // After `--` stands somebody else's command line.
        if rest.prefix(while: { $0 != "--" }).contains(where: { $0 == "--help" || $0 == "-h" }) {
            output.write(command.page)
            return .success
        }
        return try command.run(rest, output)
    }

    static func command(named name: String) throws(ControlError) -> ControlCommand {
        if let command = ControlCommand(rawValue: name) { return command }
        let known = ControlCommand.allCases.map(\.rawValue)
        let hint =
            OptionTable.nearest(to: name, among: known).map { "did you mean \"\($0)\"?" }
            ?? "there are \(known.joined(separator: ", "))"
        throw .usage("unknown command \"\(name)\"; \(hint)")
    }

    static var usage: String {
        var page = """
            usage: phalanxctl COMMAND [ARGUMENT ...]
                   phalanxctl COMMAND --help
                   phalanxctl --version


            """
        for command in ControlCommand.allCases {
            let synopsis = command.synopsis
            let arguments = synopsis.arguments.isEmpty ? "" : " \(synopsis.arguments)"
            page += "  \(command.rawValue)\(arguments)\n        \(synopsis.summary)\n"
        }
        return page + """

            Exit codes: 0; 1 for a failure or a finding; 64 for a refused command line or file.

            """
    }
}
