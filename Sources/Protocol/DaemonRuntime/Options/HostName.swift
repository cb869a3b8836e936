internal import Glibc

/// The host's own name, as `hostname` prints it.
public enum HostName {
    static let bytesMax = 256

    public static var current: String {
        var buffer = [CChar](repeating: 0, count: bytesMax)
        gethostname(&buffer, buffer.count - 1)
        return String(
            decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
