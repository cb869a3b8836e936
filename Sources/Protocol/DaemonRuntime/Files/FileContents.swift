internal import Glibc

/// Why a file cannot be read; the caller knows its path and what it was for.
public enum FileError: Error, Hashable, Sendable, CustomStringConvertible {
    case unreadable(reason: String)
    case tooLarge(byteCount: Int, limit: Int)

    public var description: String {
        switch self {
        case .unreadable(let reason): "cannot be read: \(reason)"
        case .tooLarge(let byteCount, let limit):
            "has \(byteCount) bytes; the limit is \(limit)"
        }
    }
}

/// Reads whole regular files, with a bound on their size.
public enum FileContents {
    public static func read(_ path: String, bytesMax: Int) throws(FileError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .last }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .last }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .unreadable(reason: "not a regular file")
        }
        let byteCount = Int(status.st_size)
        guard byteCount <= bytesMax else { throw .tooLarge(byteCount: byteCount, limit: bytesMax) }
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, initializedCount in
            while initializedCount < byteCount, let start = buffer.baseAddress {
                let count = Glibc.read(
                    descriptor, start + initializedCount, byteCount - initializedCount)
                if count > 0 {
                    initializedCount += count
                } else if count == 0 {
                    return
                } else if errno != EINTR {
                    failure = errno
                    return
                }
            }
        }
        if failure != 0 { throw .unreadable(reason: String(cString: strerror(failure))) }
        return bytes
    }
}

extension FileError {
    fileprivate static var last: FileError { .unreadable(reason: String(cString: strerror(errno))) }
}
