/// SHA-256 (FIPS 180-4), for messages that are made of 32-bit words already: what the block hashes
/// of the prefix cache need, without an allocation.
///
/// Not constant-time, and never to be used with a secret.
enum SHA256 {
    /// The digest as eight big-endian words, the first word first.
    typealias Digest = SIMD8<UInt32>

    static let initialState = Digest(
        0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A,
        0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19)

    /// Digest of any bytes.
    static func digest(_ bytes: [UInt8]) -> Digest {
        var words: [UInt32] = []
        words.reserveCapacity(bytes.count / 4 + 1)
        for start in stride(from: 0, to: bytes.count - bytes.count % 4, by: 4) {
            words.append(bytes[start..<(start + 4)].reduce(0) { $0 << 8 | UInt32($1) })
        }
        // The bit 1 that begins the padding follows the last byte.
        var last: UInt32 = 0
        for (place, byte) in (bytes.suffix(bytes.count % 4) + [0x80]).enumerated() {
            last |= UInt32(byte) << UInt32(24 - 8 * place)
        }
        return digest(wordCount: words.count, byteCount: bytes.count, lastWord: last) { words[$0] }
    }

    /// Digest of `wordCount` big-endian words.
    ///
    /// - Parameter word: the message's word at an index; called once for each, in order.
    @inline(__always)
    static func digest(wordCount: Int, word: (Int) -> UInt32) -> Digest {
        digest(
            wordCount: wordCount, byteCount: wordCount * 4, lastWord: 0x8000_0000, word: word)
    }

    /// - Parameter lastWord: the bytes after the last whole word, and the first bit of the padding.
    @inline(__always)
    private static func digest(
        wordCount: Int, byteCount: Int, lastWord: UInt32, word: (Int) -> UInt32
    ) -> Digest {
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { schedule in
            guard let block = schedule.baseAddress else { preconditionFailure("no stack") }
            var state = initialState
            // One word of padding at least, and two of length.
            let paddedCount = (wordCount + 3 + 15) / 16 * 16
            let bitCount = UInt64(byteCount) * 8
            for index in 0..<paddedCount {
                let value: UInt32
                if index < wordCount {
                    value = word(index)
                } else if index == wordCount {
                    value = lastWord
                } else if index == paddedCount - 2 {
                    value = UInt32(truncatingIfNeeded: bitCount >> 32)
                } else {
                    value = index == paddedCount - 1 ? UInt32(truncatingIfNeeded: bitCount) : 0
                }
                block[index % 16] = value
                if index % 16 == 15 { compress(&state, block) }
            }
            return state
        }
    }

    /// One block of 64 bytes: FIPS 180-4 section 6.2.2.
    ///
    /// - Parameter schedule: 64 words, of which the first 16 are the message's; overwritten.
    private static func compress(_ state: inout Digest, _ schedule: UnsafeMutablePointer<UInt32>) {
        for index in 16..<64 {
            let (early, late) = (schedule[index - 15], schedule[index - 2])
            let first = rotate(early, 7) ^ rotate(early, 18) ^ early >> 3
            let second = rotate(late, 17) ^ rotate(late, 19) ^ late >> 10
            schedule[index] = schedule[index - 16] &+ first &+ schedule[index - 7] &+ second
        }
        var (a, b, c, d) = (state[0], state[1], state[2], state[3])
        var (e, f, g, h) = (state[4], state[5], state[6], state[7])
        constants.withUnsafeBufferPointer { constants in
            // Eight rounds a turn, so that every variable is back in its place and none moves.
            for index in stride(from: 0, to: 64, by: 8) {
                func word(_ offset: Int) -> UInt32 {
                    constants[index + offset] &+ schedule[index + offset]
                }
                round(a, b, c, &d, e, f, g, &h, word(0))
                round(h, a, b, &c, d, e, f, &g, word(1))
                round(g, h, a, &b, c, d, e, &f, word(2))
                round(f, g, h, &a, b, c, d, &e, word(3))
                round(e, f, g, &h, a, b, c, &d, word(4))
                round(d, e, f, &g, h, a, b, &c, word(5))
                round(c, d, e, &f, g, h, a, &b, word(6))
                round(b, c, d, &e, f, g, h, &a, word(7))
            }
        }
        state &+= Digest(a, b, c, d, e, f, g, h)
    }

    /// The eight working variables stand in the order of the standard; `d` and `h` change, and are
    /// `e` and `a` of the next round.
    @inline(__always)
    private static func round(
        _ a: UInt32, _ b: UInt32, _ c: UInt32, _ d: inout UInt32, _ e: UInt32, _ f: UInt32,
        _ g: UInt32, _ h: inout UInt32, _ word: UInt32
    ) {
        let sum = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
        let choice = g ^ (e & (f ^ g))
        let majority = (a & b) | (c & (a | b))
        let first = h &+ sum &+ choice &+ word
        d &+= first
        h = first &+ (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) &+ majority
    }

    @inline(__always)
    private static func rotate(_ word: UInt32, _ count: UInt32) -> UInt32 {
        word &>> count | word &<< (32 &- count)
    }

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    private static let constants: [UInt32] = [
        0x428A_2F98, 0x7137_4491, 0xB5C0_FBCF, 0xE9B5_DBA5,
        0x3956_C25B, 0x59F1_11F1, 0x923F_82A4, 0xAB1C_5ED5,
        0xD807_AA98, 0x1283_5B01, 0x2431_85BE, 0x550C_7DC3,
        0x72BE_5D74, 0x80DE_B1FE, 0x9BDC_06A7, 0xC19B_F174,
        0xE49B_69C1, 0xEFBE_4786, 0x0FC1_9DC6, 0x240C_A1CC,
        0x2DE9_2C6F, 0x4A74_84AA, 0x5CB0_A9DC, 0x76F9_88DA,
        0x983E_5152, 0xA831_C66D, 0xB003_27C8, 0xBF59_7FC7,
        0xC6E0_0BF3, 0xD5A7_9147, 0x06CA_6351, 0x1429_2967,
        0x27B7_0A85, 0x2E1B_2138, 0x4D2C_6DFC, 0x5338_0D13,
        0x650A_7354, 0x766A_0ABB, 0x81C2_C92E, 0x9272_2C85,
        0xA2BF_E8A1, 0xA81A_664B, 0xC24B_8B70, 0xC76C_51A3,
        0xD192_E819, 0xD699_0624, 0xF40E_3585, 0x106A_A070,
        0x19A4_C116, 0x1E37_6C08, 0x2748_774C, 0x34B0_BCB5,
        0x391C_0CB3, 0x4ED8_AA4A, 0x5B9C_CA4F, 0x682E_6FF3,
        0x748F_82EE, 0x78A5_636F, 0x84C8_7814, 0x8CC7_0208,
        0x90BE_FFFA, 0xA450_6CEB, 0xBEF9_A3F7, 0xC671_78F2,
    ]
}
