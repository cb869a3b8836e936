/// Finds added tokens inside a text: leftmost first, and of those the longest.
///
/// The texts are sorted, so a match is a range of them that shrinks with every byte; a text without
/// their first bytes is only scanned. Source: `AddedVocabulary` of tokenizers, which does the same
/// with an Aho-Corasick automaton of the kind "leftmost-longest".
struct AddedTokenMatcher {
    private let texts: [[UInt8]]
    private let ids: [Int32]
    private let isFirstByte: [Bool]

    init(_ tokens: [(text: [UInt8], id: Int32)]) {
        precondition(tokens.allSatisfy { !$0.text.isEmpty }, "an added token without text")
        let sorted = tokens.sorted { $0.text.lexicographicallyPrecedes($1.text) }
        texts = sorted.map(\.text)
        ids = sorted.map(\.id)
        var isFirstByte = [Bool](repeating: false, count: 256)
        for text in texts { isFirstByte[Int(text[0])] = true }
        self.isFirstByte = isFirstByte
    }

    var isEmpty: Bool { texts.isEmpty }

    /// The first match at `start` or later.
    func next(
        in text: UnsafeBufferPointer<UInt8>, from start: Int, to end: Int
    ) -> (start: Int, end: Int, id: Int32)? {
        precondition(0 <= start && start <= end && end <= text.count, "\(start)..<\(end)")
        guard !isEmpty else { return nil }
        return isFirstByte.withUnsafeBufferPointer { isFirstByte in
            for position in start..<end where isFirstByte[Int(text[position])] {
                if let match = longest(in: text, at: position, to: end) {
                    return (position, match.end, match.id)
                }
            }
            return nil
        }
    }

    private func longest(
        in text: UnsafeBufferPointer<UInt8>, at position: Int, to end: Int
    ) -> (end: Int, id: Int32)? {
        var found: (end: Int, id: Int32)?
        var candidates = 0..<texts.count
        var depth = 0
        while position + depth < end {
            let byte = text[position + depth]
            // All candidates share their first `depth` bytes and are longer than that.
            let lower = partition(candidates) { texts[$0][depth] < byte }
            let upper = partition(lower..<candidates.upperBound) { texts[$0][depth] <= byte }
            guard lower < upper else { break }
            depth += 1
            candidates = lower..<upper
            // The one that ends here is the first in order.
            if texts[lower].count == depth {
                found = (position + depth, ids[lower])
                candidates = lower + 1..<upper
            }
            if candidates.isEmpty { break }
        }
        return found
    }

    /// The first index in `range` for which `isBelow` is false.
    private func partition(_ range: Range<Int>, _ isBelow: (Int) -> Bool) -> Int {
        var low = range.lowerBound
        var high = range.upperBound
        while low < high {
            let middle = low + (high - low) / 2
            if isBelow(middle) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
