import Testing

@testable import Gateway

@Suite struct BytePairEncoderTests {
    /// The definition: of all pairs the one of lowest rank, leftmost first, until there is none.
    private func reference(_ piece: [UInt8], _ merges: MergeTable) -> [Int32] {
        var ids = piece.map { Int32($0) }
        while true {
            var best: (index: Int, merge: MergeTable.Merge)?
            for index in ids.indices.dropLast() {
                guard let merge = merges.merge(left: ids[index], right: ids[index + 1]) else {
                    continue
                }
                if merge.rank < best?.merge.rank ?? .max { best = (index, merge) }
            }
            guard let best else { return ids }
            ids[best.index] = best.merge.id
            ids.remove(at: best.index + 1)
        }
    }

    /// 40 merges of random tokens over three letters, each making a new token.
    private func merges(_ generator: inout SeededGenerator) -> MergeTable {
        var merges = MergeTable(capacity: 40)
        var tokens: [Int32] = [97, 98, 99]
        var used: Set<[Int32]> = []
        for rank in 0..<40 {
            let left = tokens.randomElement(using: &generator) ?? 97
            let right = tokens.randomElement(using: &generator) ?? 97
            guard used.insert([left, right]).inserted else { continue }
            let id = Int32(256 + rank)
            tokens.append(id)
            merges.insert(left: left, right: right, rank: UInt32(rank), id: id)
        }
        return merges
    }

    @Test func shortAndLongPiecesFollowTheDefinition() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("shortAndLongPiecesFollowTheDefinition: seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<40 {
            let merges = merges(&generator)
            var encoder = BytePairEncoder(merges: merges, byteIDs: (0..<256).map { Int32($0) })
            for count in [0, 1, 2, 3, 7, 20, 47, 48, 49, 50, 90, 150] {
                let piece = (0..<count).map { _ in UInt8.random(in: 97...99, using: &generator) }
                var ids: [Int32] = []
                piece.withUnsafeBufferPointer { encoder.encode($0, into: &ids) }
                #expect(ids == reference(piece, merges), "seed \(seed), \(count) bytes")
            }
        }
    }
}
