import Foundation

/// `scripts/serve.py` with the daemons under test, or another program that starts them; what it
/// prints, and its children.
final class RunningLauncher: @unchecked Sendable {
    // What is written later is guarded by `arrived`; the process belongs to the test's thread.
    private let process = Process()
    private let arrived = NSCondition()
    private var text = ""
    private var isClosed = false
    private var hasStarted = false
    private var failure: (any Error)?

    convenience init(
        _ settings: [String: String] = [:], folder: URL = RunningDaemon.root
    ) throws {
        let script = RunningDaemon.root.appendingPathComponent("scripts/serve.py").path
        try self.init(command: ["python3", script], settings, folder: folder)
    }

    /// `phalanxctl`, with its command first.
    convenience init(control arguments: [String]) throws {
        let program = RunningDaemon.binaries.appendingPathComponent("phalanxctl").path
        try self.init(command: [program] + arguments)
    }

    convenience init(serve arguments: [String]) throws {
        try self.init(control: ["serve"] + arguments)
    }

    private init(
        command: [String], _ settings: [String: String] = [:], folder: URL = RunningDaemon.root
    ) throws {
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.currentDirectoryURL = folder
        var environment = ProcessInfo.processInfo.environment
        for name in ["MODEL", "DP", "TP", "DEVICE", "ARGS", "VERBOSE"] { environment[name] = nil }
        environment["PORT"] = "0"
        environment["PYTHONUNBUFFERED"] = "1"
        environment["BIN"] = RunningDaemon.binaries.path
        process.environment = environment.merging(settings) { $1 }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        // The launcher ends with the thread that started it (PR_SET_PDEATHSIG); this one stays.
        Thread.detachNewThread { [self] in
            let result = Result { try process.run() }
            arrived.withLock {
                hasStarted = true
                if case .failure(let error) = result { failure = error }
                arrived.broadcast()
            }
            guard case .success = result else { return }
            let handle = pipe.fileHandleForReading
            while case let data = handle.availableData, !data.isEmpty {
                arrived.withLock {
                    text += String(decoding: data, as: UTF8.self)
                    arrived.broadcast()
                }
            }
            arrived.withLock {
                isClosed = true
                arrived.broadcast()
            }
        }
        let deadline = Date(timeIntervalSinceNow: 30)
        try arrived.withLock {
            while !hasStarted && arrived.wait(until: deadline) {}
            if let failure { throw failure }
        }
    }

    /// For the end of a test, however it ends: the daemons die with the launcher.
    func end() {
        if process.isRunning { send(SIGKILL) }
    }

    var output: String {
        arrived.withLock { text.trimmingCharacters(in: .whitespacesAndNewlines) }
    }

    func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// The first whole line with `part`; nil when it ends or the time is over without one.
    func line(containing part: String, within seconds: Double) -> String? {
        let deadline = Date(timeIntervalSinceNow: seconds)
        return arrived.withLock {
            while true {
                let whole = text.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
                if let line = whole.first(where: { $0.contains(part) }) { return String(line) }
                if isClosed || !arrived.wait(until: deadline) { return nil }
            }
        }
    }

    /// The exit code, or minus the signal's number; nil when it still runs then.
    func exitCode(within seconds: Double = 90) -> Int32? {
        let deadline = Date(timeIntervalSinceNow: seconds)
        let ended = arrived.withLock {
            while !isClosed && arrived.wait(until: deadline) {}
            return isClosed
        }
        guard ended else { return nil }
        process.waitUntilExit()
        let code = process.terminationStatus
        return process.terminationReason == .uncaughtSignal ? -code : code
    }

    /// Process ids of the daemons that it runs.
    var children: [Int32] {
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return entries.compactMap { Int32($0) }.filter {
            Self.status(of: $0)?.parent == process.processIdentifier
        }
    }

    /// The process ids of its children that run `program`.
    func children(running program: String) -> [Int32] {
        children.filter { id in
            let path = "/proc/\(id)/cmdline"
            let line = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            return line.split(separator: "\0").first?.hasSuffix("/\(program)") == true
        }
    }

    /// Those that still run when all should have ended, after at most ten seconds.
    static func waitForEnd(of processes: [Int32]) -> [Int32] {
        let deadline = Date(timeIntervalSinceNow: 10)
        var left = processes
        while !left.isEmpty, Date() < deadline {
            left.removeAll { id in status(of: id).map { $0.state == "Z" } ?? true }
            sched_yield()
        }
        return left
    }

    private static func status(of process: Int32) -> (state: String, parent: Int32)? {
        guard let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
            let end = text.range(of: ") ", options: .backwards)
        else { return nil }
        let fields = text[end.upperBound...].split(separator: " ")
        guard fields.count > 1, let parent = Int32(fields[1]) else { return nil }
        return (String(fields[0]), parent)
    }
}
