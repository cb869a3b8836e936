internal import CLinux
internal import DaemonRuntime
internal import Glibc

/// One process of this node, and the lines it writes. It dies with this program.
final class ChildProcess {
    /// Of a line; the rest of a longer one is a line of its own.
    static let lineBytesMax = 16_384
    /// In one turn of the loop; the rest waits for the next.
    private static let readsPerTurnMax = 16

    let id: Int32
    private let log: Int32
    private let loop: EventLoop
    private var rest: [UInt8] = []
    private let onLine: (String) -> Void
    private var isOpen = true

    /// - Parameter command: program first, with its path.
    init(
        _ command: [String], environment: [String], loop: EventLoop,
        onLine: @escaping (String) -> Void
    ) throws(ControlError) {
        var ends: [Int32] = [-1, -1]
        guard cl_log_pipe(&ends) == 0 else { throw .failed(Self.reason(cl_errno())) }
        id = Self.spawn(command, environment, ends[1])
        let error = cl_errno()
        close(ends[1])
        guard id > 0 else {
            close(ends[0])
            throw .failed(Self.reason(error))
        }
        log = ends[0]
        self.loop = loop
        self.onLine = onLine
        loop.watch(log, for: .readable) { [weak self] _ in
            self?.read(atMost: Self.readsPerTurnMax)
        }
    }

    deinit { closeLog() }

    private static func reason(_ error: Int32) -> String { String(cString: strerror(error)) }

    private static func spawn(
        _ command: [String], _ environment: [String], _ log: Int32
    ) -> Int32 {
        let arguments = command.map { strdup($0) } + [nil]
        let variables = environment.map { strdup($0) } + [nil]
        defer { for copy in arguments + variables { free(copy) } }
        return cl_spawn(arguments, variables, log)
    }

    func send(_ signal: Int32) { kill(id, signal) }

    /// How it ended, or nil while it runs. After it has ended, never again.
    func end() -> ProcessEnd? {
        var status: Int32 = 0
        guard waitpid(id, &status, WNOHANG) == id else { return nil }
        // Its last words: no more than the pipe holds.
        read(atMost: .max)
        closeLog()
        let signal = status & 0x7F
        return signal == 0 ? .code((status >> 8) & 0xFF) : .signal(signal)
    }

    private func read(atMost reads: Int) {
        var left = reads
        var part = [UInt8](repeating: 0, count: 65_536)
        while isOpen && left > 0 {
            left -= 1
            let count = Glibc.read(log, &part, part.count)
            if count < 0 && errno == EINTR { continue }
            if count == 0 { closeLog() }
            guard count > 0 else { return }
            rest += part.prefix(count)
            takeLines()
        }
    }

    private func takeLines() {
        var start = 0
        while start < rest.count {
            let end = rest[start...].firstIndex(of: 0x0A)
            if end == nil && rest.count - start < Self.lineBytesMax { break }
            let stop = min(end ?? rest.count, start + Self.lineBytesMax)
            onLine(String(decoding: rest[start..<stop], as: UTF8.self))
            start = stop == end ? stop + 1 : stop
        }
        rest.removeFirst(start)
    }

    private func closeLog() {
        guard isOpen else { return }
        isOpen = false
        if !rest.isEmpty { onLine(String(decoding: rest, as: UTF8.self)) }
        rest = []
        loop.unwatch(log)
        close(log)
    }
}
