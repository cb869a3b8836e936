internal import Glibc

/// The terminal while `top` has it: the alternate screen, no cursor, keys without Enter. Whatever
/// ends the command must call ``restore()``.
struct TerminalScreen {
    private let write: (String) -> Void
    private let saved: termios?

    /// - Parameter write: to the terminal.
    init(write: @escaping (String) -> Void) {
        self.write = write
        var settings = termios()
        if isatty(STDIN_FILENO) == 1, tcgetattr(STDIN_FILENO, &settings) == 0 {
            saved = settings
            // Ctrl-C stays a signal.
            settings.c_lflag &= ~tcflag_t(ICANON | ECHO)
            tcsetattr(STDIN_FILENO, TCSANOW, &settings)
        } else {
            saved = nil
        }
        write("\u{1B}[?1049h\u{1B}[?25l")
    }

    /// Keys can be read from standard input.
    var hasKeys: Bool { saved != nil }

    func restore() {
        write("\u{1B}[?25h\u{1B}[?1049l")
        if var saved { tcsetattr(STDIN_FILENO, TCSANOW, &saved) }
    }

    /// Draws over what was there, cut to the window.
    func draw(_ lines: [String]) {
        let (rows, columns) = Self.size()
        var text = "\u{1B}[H"
        for line in lines.prefix(max(rows - 1, 1)) {
            text += String(line.prefix(columns)) + "\u{1B}[K\n"
        }
        write(text + "\u{1B}[J")
    }

    private static func size() -> (rows: Int, columns: Int) {
        var window = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &window) == 0, window.ws_row > 0,
            window.ws_col > 0
        else { return (24, 80) }
        return (Int(window.ws_row), Int(window.ws_col))
    }
}
