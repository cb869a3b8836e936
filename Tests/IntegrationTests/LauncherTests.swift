import Foundation
import Testing

/// `scripts/serve.py` as a user runs it: what it prints, and that it leaves nothing behind.
@Suite(.serialized) struct LauncherTests {
    @Test func itShowsARealAnswerAndStopsEverythingOnCtrlC() throws {
        let launcher = try RunningLauncher()
        defer { launcher.end() }
        #expect(launcher.line(containing: "ready ", within: 120) != nil)
        #expect(launcher.line(containing: "/v1/completions", within: 60) != nil)
        let answer = try #require(launcher.line(containing: "\"text_completion\"", within: 60))
        let json =
            try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any] ?? [:]
        let choice = try #require((json["choices"] as? [[String: Any]])?.first)
        #expect((choice["text"] as? String)?.hasPrefix(" of the house") == true)
        #expect((json["usage"] as? [String: Any])?["completion_tokens"] as? Int == 16)
        let children = launcher.children
        #expect(children.count == 4)
        launcher.send(SIGINT)
        #expect(launcher.exitCode() == 0)
        #expect(launcher.output.hasSuffix("stopped"))
        #expect(!launcher.output.contains("warning"), "\(launcher.output)")
        #expect(RunningLauncher.waitForEnd(of: children) == [])
    }

    @Test func noDaemonOutlivesAKilledLauncher() throws {
        let launcher = try RunningLauncher()
        defer { launcher.end() }
        #expect(launcher.line(containing: "\"text_completion\"", within: 120) != nil)
        let children = launcher.children
        #expect(children.count == 4)
        launcher.send(SIGKILL)
        #expect(launcher.exitCode() == -SIGKILL)
        #expect(RunningLauncher.waitForEnd(of: children) == [])
    }

    @Test(arguments: [
        (["MODEL": "/nonexistent"], "MODEL=/nonexistent: there is no such folder", 1),
        (["MODEL": "Sources"], "MODEL=Sources: there is no config.json in this folder", 1),
        (["BIN": "Sources"], "BIN=Sources: there is no phalanx-coordinator", 1),
        (["ARGS": "--seed '3"], "ARGS=--seed '3: No closing quotation", 1),
        (["TP": "65"], "65 is not in 1...64", 64),
        (["PORT": "99999"], "99999 is not in 0...65535", 64),
    ])
    func itSaysOnceWhatIsWrong(
        settings: [String: String], message: String, exitCode: Int32
    ) throws {
        let launcher = try RunningLauncher(settings)
        defer { launcher.end() }
        #expect(launcher.exitCode() == exitCode)
        #expect(launcher.output.components(separatedBy: message).count == 2, "\(launcher.output)")
        #expect(!launcher.output.contains("Traceback"), "\(launcher.output)")
    }

    @Test func theModelMayBeRelativeToTheWorkingFolderAndHaveSpaces() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "a model \(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createSymbolicLink(
            at: folder.appendingPathComponent("my model"),
            withDestinationURL: URL(fileURLWithPath: RunningCell.model("demo-w8a8")))
        let launcher = try RunningLauncher(["MODEL": "my model", "DP": "1"], folder: folder)
        defer { launcher.end() }
        #expect(launcher.line(containing: "\"text_completion\"", within: 120) != nil)
        launcher.send(SIGTERM)
        #expect(launcher.exitCode() == 0)
    }
}
