/// Remembers the ids of short pieces: most words of a text have been seen before.
///
/// Direct mapped and of fixed size: a piece replaces the one in its place, nothing is allocated.
struct PieceCache {
    private static let placeBits: UInt64 = 14
    private static let idsMax = 4

    /// A piece of at most 15 bytes with its length, in two words.
    struct Key: Equatable {
        fileprivate let low: UInt64
        fileprivate let high: UInt64

        @inline(__always)
        init?(_ piece: UnsafeBufferPointer<UInt8>) {
            guard piece.count <= 15 else { return nil }
            var low: UInt64 = 0
            var high = UInt64(piece.count) << 56
            for index in 0..<min(piece.count, 8) { low |= UInt64(piece[index]) << (8 * index) }
            if piece.count > 8 {
                for index in 8..<piece.count { high |= UInt64(piece[index]) << (8 * (index - 8)) }
            }
            self.low = low
            self.high = high
        }

        fileprivate var place: Int {
            let mixed = (low ^ (high &* 0xC2B2_AE3D_27D4_EB4F)) &* 0x9E37_79B9_7F4A_7C15
            return Int(truncatingIfNeeded: mixed >> (64 - PieceCache.placeBits))
        }
    }

    private struct Place {
        /// A length of 0 in `high` is free: the empty piece is never stored.
        var low: UInt64 = 0
        var high: UInt64 = 0
        var ids: (Int32, Int32, Int32, Int32) = (0, 0, 0, 0)
        var count: Int32 = 0
    }

    private var places = [Place](repeating: Place(), count: 1 << placeBits)

    /// - Returns: false when the piece is not there.
    @inline(__always)
    func append(_ key: Key, to ids: inout [Int32]) -> Bool {
        let place = places[key.place]
        guard place.low == key.low, place.high == key.high, place.count > 0 else { return false }
        ids.append(place.ids.0)
        if place.count > 1 { ids.append(place.ids.1) }
        if place.count > 2 { ids.append(place.ids.2) }
        if place.count > 3 { ids.append(place.ids.3) }
        return true
    }

    mutating func store(_ key: Key, _ ids: ArraySlice<Int32>) {
        guard (1...Self.idsMax).contains(ids.count) else { return }
        var place = Place(low: key.low, high: key.high, count: Int32(ids.count))
        let first = ids.startIndex
        place.ids.0 = ids[first]
        if ids.count > 1 { place.ids.1 = ids[first + 1] }
        if ids.count > 2 { place.ids.2 = ids[first + 2] }
        if ids.count > 3 { place.ids.3 = ids[first + 3] }
        places[key.place] = place
    }
}
