internal import Glibc

/// A file mapped read-only for as long as the object lives. It must not be truncated meanwhile:
/// the kernel answers reads beyond the end with SIGBUS.
public final class MappedFile: @unchecked Sendable {
    // Immutable after init, and the mapping is read-only: safe to share.
    public let path: String
    /// When its contents last changed: nanoseconds since 1970.
    public let modified: Int
    /// Valid as long as this object: whoever reads them holds a reference meanwhile.
    public let bytes: UnsafeRawBufferPointer

    public init(path: String) throws(CheckpointError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw .io(path: path, operation: "open", errno: errno)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw .io(path: path, operation: "fstat", errno: errno)
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .malformed(path: path, reason: "not a regular file")
        }
        let byteCount = Int(status.st_size)
        guard byteCount > 0 else { throw .malformed(path: path, reason: "the file is empty") }
        let start = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let start, start != MAP_FAILED else {
            throw .io(path: path, operation: "mmap", errno: errno)
        }
        self.path = path
        modified = status.st_mtim.tv_sec * 1_000_000_000 + status.st_mtim.tv_nsec
        bytes = UnsafeRawBufferPointer(start: start, count: byteCount)
    }

    /// The whole of a small file.
    static func contents(of path: String) throws(CheckpointError) -> [UInt8] {
        let file = try MappedFile(path: path)
        return withExtendedLifetime(file) { Array(file.bytes) }
    }

    deinit {
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
    }
}

/// Names of the entries of a folder, sorted.
enum Folder {
    static func entries(of path: String) throws(CheckpointError) -> [String] {
        guard let stream = opendir(path) else {
            throw .io(path: path, operation: "opendir", errno: errno)
        }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            names.append(name)
        }
        return names.sorted()
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
}
