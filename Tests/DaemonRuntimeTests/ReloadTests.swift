import Foundation
import Protocol
import Testing

@testable import DaemonRuntime

/// What a running process takes over from its configuration file, and what not.
@Suite final class ReloadTests {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(
        "phalanx-reload-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).yaml"
    ).path

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ lines: String...) throws {
        try lines.joined(separator: "\n").write(toFile: path, atomically: true, encoding: .utf8)
    }

    @Test func onlySomeOptionsAreTakenOver() {
        #expect(
            OptionTable.all.filter(\.isReloadable).map(\.name) == [
                "max-num-queued-reqs", "max-logprobs", "log-level", "api-key", "ssl-certfile",
                "ssl-keyfile", "enable-prompt-tokens-details", "shutdown-timeout", "lease",
                "ready-timeout",
            ])
    }

    @Test func otherValuesAreTakenOrNeedARestart() throws {
        try write("model: a", "port: 9000", "shutdown-timeout: 5")
        let options = try Options(daemon: .gateway, arguments: ["--config", path])
        try write("model: b", "port: 9001", "shutdown-timeout: 6", "log-level: debug")
        let (new, changes) = try options.reread()
        #expect(
            changes == [
                OptionChange(name: "model", before: "a", after: "b", effect: .needsRestart),
                OptionChange(name: "log-level", before: "info", after: "debug", effect: .taken),
                OptionChange(name: "port", before: "9000", after: "9001", effect: .needsRestart),
                OptionChange(name: "shutdown-timeout", before: "5", after: "6", effect: .taken),
            ])
        #expect(new.text("model") == "a" && new.integer("port") == 9000)
        #expect(new.integer("shutdown-timeout") == 6 && new.text("log-level") == "debug")
        // What was not taken is said again, and what is taken back is the default again.
        try write("model: b", "port: 9000")
        #expect(try new.reread().changes.map(\.name) == ["model", "log-level", "shutdown-timeout"])
        #expect(try new.reread().options.integer("shutdown-timeout") == 30)
    }

    @Test func limitsOfTheDeploymentAreTheCoordinators() throws {
        try write("model: a", "max-logprobs: 5", "lease: 400")
        let arguments = ["--config", path]
        let coordinator = try Options(daemon: .coordinator, arguments: arguments)
        let gateway = try Options(daemon: .gateway, arguments: arguments)
        try write("model: a", "max-logprobs: 6", "lease: 500")
        func effects(_ options: Options) throws -> [String: OptionChange.Effect] {
            try options.reread().changes.reduce(into: [:]) { $0[$1.name] = $1.effect }
        }
        #expect(try effects(coordinator) == ["max-logprobs": .taken, "lease": .taken])
        #expect(try effects(gateway) == ["max-logprobs": .ofCoordinator])
        // A peer that has another value than the coordinator by now is let in.
        #expect(gateway.declared.map(\.key) == ["model"])
    }

    @Test func theCommandLineStillGoesBeforeTheFile() throws {
        try write("log-level: info")
        let arguments = ["--config", path, "--log-level", "error"]
        let options = try Options(daemon: .worker, arguments: arguments)
        try write("log-level: debug")
        #expect(try options.reread().changes.isEmpty)
        #expect(try options.reread().options.text("log-level") == "error")
    }

    @Test func clientsKeysAreNotShown() throws {
        try write("api-key: [one]")
        let options = try Options(daemon: .gateway, arguments: ["--config", path])
        try write("api-key: [two, three]")
        let (new, changes) = try options.reread()
        #expect(new.list("api-key") == ["two", "three"])
        #expect(
            changes == [
                OptionChange(
                    name: "api-key", before: "1 hidden", after: "2 hidden", effect: .taken)
            ])
    }

    @Test(arguments: ["log-level: loud", "log-level: [", "colour: red"])
    func aBrokenFileSaysWhere(line: String) throws {
        try write("log-level: info")
        let options = try Options(daemon: .gateway, arguments: ["--config", path])
        try write("shutdown-timeout: 6", line)
        do {
            _ = try options.reread()
            Issue.record("it was taken")
        } catch {
            #expect("\(error)".contains("\(path) line "))
        }
    }

    /// A reload, with a logger whose lines are read.
    func reload(
        _ options: Options,
        _ prepare: (Options, [OptionChange]) throws -> () -> Void = { _, _ in {} }
    ) throws -> (result: Reload?, lines: [String]) {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let logger = Logger(daemon: "test", threshold: .info, descriptor: ends[1])
        let links = LinkOptions(
            role: .gateway, peers: [.coordinator], addresses: ["data-parallel-address"],
            listens: false)
        let result = Reload.run(
            options, try links.security(options), links: links, logger: logger,
            notifier: ServiceNotifier(), prepare: prepare)
        close(ends[1])
        let text = FileHandle(fileDescriptor: ends[0], closeOnDealloc: true).readDataToEndOfFile()
        let lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
        return (result, lines.map(String.init))
    }

    @Test func aReloadLogsWhatItTakesAndWhatItLeaves() throws {
        try write("port: 1")
        let options = try Options(daemon: .gateway, arguments: ["--config", path])
        try write("port: 2", "shutdown-timeout: 6")
        var applied = 0
        let (result, lines) = try reload(options) { _, changes in
            #expect(changes.count == 2)
            return { applied += 1 }
        }
        #expect(result?.options.integer("shutdown-timeout") == 6 && applied == 1)
        #expect(
            lines == [
                "warning test: --port: 1 becomes 2 needs a restart; until then it stays as it was",
                "notice test: reloaded --shutdown-timeout: 30 becomes 6",
            ])
        let again = try reload(try options.reread().options) { _, _ in {} }
        #expect(again.lines.count == 1)
    }

    @Test func nothingIsTakenWhenAnythingIsWrong() throws {
        try write("log-level: info")
        let options = try Options(daemon: .gateway, arguments: ["--config", path])
        try write("log-level: error", "shutdown-timeout: 6")
        let (result, lines) = try reload(options) { _, _ in
            throw OptionError(description: "the certificate is none")
        }
        #expect(result == nil)
        #expect(lines.count == 1 && lines[0].contains("stays as it was: the certificate is none"))
    }

    /// Where the folder of the start cannot change under the process, as credentials of systemd.
    @Test func aReloadTakesKeysFromAnotherFolderOnceItHasSome() throws {
        let (first, later) = (path + ".first", path + ".later")
        defer {
            for folder in [first, later] { try? FileManager.default.removeItem(atPath: folder) }
        }
        try KeyFolder(first).create()
        try FileManager.default.createDirectory(
            atPath: later, withIntermediateDirectories: false)
        let options = try Options(
            daemon: .gateway, arguments: ["--keys", first, "--keys-at-reload", later])
        func ring(_ folder: String) throws -> LinkSecurity {
            .keys(try KeyRing(folder: folder, role: .gateway, peers: [.coordinator]))
        }
        let before = try reload(options)
        #expect(before.lines == ["notice test: reloaded: nothing has changed"])
        #expect(before.result?.security == (try ring(first)))
        try KeyFolder(later).create()
        let after = try reload(options)
        let line = "notice test: reloaded --keys: gateway.secret is another one"
        #expect(after.lines.contains(line))
        #expect(after.result?.security == (try ring(later)))
        // Half of a set is none, and the keys that count stay.
        try FileManager.default.removeItem(atPath: later + "/coordinator.public")
        let broken = try reload(options)
        #expect(broken.result == nil)
        #expect(broken.lines.count == 1)
        #expect(broken.lines[0].contains("coordinator.public is missing"))
    }

    @Test func aReloadWithoutChangesSaysSo() throws {
        try write("log-level: info")
        let options = try Options(daemon: .gateway, arguments: ["--config", path])
        let (_, lines) = try reload(options) { _, _ in {} }
        #expect(lines == ["notice test: reloaded: nothing has changed"])
    }
}
