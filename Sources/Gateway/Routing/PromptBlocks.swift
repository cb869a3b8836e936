internal import Protocol

/// The names under which ranks cache the full blocks of a prompt (docs/protocol.md).
enum PromptBlocks {
    /// Blocks behind these have no name here: hashing them all would hold up the gateway, and a
    /// prompt that shares so much with another is as good as known.
    static let countMax = 2048

    /// The beginnings of the names, in order.
    static func names(of tokens: [Int32], blockSize: Int, salt: [UInt8]) -> [UInt64] {
        let count = min(tokens.count / blockSize, countMax)
        var names: [UInt64] = []
        names.reserveCapacity(count)
        var hash = BlockHash.root(blockSize: blockSize, salt: salt)
        for first in stride(from: 0, to: count * blockSize, by: blockSize) {
            hash = hash.next(tokens: tokens[first..<(first + blockSize)])
            names.append(hash.prefix)
        }
        return names
    }
}
