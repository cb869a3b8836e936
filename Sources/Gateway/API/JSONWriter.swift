/// Appends JSON (RFC 8259) to bytes; the templates around the values are written by hand.
///
/// Text stays UTF-8: only `"`, `\` and the control characters below U+0020 are escaped. Numbers
/// are the shortest that read back to the same value. There is no way to write NaN or an
/// infinity, and it allocates nothing but the growth of `bytes`.
struct JSONWriter {
    private(set) var bytes: [UInt8] = []

    init() {}

    init(capacity: Int) { bytes.reserveCapacity(capacity) }

    /// Writes to the end of `output`, whose storage is borrowed, not copied.
    static func append(to output: inout [UInt8], _ body: (inout JSONWriter) -> Void) {
        var writer = JSONWriter()
        swap(&writer.bytes, &output)
        body(&writer)
        swap(&writer.bytes, &output)
    }

    mutating func raw(_ text: StaticString) {
        text.withUTF8Buffer { bytes.append(contentsOf: $0) }
    }

    mutating func raw(_ text: [UInt8]) { bytes.append(contentsOf: text) }

    /// A quoted string.
    mutating func string(_ text: String) {
        bytes.append(Self.quote)
        escaped(text)
        bytes.append(Self.quote)
    }

    mutating func string(_ text: String?) {
        if let text { string(text) } else { raw("null") }
    }

    /// The inside of a quoted string.
    mutating func escaped(_ text: String) {
        var text = text
        text.withUTF8 { escaped($0) }
    }

    private mutating func escaped(_ text: UnsafeBufferPointer<UInt8>) {
        var start = 0
        for index in 0..<text.count {
            let byte = text[index]
            if byte >= 0x20 && byte != Self.quote && byte != Self.backslash { continue }
            bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start..<index]))
            escape(byte)
            start = index + 1
        }
        bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start...]))
    }

    private mutating func escape(_ byte: UInt8) {
        switch byte {
        case Self.quote: raw(#"\""#)
        case Self.backslash: raw(#"\\"#)
        case 0x08: raw(#"\b"#)
        case 0x09: raw(#"\t"#)
        case 0x0A: raw(#"\n"#)
        case 0x0C: raw(#"\f"#)
        case 0x0D: raw(#"\r"#)
        default:
            raw(#"\u00"#)
            bytes.append(Self.hexadecimal(byte >> 4))
            bytes.append(Self.hexadecimal(byte & 0xF))
        }
    }

    mutating func integer(_ value: some FixedWidthInteger) {
        // Digits are made from the last to the first, so they are written behind and turned.
        var magnitude = UInt64(value.magnitude)
        if value < 0 { bytes.append(UInt8(ascii: "-")) }
        let start = bytes.count
        repeat {
            bytes.append(UInt8(ascii: "0") + UInt8(magnitude % 10))
            magnitude /= 10
        } while magnitude > 0
        bytes[start...].reverse()
    }

    mutating func number(_ value: Float) {
        precondition(value.isFinite, "\(value) has no JSON form")
        // Swift's description is the shortest text that reads back to the same Float, and has
        // JSON's grammar for every finite value.
        var text = value.description
        text.withUTF8 { bytes.append(contentsOf: $0) }
    }

    mutating func array<Element>(
        _ elements: some Sequence<Element>,
        _ write: (inout JSONWriter, Element) -> Void
    ) {
        raw("[")
        var isFirst = true
        for element in elements {
            if !isFirst { raw(",") }
            isFirst = false
            write(&self, element)
        }
        raw("]")
    }

    /// An array of whole numbers, or null.
    mutating func integers(_ values: [Int32]?) {
        guard let values else { return raw("null") }
        array(values) { $0.integer($1) }
    }

    private static let quote = UInt8(ascii: "\"")
    private static let backslash = UInt8(ascii: "\\")

    private static func hexadecimal(_ digit: UInt8) -> UInt8 {
        digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
    }
}
