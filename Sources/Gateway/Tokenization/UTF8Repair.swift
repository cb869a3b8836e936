/// Turns bytes into text piece by piece, with U+FFFD for what is not UTF-8.
///
/// Each maximal prefix of a valid sequence that breaks off becomes one U+FFFD, and so does each
/// byte that cannot begin one: Rust's `from_utf8_lossy` and Unicode 15, section 3.9, table 3-8.
/// An incomplete sequence at the end is held back until later bytes decide about it.
struct UTF8Repair: Sendable {
    /// U+FFFD in UTF-8.
    private static let replacement: [UInt8] = [0xEF, 0xBF, 0xBD]

    /// The beginning of a sequence that is valid so far, at most three bytes.
    private var pending: [UInt8] = []

    init() { pending.reserveCapacity(4) }

    var isHoldingBack: Bool { !pending.isEmpty }

    static func text(_ bytes: some Sequence<UInt8>) -> String {
        var repair = UTF8Repair()
        var output: [UInt8] = []
        repair.append(bytes, to: &output)
        repair.finish(to: &output)
        return String(decoding: output, as: UTF8.self)
    }

    /// Appends to `output` the UTF-8 that is certain after `bytes`.
    mutating func append(_ bytes: some Sequence<UInt8>, to output: inout [UInt8]) {
        for byte in bytes {
            if let first = pending.first {
                if Self.continues(byte, first: first, index: pending.count) {
                    pending.append(byte)
                    if pending.count == Self.length(first) {
                        output.append(contentsOf: pending)
                        pending.removeAll(keepingCapacity: true)
                    }
                    continue
                }
                // The byte that broke the sequence may begin another one.
                finish(to: &output)
            }
            switch Self.length(byte) {
            case 1: output.append(byte)
            case 0: output.append(contentsOf: Self.replacement)
            default: pending.append(byte)
            }
        }
    }

    /// Nothing follows: what was held back is broken.
    mutating func finish(to output: inout [UInt8]) {
        guard !pending.isEmpty else { return }
        pending.removeAll(keepingCapacity: true)
        output.append(contentsOf: Self.replacement)
    }

    /// Length of the sequence that `first` begins; 0 when it begins none.
    private static func length(_ first: UInt8) -> Int {
        switch first {
        case 0x00...0x7F: 1
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 0
        }
    }

    /// The second byte excludes overlong forms, surrogates and what is above U+10FFFF.
    private static func continues(_ byte: UInt8, first: UInt8, index: Int) -> Bool {
        switch (first, index) {
        case (0xE0, 1): (0xA0...0xBF).contains(byte)
        case (0xED, 1): (0x80...0x9F).contains(byte)
        case (0xF0, 1): (0x90...0xBF).contains(byte)
        case (0xF4, 1): (0x80...0x8F).contains(byte)
        default: (0x80...0xBF).contains(byte)
        }
    }
}
