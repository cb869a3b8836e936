import Foundation

/// A pseudo-terminal with a program on it.
final class Terminal {
    private let master: Int32
    private let name: String
    private static let setLock: UInt = 0x4004_5431  // TIOCSPTLCK
    private static let getNumber: UInt = 0x8004_5430  // TIOCGPTN

    init() throws {
        // posix_openpt(3) and its kind, which Swift does not show.
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var (lock, number): (Int32, UInt32) = (0, 0)
        guard master >= 0, ioctl(master, Self.setLock, &lock) == 0,
            ioctl(master, Self.getNumber, &number) == 0
        else { throw CellError(description: "no pseudo-terminal: errno \(errno)") }
        name = "/dev/pts/\(number)"
        var window = winsize(ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0)
        guard ioctl(master, UInt(TIOCSWINSZ), &window) == 0 else {
            throw CellError(description: "no window size: errno \(errno)")
        }
    }

    deinit { close(master) }

    /// The local modes: echo, lines and the like.
    func settings() throws -> tcflag_t {
        var settings = termios()
        guard tcgetattr(master, &settings) == 0 else {
            throw CellError(description: "tcgetattr: errno \(errno)")
        }
        return settings.c_lflag
    }

    func start(_ program: String, _ arguments: [String]) throws -> Process {
        guard let end = FileHandle(forUpdatingAtPath: name) else {
            throw CellError(description: "\(name) does not open")
        }
        let process = Process()
        process.executableURL = RunningDaemon.binaries.appendingPathComponent(program)
        process.arguments = arguments
        process.standardInput = end
        process.standardOutput = end
        process.standardError = end
        try process.run()
        return process
    }

    func write(_ text: String) { _ = Foundation.write(master, text, text.utf8.count) }

    /// What the program writes, until `mark` has come so often; what there is at the deadline.
    func read(until mark: String, times: Int, within seconds: Double) -> String {
        let deadline = Date(timeIntervalSinceNow: seconds)
        var text = ""
        var buffer = [UInt8](repeating: 0, count: 4096)
        while text.components(separatedBy: mark).count <= times {
            let left = deadline.timeIntervalSinceNow
            var waiting = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
            guard left > 0, poll(&waiting, 1, Int32(left * 1000) + 1) > 0 else { break }
            let count = Foundation.read(master, &buffer, buffer.count)
            guard count > 0 else { break }
            text += String(decoding: buffer.prefix(count), as: UTF8.self)
        }
        return text
    }
}
