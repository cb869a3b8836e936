import Foundation
import Testing

/// A program of this build that counts its own allocations and prints them, a line a case.
enum CountingProgram {
    static func lines(_ name: String, _ arguments: [String] = []) throws -> [Substring] {
        let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let folder = URL(fileURLWithPath: own).deletingLastPathComponent()
        let process = Process()
        let output = Pipe()
        process.executableURL = folder.appendingPathComponent(name)
        process.arguments = arguments
        process.standardOutput = output
        try process.run()
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "\(text)")
        return text.split(separator: "\n")
    }

    /// The whole numbers of a line.
    static func counts(_ line: Substring) -> [Int] {
        line.split(whereSeparator: { " ,".contains($0) }).compactMap { Int($0) }
    }
}
