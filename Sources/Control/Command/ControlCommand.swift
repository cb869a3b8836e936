/// The commands of `phalanxctl`. A new one is a case here, and a file of its own with a type whose
/// `run` the switch below calls.
public enum ControlCommand: String, CaseIterable, Sendable {
    case keys
    case plan
    case serve
    case status
    case top
    case drain
    case scale
    case doctor
    case help

    /// What `--help` says of it: its arguments, and one line.
    var synopsis: (arguments: String, summary: String) {
        switch self {
        case .keys: KeysCommand.synopsis
        case .plan: PlanCommand.synopsis
        case .serve: ServeCommand.synopsis
        case .status: StatusCommand.synopsis
        case .top: TopCommand.synopsis
        case .drain: DrainCommand.synopsis
        case .scale: ScaleCommand.synopsis
        case .doctor: DoctorCommand.synopsis
        case .help: HelpCommand.synopsis
        }
    }

    /// The page of `phalanxctl help COMMAND`.
    var page: String {
        switch self {
        case .keys: KeysCommand.page
        case .plan: PlanCommand.page
        case .serve: ServeCommand.page
        case .status: StatusCommand.page
        case .top: TopCommand.page
        case .drain: DrainCommand.page
        case .scale: ScaleCommand.page
        case .doctor: DoctorCommand.page
        case .help: HelpCommand.page
        }
    }

    func run(_ arguments: [String], _ output: ControlOutput) throws(ControlError) -> ControlExit {
        switch self {
        case .keys: try KeysCommand.run(arguments, output)
        case .plan: try PlanCommand.run(arguments, output)
        case .serve: try ServeCommand.run(arguments, output)
        case .status: try StatusCommand.run(arguments, output)
        case .top: try TopCommand.run(arguments, output)
        case .drain: try DrainCommand.run(arguments, output)
        case .scale: try ScaleCommand.run(arguments, output)
        case .doctor: try DoctorCommand.run(arguments, output)
        case .help: try HelpCommand.run(arguments, output)
        }
    }
}
