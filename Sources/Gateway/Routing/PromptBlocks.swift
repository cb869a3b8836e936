internal import Protocol

/// The names under which ranks cache the full blocks of a sequence (docs/protocol.md), as far as
/// they were asked for: a prompt's, and later those of its answer.
struct PromptBlocks {
    /// Blocks behind these have no name here: hashing them all would hold up the gateway, and a
    /// prompt that shares so much with another is as good as known.
    static let countMax = 2048

    private let blockSize: Int
    private var last: BlockHash
    /// The beginnings of the names, in order.
    private(set) var names: [UInt64] = []

    init(blockSize: Int, salt: [UInt8]) {
        precondition(blockSize > 0, "blocks of \(blockSize) tokens")
        self.blockSize = blockSize
        last = .root(blockSize: blockSize, salt: salt)
    }

    /// - Parameter tokens: all of the sequence's so far; those of before begin them.
    mutating func extend(to tokens: [Int32]) {
        let count = min(tokens.count / blockSize, Self.countMax)
        while names.count < count {
            let first = names.count * blockSize
            last = last.next(tokens: tokens[first..<(first + blockSize)])
            names.append(last.prefix)
        }
    }
}
