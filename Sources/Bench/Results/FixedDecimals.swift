internal import Glibc

/// C's `%.*f`.
func fixed(_ value: Double, decimals: Int) -> String {
    // DBL_MAX has 309 digits before the point.
    var buffer = [CChar](repeating: 0, count: 340)
    let length = withVaList([CInt(decimals), value]) {
        vsnprintf(&buffer, buffer.count, "%.*f", $0)
    }
    precondition(length > 0 && length < buffer.count, "\(length) characters of \(value)")
    return String(decoding: buffer.prefix(Int(length)).map(UInt8.init(bitPattern:)), as: UTF8.self)
}
