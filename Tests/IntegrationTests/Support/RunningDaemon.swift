import DaemonRuntime
import Foundation
import Protocol

/// A real daemon process, its log, and what the kernel says of it. It dies with this object.
final class RunningDaemon: @unchecked Sendable {
    // `lines` is guarded by `arrived`; the process object is used from the test's thread alone.
    let name: String
    private let process = Process()
    private let arrived = NSCondition()
    private var lines: [String] = []
    private var isClosed = false

    /// Folder of the daemons: beside the test's own executable.
    static let binaries = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent()
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// - Parameter node: where it runs; nil: here.
    init(
        _ name: String, _ binary: String, _ arguments: [String], on node: NodeNetwork.Node? = nil,
        environment: [String: String] = [:]
    ) throws {
        self.name = name
        let program = Self.binaries.appendingPathComponent(binary)
        if let node {
            // Executes the program in its own place, so that signals reach it.
            process.executableURL = URL(fileURLWithPath: NodeNetwork.program)
            process.arguments = ["netns", "exec", node.space, program.path] + arguments
        } else {
            process.executableURL = program
            process.arguments = arguments
        }
        process.currentDirectoryURL = Self.root
        if !environment.isEmpty {
            process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        }
        let pipe = Pipe()
        process.standardError = pipe
        process.standardOutput = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let handle = pipe.fileHandleForReading
        Thread.detachNewThread { [weak self] in
            var rest = ""
            while case let data = handle.availableData, !data.isEmpty {
                rest += String(decoding: data, as: UTF8.self)
                let parts = rest.split(separator: "\n", omittingEmptySubsequences: false)
                rest = String(parts.last ?? "")
                self?.append(parts.dropLast().map(String.init))
            }
            self?.close()
        }
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }

    var pid: Int32 { process.processIdentifier }
    var isRunning: Bool { process.isRunning }

    private func append(_ new: [String]) {
        arrived.withLock {
            lines += new
            arrived.broadcast()
        }
    }

    private func close() {
        arrived.withLock {
            isClosed = true
            arrived.broadcast()
        }
    }

    var log: String { arrived.withLock { lines.joined(separator: "\n") } }

    /// The first line of the log that contains `text`; nil when it does not come in time, or when
    /// the process has ended without it.
    func line(containing text: String, within seconds: Double = 60) -> String? {
        let deadline = Date(timeIntervalSinceNow: seconds)
        return arrived.withLock {
            while true {
                if let line = lines.first(where: { $0.contains(text) }) { return line }
                if isClosed || !arrived.wait(until: deadline) { return nil }
            }
        }
    }

    /// The value after `key=` in the first line that has it.
    func value(of key: String, within seconds: Double = 60) -> String? {
        guard let line = line(containing: " \(key)=", within: seconds) else { return nil }
        let rest = line.components(separatedBy: " \(key)=").dropFirst().first ?? ""
        return rest.split(separator: " ").first.map(String.init)
    }

    func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// The exit code, or minus the signal's number; nil when it still runs then.
    func exitCode(within seconds: Double = 60) -> Int32? {
        let deadline = Date(timeIntervalSinceNow: seconds)
        arrived.withLock {
            // Its stderr closes when it ends.
            while !isClosed && arrived.wait(until: deadline) {}
        }
        guard arrived.withLock({ isClosed }) else { return nil }
        process.waitUntilExit()
        let code = process.terminationStatus
        return process.terminationReason == .uncaughtSignal ? -code : code
    }

    /// CPU time of all its threads, in clock ticks (10 ms each).
    var cpuTicks: Int {
        let path = "/proc/\(pid)/stat"
        guard let text = try? String(contentsOfFile: path, encoding: .utf8),
            let end = text.range(of: ") ")
        else { return 0 }
        let fields = text[end.upperBound...].split(separator: " ")
        return (Int(fields[11]) ?? 0) + (Int(fields[12]) ?? 0)
    }

    /// Memory that it holds, in bytes.
    var residentBytes: Int {
        let text = (try? String(contentsOfFile: "/proc/\(pid)/statm", encoding: .utf8)) ?? ""
        return (Int(text.split(separator: " ").dropFirst().first ?? "") ?? 0) * 4096
    }

    /// How often its threads went to sleep so far: with what wakes them, what polling would raise.
    var sleeps: Int {
        let tasks = "/proc/\(pid)/task"
        let threads = (try? FileManager.default.contentsOfDirectory(atPath: tasks)) ?? []
        return threads.reduce(0) { total, thread in
            let path = "\(tasks)/\(thread)/status"
            let status = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            let line = status.split(separator: "\n").first {
                $0.hasPrefix("voluntary_ctxt_switches:")
            }
            return total + (line?.split(separator: "\t").last.flatMap { Int($0) } ?? 0)
        }
    }
}
