internal import Glibc

/// Keeps results on disk.
enum ResultFile {
    /// Writes `bytes` to `path`; with `appends` behind what is there, on a line of its own.
    static func write(
        _ bytes: [UInt8], to path: String, appends: Bool
    ) throws(BenchError) {
        let mode = O_WRONLY | O_CREAT | O_CLOEXEC | (appends ? O_APPEND : O_TRUNC)
        let descriptor = open(path, mode, 0o644)
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(path) }
        let output = appends && status.st_size > 0 ? [UInt8(ascii: "\n")] + bytes : bytes
        var written = 0
        while written < output.count {
            let count = output[written...].withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress, $0.count)
            }
            if count > 0 {
                written += count
            } else if errno != EINTR {
                throw failure(path)
            }
        }
    }

    /// Makes `folder` and those above it.
    static func makeFolder(_ folder: String) throws(BenchError) {
        var path = folder.hasPrefix("/") ? "/" : ""
        for part in folder.split(separator: "/") {
            path += part + "/"
            guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw failure(path) }
        }
    }

    /// YYYYMMDD-HHMMSS, local time.
    static func date(secondsSince1970: Int64) -> String {
        var time = time_t(secondsSince1970)
        var parts = tm()
        guard localtime_r(&time, &parts) != nil else { return "\(secondsSince1970)" }
        let two = { (number: Int32) in number < 10 ? "0\(number)" : "\(number)" }
        return "\(parts.tm_year + 1900)\(two(parts.tm_mon + 1))\(two(parts.tm_mday))-"
            + two(parts.tm_hour) + two(parts.tm_min) + two(parts.tm_sec)
    }

    private static func failure(_ path: String) -> BenchError {
        .unwritable(path: path, reason: String(cString: strerror(errno)))
    }
}
