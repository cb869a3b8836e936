/// Prompt tokens that a rank has accepted and not computed: what a gateway wants to know of it.
struct PendingPrefill: Sendable {
    private var remaining: [SequenceID: Int] = [:]
    private(set) var total = 0

    mutating func onSubmitted(_ id: SequenceID, tokens: Int) {
        remaining[id] = tokens
        total += tokens
    }

    /// Tokens computed again after a preemption are not counted twice.
    mutating func onComputed(_ id: SequenceID, tokens: Int) {
        guard let left = remaining[id] else { return }
        let computed = min(left, tokens)
        total -= computed
        remaining[id] = computed == left ? nil : left - computed
    }

    mutating func onEnded(_ id: SequenceID) {
        total -= remaining.removeValue(forKey: id) ?? 0
    }
}
