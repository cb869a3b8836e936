/// The byte-level alphabet: each of the 256 bytes written as one printable character.
///
/// Vocabularies of byte-level BPE are JSON, so bytes that are no printable Latin-1 character stand
/// as U+0100 and up, in order. Source: `bytes_to_unicode` of GPT-2's encoder (Radford et al. 2019).
enum ByteAlphabet {
    private static let absent: Int16 = -1

    /// The scalar that stands for each byte.
    static let scalars: [UInt32] = {
        var next: UInt32 = 0x100
        return (UInt32(0)..<256).map { byte in
            switch byte {
            case 33...126, 161...172, 174...255: return byte
            default:
                next += 1
                return next - 1
            }
        }
    }()

    /// The byte that each scalar below U+0144 stands for, or `absent`.
    private static let bytes: [Int16] = {
        var bytes = [Int16](repeating: absent, count: 0x144)
        for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar)] = Int16(byte) }
        return bytes
    }()

    /// Appends the bytes that a token's text stands for. A text with a character outside of the
    /// alphabet stands for its own UTF-8, as the `ByteLevel` decoder of tokenizers has it.
    static func appendBytes(of text: UnsafeBufferPointer<UInt8>, to output: inout [UInt8]) {
        let start = output.count
        let isWithin = bytes.withUnsafeBufferPointer { table in
            var index = 0
            while index < text.count {
                var scalar = Int(text[index])
                index += 1
                if scalar >= 0x80 {
                    // Characters of the alphabet have at most two bytes.
                    guard scalar < 0xE0, index < text.count else { return false }
                    scalar = (scalar & 0x1F) << 6 | Int(text[index] & 0x3F)
                    index += 1
                }
                guard scalar < table.count, table[scalar] != absent else { return false }
                output.append(UInt8(truncatingIfNeeded: table[scalar]))
            }
            return true
        }
        guard !isWithin else { return }
        output.removeSubrange(start...)
        output.append(contentsOf: text)
    }
}
