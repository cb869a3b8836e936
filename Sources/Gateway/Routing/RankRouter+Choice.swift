/// How ranks are compared.
extension RankRouter {
    /// Lower is better.
    struct Key: Comparable {
        /// With a full cache the sequence would wait there: only if all ranks are like that.
        let isCacheFull: Bool
        /// Cost of the busiest rank if this one is chosen.
        let largest: Int
        /// Cost of this rank then.
        let own: Int

        @inline(__always)
        func inGrains(of grain: Int) -> Key {
            Key(isCacheFull: isCacheFull, largest: largest / grain, own: own / grain)
        }

        static let worst = Key(isCacheFull: true, largest: .max, own: .max)

        static func < (left: Key, right: Key) -> Bool {
            if left.isCacheFull != right.isCacheFull { return right.isCacheFull }
            if left.largest != right.largest { return left.largest < right.largest }
            return left.own < right.own
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

    /// What a sequence adds to its rank.
    struct Work {
        let tokens: Int
        let expectedTokens: Int

        init(_ candidate: Candidate) {
            tokens = candidate.tokens
            expectedTokens = candidate.expectedTokens
        }
    }

    /// - Parameter searches: whether some rank may have cached blocks of it.
    func best(for work: Work, searches: Bool) -> Int? {
        let grain = others.grain
        return summaries.withUnsafeBufferPointer { summaries in
            let busiest = Self.busiestCosts(summaries)
            var best = (dpRank: -1, key: Key.worst)
            var place = turn
            for _ in summaries.indices {
                if summaries[place].takesSequences {
                    let found = searches ? foundTokens(of: summaries[place].dpRank) : 0
                    let key = Self.key(of: summaries[place], at: place, work, found, busiest)
                        .inGrains(of: grain)
                    if key < best.key { best = (summaries[place].dpRank, key) }
                }
                place += 1
                if place == summaries.count { place = 0 }
            }
            return best.dpRank < 0 ? nil : best.dpRank
        }
    }

    static func busiestCosts(_ summaries: UnsafeBufferPointer<Summary>) -> BusiestCosts {
        var busiest = BusiestCosts()
        var sum = 0
        for place in summaries.indices {
            let cost = summaries[place].cost
            sum += cost
            if cost > busiest.first {
                busiest.second = busiest.first
                busiest.first = cost
                busiest.placeOfFirst = place
            } else if cost > busiest.second {
                busiest.second = cost
            }
        }
        busiest.mean = sum / max(summaries.count, 1)
        return busiest
    }

    @inline(__always)
    private static func key(
        of rank: Summary, at place: Int, _ work: Work, _ found: Int, _ busiest: BusiestCosts
    ) -> Key {
        let cost = RoutingCost.of(
            pendingTokens: rank.pendingTokens + work.tokens,
            sequences: rank.sequences + 1,
            cacheTokens: rank.cacheTokens + work.expectedTokens, cacheLimit: rank.cacheLimit)
        let own = cost - (found > 0 ? credit(found, at: rank, busiest) : 0)
        return Key(
            isCacheFull: rank.isCacheFull, largest: max(busiest.largest(without: place), own),
            own: own)
    }

    /// What a rank saves by its cache, unless it is busier than the others already: a prompt that
    /// everybody begins with would else gather all sequences at one rank.
    private static func credit(
        _ found: Int, at rank: Summary, _ busiest: BusiestCosts
    ) -> Int {
        let limit =
            busiest.mean + busiest.mean / RoutingCost.affinityDivisor
            + RoutingCost.affinitySequences * RoutingCost.tokensPerSequence
        return rank.cost <= limit ? found : 0
    }
}
