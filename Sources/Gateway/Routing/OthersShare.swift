internal import Protocol

/// How much of the ranks' work comes from other gateways, and how coarsely costs are compared for
/// it.
///
/// Gateways that see the same reports would all choose the rank that is ahead by a little, until
/// the next reports tell them of each other. What a rank's cost is not known by is about a prompt
/// of somebody else; so costs that differ by less are alike, and each gateway takes the first in
/// its own rotation. A gateway alone compares finely.
struct OthersShare: Sendable {
    /// Submissions after which half of what was counted is forgotten.
    private static let memory = 4096
    /// Part of a prompt's difference to the mean that the mean takes over.
    private static let meanDivisor = 32

    private var own = 0
    private var all = 0
    /// In 32nds of a token.
    private var meanTokens = 0

    /// Costs are divided by it before they are compared.
    private(set) var grain = RoutingCost.grain

    mutating func onChosen(tokens: Int) {
        meanTokens += tokens - meanTokens / Self.meanDivisor
        updateGrain()
    }

    /// Between two reports of a rank.
    ///
    /// - Parameters:
    ///   - own: submissions of this gateway that the second one knows of besides.
    ///   - all: of all gateways.
    mutating func onReport(own: Int, all: Int) {
        // What is more than is remembered says no more than that.
        let (own, all) = (min(own, Self.memory), min(all, Self.memory))
        guard all > 0 else { return }
        self.own += min(own, all)
        self.all += all
        if self.all > Self.memory {
            self.own /= 2
            self.all /= 2
        }
        updateGrain()
    }

    private mutating func updateGrain() {
        guard all > 0 else { return }
        let tokens = meanTokens / Self.meanDivisor
        grain = max(RoutingCost.grain, tokens * (all - own) / all)
    }
}
