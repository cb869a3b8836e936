internal import Glibc

/// What two processes must share to reach each other's memory: the boot of one kernel, the process
/// namespace (process numbers mean the same) and the user (one may open the other's descriptors).
struct HostIdentity: Hashable {
    static let byteCount = 32

    let bytes: [UInt8]

    init(bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount, "\(bytes.count) bytes of host identity")
        self.bytes = bytes
    }

    /// The identity of this process.
    static func current() throws(CollectiveError) -> HostIdentity {
        let boot = try bootIdentity()
        var status = stat()
        guard stat("/proc/self/ns/pid", &status) == 0 else {
            throw .setup(reason: "/proc/self/ns/pid: \(SystemText.of(errno))")
        }
        var bytes = boot
        for shift in stride(from: 0, to: 64, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: UInt64(status.st_ino) >> UInt64(shift)))
        }
        for shift in stride(from: 0, to: 64, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: UInt64(geteuid()) >> UInt64(shift)))
        }
        return HostIdentity(bytes: bytes)
    }

    /// The 16 bytes that the kernel draws at boot.
    private static func bootIdentity() throws(CollectiveError) -> [UInt8] {
        let path = "/proc/sys/kernel/random/boot_id"
        var text = [UInt8](repeating: 0, count: 64)
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw .setup(reason: "\(path): \(SystemText.of(errno))") }
        let count = read(fd, &text, text.count)
        Glibc.close(fd)
        let digits = text.prefix(max(0, count)).compactMap {
            Character(Unicode.Scalar($0)).hexDigitValue
        }
        guard digits.count == 32 else { throw .setup(reason: "\(path) is not 32 digits") }
        return (0..<16).map { UInt8(digits[2 * $0] * 16 + digits[2 * $0 + 1]) }
    }
}
