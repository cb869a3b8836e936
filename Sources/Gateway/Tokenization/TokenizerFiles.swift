internal import DaemonRuntime
internal import Glibc

/// Reads the JSON files of a checkpoint's folder, with a bound on their size.
enum TokenizerFiles {
    /// DeepSeek's tokenizer.json is 8 MB; the largest published ones are below 40 MB.
    static let fileBytesMax = 256 << 20

    static func readJSON(_ path: String) throws(TokenizerError) -> JSONDocument {
        let bytes = try read(path)
        do {
            return try JSONDocument(bytes)
        } catch {
            throw .notJSON(path: path, reason: error.reason)
        }
    }

    static func exists(_ path: String) -> Bool { access(path, R_OK) == 0 }

    static func read(_ path: String) throws(TokenizerError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw .unreadable(path: path, reason: String(cString: strerror(errno)))
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .unreadable(path: path, reason: "not a regular file")
        }
        let byteCount = Int(status.st_size)
        guard byteCount <= fileBytesMax else {
            throw .tooLarge(path: path, byteCount: byteCount, limit: fileBytesMax)
        }
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
        guard failure == 0 else {
            throw .unreadable(path: path, reason: String(cString: strerror(failure)))
        }
        return bytes
    }
}
