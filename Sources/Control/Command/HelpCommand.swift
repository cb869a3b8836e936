/// `phalanxctl help [COMMAND]`.
enum HelpCommand {
    static let synopsis = (
        arguments: "[COMMAND|--json]", summary: "what a command does, and its options"
    )
    static let page = """
        usage: phalanxctl help [COMMAND|--json]

        Prints the page of COMMAND, or the list of commands; with --json every command and every
        option of the daemons for programs, of which the manual pages are made.

        """

    static func run(
        _ arguments: [String], _ output: ControlOutput
    ) throws(ControlError) -> ControlExit {
        guard arguments.count <= 1 else {
            throw .usage("help: one command at a time, not \(arguments.count)")
        }
        guard let name = arguments.first else {
            output.write(ControlProgram.usage)
            return .success
        }
        if name == "--json" {
            output.write(HelpJSON.text)
            return .success
        }
        output.write(try ControlProgram.command(named: name).page)
        return .success
    }
}
