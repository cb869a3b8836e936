/// The bytes that each token stands for, one after another in one array.
struct TokenBytes {
    private var bytes: [UInt8] = []
    private var starts: [Int32] = []
    /// `absent` where an id has no token.
    private var counts: [Int32] = []

    private static let absent: Int32 = -1

    /// One more than the largest id.
    var count: Int { counts.count }

    /// - Returns: false when the id has a token already.
    mutating func insert(_ token: [UInt8], id: Int) -> Bool {
        precondition(id >= 0, "\(id)")
        precondition(bytes.count + token.count <= Int32.max, "\(bytes.count) bytes of tokens")
        while counts.count <= id {
            starts.append(0)
            counts.append(Self.absent)
        }
        guard counts[id] == Self.absent else { return false }
        starts[id] = Int32(bytes.count)
        counts[id] = Int32(token.count)
        bytes.append(contentsOf: token)
        return true
    }

    subscript(id: Int32) -> ArraySlice<UInt8>? {
        let index = Int(id)
        guard counts.indices.contains(index), counts[index] != Self.absent else { return nil }
        let start = Int(starts[index])
        return bytes[start..<start + Int(counts[index])]
    }
}
