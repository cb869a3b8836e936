import Foundation
import Testing

@testable import Control

/// What a command that talks to a deployment makes of its command line.
@Suite struct ControlArgumentsTests {
    @Test func withoutOptionsItReadsTheInstalledFile() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "phalanx.yaml")
        try "data-parallel-rpc-port: 4711\n".write(to: file, atomically: true, encoding: .utf8)
        func endpoint(_ arguments: [String], _ installed: String?) throws -> String {
            try ControlArguments(
                arguments, command: "status", flags: ["json"], installed: installed
            ).endpoint
        }
        #expect(try endpoint(["--json"], file.path) == "tcp://127.0.0.1:4711")
        // Who says where the coordinator is means that one, with nothing of the file.
        let address = ["--data-parallel-address", "127.0.0.2"]
        #expect(try endpoint(address, file.path) == "tcp://127.0.0.2:13389")
        #expect(try endpoint([], file.path + ".absent") == "tcp://127.0.0.1:13389")
        #expect(try endpoint([], nil) == "tcp://127.0.0.1:13389")
        try "no: such: thing\n".write(to: file, atomically: true, encoding: .utf8)
        #expect(throws: ControlError.self) { try endpoint([], file.path) }
    }
}
