internal import CKernels

/// The exponential race: the token with the least -ln(u) / weight wins, which each does with a
/// probability in proportion to its weight. Each token's u depends on nothing but seed, position
/// and id, so a small change of the weights rarely changes the winner.
///
/// -ln(u) is at least 1 - u. So a token loses to a time t for sure where 1 - u is above t times the
/// largest weight of its block: most lose by their random bits alone, without a look at the logit.
/// The winner is that of the plain race, whatever the order: only sure losers are left out.
struct ExponentialRace {
    let cut: TokenCut
    let source: RandomSource
    private var winner: Int32
    private var least = Double.infinity

    /// - Parameter best: the first to run; a likely one drops many others.
    init(cut: TokenCut, source: RandomSource, best: Int32) {
        self.cut = cut
        self.source = source
        winner = best
        if cut.keeps(best) { run(best) }
    }

    /// `ids`: scratch, at least `LogitRow.blockSize`, or the row's length where that is less.
    mutating func finish(ids: UnsafeMutableBufferPointer<Int32>) -> Int32 {
        let row = cut.row
        guard let base = ids.baseAddress else { return winner }
        for block in 0..<row.blockCount where row.maxima[block] >= cut.least {
            // The margin is far above the rounding of times and far below what costs anything.
            let bound = least * cut.weight(row.maxima[block]) * (1 + 0x1p-40)
            // 1 - u is at least 2^-53. (0 times infinity is NaN: out, too.)
            guard bound >= 0x1p-54 else { continue }
            let indices = row.indices(ofBlock: block)
            let count = row.passes.pointee.draws(
                base, source.start, Self.leastBits(bound), Int32(indices.lowerBound),
                indices.count)
            for place in 0..<count where cut.keeps(ids[place]) { run(ids[place]) }
        }
        return winner
    }

    /// A random source's output below it gives a u with 1 - u above `bound`.
    private static func leastBits(_ bound: Double) -> UInt64 {
        guard bound < 1 else { return 0 }
        // u = ((bits >> 12) + 1/2) / 2^52; 2 is more than all that was rounded.
        let whole = (1 - bound) * 0x1p52 - 2
        return whole > 0 ? UInt64(whole) << 12 : 0
    }

    @inline(__always)
    private mutating func run(_ id: Int32) {
        let weight = cut.weight(cut.row[id])
        guard weight > 0 else { return }
        let time = -ElementaryFunctions.logarithm(source.uniform(tokenID: id)) / weight
        if time < least || (time == least && id < winner) {
            least = time
            winner = id
        }
    }
}
