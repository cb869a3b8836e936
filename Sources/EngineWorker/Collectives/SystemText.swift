internal import Glibc

/// The C library's text for an error number.
enum SystemText {
    static func of(_ number: Int32) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
            guard let base = buffer.baseAddress,
                strerror_r(number, base, buffer.count) == 0
            else { return "error \(number)" }
            return String(cString: base)
        }
    }
}
