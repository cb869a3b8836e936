import Foundation
import Testing

/// `phalanx-bench serve` as a user runs it, against a real cell.
@Suite(.serialized) struct BenchmarkCommandTests {
    /// Exit code and stdout of the real program.
    static func run(_ arguments: [String]) throws -> (code: Int32, output: String) {
        let process = Process()
        process.executableURL = RunningDaemon.binaries.appendingPathComponent("phalanx-bench")
        process.arguments = ["serve"] + arguments
        process.currentDirectoryURL = RunningDaemon.root
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    static func value(_ label: String, _ output: String) -> String? {
        output.split(separator: "\n").first { $0.hasPrefix(label) }?
            .dropFirst(label.count).trimmingCharacters(in: .whitespaces)
    }

    @Test func aCellServesTheWholeLoad() throws {
        let cell = try RunningCell()
        let arguments = [
            "--port", "\(cell.http.port)", "--tokenizer", RunningCell.model("demo-w8a8"),
            "--random-input-len", "24", "--random-output-len", "8", "--num-prompts", "20",
        ]
        for more in [[], ["--request-rate", "40", "--max-concurrency", "4"]] {
            let result = try Self.run(arguments + more)
            #expect(result.code == 0, "\(result.output)")
            #expect(Self.value("Successful requests:", result.output) == "20")
            #expect(Self.value("Failed requests:", result.output) == "0")
            #expect(Self.value("Total generated tokens:", result.output) == "160")
        }
        #expect(cell.stop() == [0, 0, 0, 0])
        // Nobody listens there any more.
        let result = try Self.run(arguments + ["--model", "m"])
        #expect(result.code == 1)
        #expect(Self.value("Failed requests:", result.output) == "20")
        #expect(result.output.contains("Connection refused"))
    }

    @Test func ctrlCShowsWhatHasFinished() throws {
        let cell = try RunningCell()
        let process = Process()
        process.executableURL = RunningDaemon.binaries.appendingPathComponent("phalanx-bench")
        process.arguments = [
            "serve", "--port", "\(cell.http.port)", "--skip-tokenizer-init", "--num-prompts", "100",
            "--random-input-len", "8", "--random-output-len", "4", "--request-rate", "0.5",
        ]
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        var output = ""
        let handle = pipe.fileHandleForReading
        while case let data = handle.availableData, !data.isEmpty {
            let hasBegun = output.contains("Maximum request concurrency: None\n")
            output += String(decoding: data, as: UTF8.self)
            if !hasBegun, output.contains("Maximum request concurrency: None\n") {
                kill(process.processIdentifier, SIGINT)
            }
        }
        process.waitUntilExit()
        #expect(process.terminationStatus == 130, "\(output)")
        #expect(output.contains("of 100 requests ended."))
        #expect(Self.value("Failed requests:", output) == "0")
        #expect(output.hasSuffix(String(repeating: "=", count: 50) + "\n"))
    }
}
