internal import DaemonRuntime

/// `phalanxctl help --json`: every option of the daemons and every command, for the programs that
/// make manual pages and completions of them, so that nothing is written twice.
enum HelpJSON {
    static var text: String {
        JSONText.members([
            "version": .string(DaemonProcess.version),
            "daemons": .array(DaemonKind.allCases.map { .string($0.rawValue) }),
            "options": .array(OptionTable.all.map(option)),
            "commands": .array(ControlCommand.allCases.map(command)),
        ]).text + "\n"
    }

    private static func option(_ option: OptionSpecification) -> JSONText {
        .members([
            "name": .string(option.name),
            "values": values(option.kind),
            "scope": scope(option.scope),
            "daemons": .array(
                DaemonKind.allCases.filter(option.belongs).map { .string($0.rawValue) }),
            "default": .optional(option.defaultValue),
            "help": .string(option.help),
            "refused": .object(
                option.refused.sorted { $0.key < $1.key }.map {
                    .init(key: $0.key, value: .string($0.value))
                }),
        ])
    }

    private static func values(_ kind: OptionSpecification.Kind) -> JSONText {
        switch kind {
        case .integer(let range):
            .members([
                "kind": .string("integer"), "min": .integer(Int64(range.lowerBound)),
                "max": .integer(Int64(range.upperBound)),
            ])
        case .number(let range):
            .members([
                "kind": .string("number"), "min": .number(range.lowerBound),
                "max": .number(range.upperBound),
            ])
        case .text: .members(["kind": .string("text")])
        case .choice(let choices):
            .members([
                "kind": .string("choice"), "choices": .array(choices.map { .string($0) }),
            ])
        case .flag: .members(["kind": .string("flag")])
        case .list: .members(["kind": .string("list")])
        }
    }

    private static func scope(_ scope: OptionSpecification.Scope) -> JSONText {
        switch scope {
        case .deployment: .string("deployment")
        case .node: .string("process")
        case .launcher: .string("launcher")
        }
    }

    private static func command(_ command: ControlCommand) -> JSONText {
        .members([
            "name": .string(command.rawValue),
            "arguments": .string(command.synopsis.arguments),
            "summary": .string(command.synopsis.summary),
            "page": .string(command.page),
        ])
    }
}
