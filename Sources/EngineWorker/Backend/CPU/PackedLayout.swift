/// Places of pieces in a part of the packed weights: a function of the pieces' sizes alone, so that
/// a file written by one process fits the pointers of another.
///
/// Pieces are cut in order from chunks, and no piece crosses the end of one; a chunk is a mapping
/// of its own while weights are packed. What a chunk has left when the next piece does not fit is
/// never touched.
struct PackedLayout: Hashable {
    static let chunkBytes = 64 << 20
    static let alignment = 64

    struct Chunk: Hashable {
        let start: Int
        let byteCount: Int
        fileprivate(set) var used = 0
    }

    private(set) var chunks: [Chunk] = []
    /// Bytes asked for, in order.
    private(set) var pieces: [Int] = []

    /// Where the last piece ends.
    var byteCount: Int { chunks.last.map { $0.start + $0.used } ?? 0 }

    /// The start of the next piece, aligned to a cache line; `chunks` grows when it needs another.
    mutating func place(byteCount: Int) -> Int {
        precondition(byteCount > 0, "a piece of \(byteCount) bytes")
        let size = (byteCount + Self.alignment - 1) / Self.alignment * Self.alignment
        pieces.append(byteCount)
        if let chunk = chunks.last, chunk.used + size <= chunk.byteCount {
            chunks[chunks.count - 1].used += size
            return chunk.start + chunk.used
        }
        let start = chunks.last.map { $0.start + $0.byteCount } ?? 0
        let page = HostBuffer.hugePageBytes
        let rounded = (size + page - 1) / page * page
        chunks.append(
            Chunk(start: start, byteCount: max(rounded, Self.chunkBytes), used: size))
        return start
    }
}
