/// How ranks are compared.
extension RankRouter {
    /// Lower is better.
    struct Key: Comparable {
        /// With a full cache the sequence would wait there: only if all ranks are like that.
        let isCacheFull: Bool
        /// Cost of the busiest rank if this one is chosen, in grains.
        let largest: Int
        /// Cost of this rank then.
        let own: Int

        static func < (left: Key, right: Key) -> Bool {
            if left.isCacheFull != right.isCacheFull { return right.isCacheFull }
            return (left.largest, left.own) < (right.largest, right.own)
        }
    }

    /// The costs that a choice is measured against.
    struct BusiestCosts {
        var placeOfFirst = 0
        var first = 0
        var second = 0
        var mean = 0

        /// Of all ranks but one.
        func largest(without place: Int) -> Int { place == placeOfFirst ? second : first }
    }

    func busiestCosts() -> BusiestCosts {
        var busiest = BusiestCosts()
        var sum = 0
        for (place, rank) in summaries.enumerated() {
            sum += rank.cost
            if rank.cost > busiest.first {
                busiest.second = busiest.first
                busiest.first = rank.cost
                busiest.placeOfFirst = place
            } else if rank.cost > busiest.second {
                busiest.second = rank.cost
            }
        }
        busiest.mean = sum / max(summaries.count, 1)
        return busiest
    }

    func key(of place: Int, for candidate: Candidate, _ busiest: BusiestCosts) -> Key {
        let rank = summaries[place]
        let work = RoutingCost.of(
            pendingTokens: rank.pendingTokens + candidate.tokens,
            sequences: rank.sequences + 1,
            cacheTokens: rank.cacheTokens + candidate.expectedTokens,
            cacheCapacity: rank.cacheCapacity)
        let own = work - credit(of: rank, busiest)
        return Key(
            isCacheFull: rank.isCacheFull,
            largest: max(busiest.largest(without: place), own) / RoutingCost.grain,
            own: own / RoutingCost.grain)
    }

    /// What a rank saves by its cache, unless it is busier than the others already: a prompt that
    /// everybody begins with would else gather all sequences at one rank.
    private func credit(of rank: Summary, _ busiest: BusiestCosts) -> Int {
        let found = foundTokens(of: rank.dpRank)
        guard found > 0 else { return 0 }
        let limit =
            busiest.mean + busiest.mean / RoutingCost.affinityDivisor
            + RoutingCost.affinitySequences * RoutingCost.tokensPerSequence
        return rank.cost <= limit ? found : 0
    }
}
