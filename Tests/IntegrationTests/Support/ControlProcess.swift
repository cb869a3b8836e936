import Foundation

/// A finished run of `phalanxctl`, as a process of its own.
struct ControlProcess {
    let exitCode: Int32
    let output: String
    let complaints: String

    /// - Parameter port: of the coordinator, on 127.0.0.1.
    init(_ arguments: [String], port: String) throws {
        let process = Process()
        process.executableURL = RunningDaemon.binaries.appendingPathComponent("phalanxctl")
        process.arguments = arguments + ["--data-parallel-rpc-port", port]
        process.currentDirectoryURL = RunningDaemon.root
        let (output, complaints) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = complaints
        process.standardInput = FileHandle.nullDevice
        try process.run()
        // Complaints are a few lines, so they fit the pipe while the output is read to its end.
        self.output = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        self.complaints = String(
            decoding: complaints.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        exitCode = process.terminationStatus
    }
}
