/// The commands of `phalanxctl`. A new one is a case here, and a file of its own with a type whose
/// `run` the switch below calls.
public enum ControlCommand: String, CaseIterable, Sendable {
    case keys
    case plan
    case serve
    case help

    /// What `--help` says of it: its arguments, and one line.
    var synopsis: (arguments: String, summary: String) {
        switch self {
        case .keys: KeysCommand.synopsis
        case .plan: PlanCommand.synopsis
        case .serve: ServeCommand.synopsis
        case .help: HelpCommand.synopsis
        }
    }

    /// The page of `phalanxctl help COMMAND`.
    var page: String {
        switch self {
        case .keys: KeysCommand.page
        case .plan: PlanCommand.page
        case .serve: ServeCommand.page
        case .help: HelpCommand.page
        }
    }

    func run(_ arguments: [String], _ output: ControlOutput) throws(ControlError) -> ControlExit {
        switch self {
        case .keys: try KeysCommand.run(arguments, output)
        case .plan: try PlanCommand.run(arguments, output)
        case .serve: try ServeCommand.run(arguments, output)
        case .help: try HelpCommand.run(arguments, output)
        }
    }
}
