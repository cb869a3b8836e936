import DaemonRuntime
import Foundation
import Testing

@testable import Control

/// What a command wrote, and how it ended.
struct ControlRun {
    let exit: ControlExit
    let output: String
    let complaints: String

    init(_ arguments: [String]) {
        var (written, complaints) = ("", "")
        exit = ControlProgram.run(
            arguments,
            ControlOutput(
                isTerminal: false, write: { written += $0 }, complain: { complaints += $0 + "\n" }))
        output = written
        self.complaints = complaints
    }
}

@Suite struct ControlProgramTests {
    @Test func theUsageNamesEveryCommand() {
        for arguments in [["--help"], ["-h"], ["help"]] {
            let run = ControlRun(arguments)
            #expect(run.exit == .success)
            for command in ControlCommand.allCases {
                #expect(run.output.contains("\n  \(command.rawValue) "), "\(run.output)")
            }
        }
    }

    @Test(arguments: ControlCommand.allCases)
    func everyCommandHasAPageThatBeginsWithItsUsage(command: ControlCommand) {
        for arguments in [[command.rawValue, "--help"], ["help", command.rawValue]] {
            let run = ControlRun(arguments)
            #expect(run.exit == .success)
            #expect(run.output.hasPrefix("usage: phalanxctl \(command.rawValue)"))
        }
    }

    /// Manual pages and completions are made of it.
    @Test func programsGetEveryOptionAndEveryCommand() throws {
        let run = ControlRun(["help", "--json"])
        #expect(run.exit == .success)
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(run.output.utf8)) as? [String: Any])
        let options = try #require(object["options"] as? [[String: Any]])
        #expect(options.compactMap { $0["name"] as? String } == OptionTable.all.map(\.name))
        let commands = try #require(object["commands"] as? [[String: Any]])
        #expect(
            commands.compactMap { $0["page"] as? String } == ControlCommand.allCases.map(\.page))
        let level = try #require(options.first { $0["name"] as? String == "kernel-level" })
        let values = try #require(level["values"] as? [String: Any])
        #expect((values["choices"] as? [String])?.contains("avx2") == true)
        #expect(level["daemons"] as? [String] == ["phalanx-engine-worker"])
    }

    @Test func theVersionIsTheDaemons() {
        #expect(ControlRun(["--version"]).output == "phalanxctl \(DaemonProcess.version)\n")
    }

    static let refusals: [(arguments: [String], part: String)] = [
        ([], "which command?"),
        (["hepl"], "did you mean \"help\"?"),
        (["zzzzzzzzzz"], "there are "),
        (["help", "a", "b"], "one command at a time"),
        (["help", "hlp"], "did you mean \"help\"?"),
    ]

    @Test(arguments: refusals)
    func aRefusedCommandLineEndsWith64(arguments: [String], part: String) {
        let run = ControlRun(arguments)
        #expect(run.exit.rawValue == 64)
        #expect(run.complaints.contains(part), "\(run.complaints)")
        #expect(run.output.isEmpty)
    }
}
