/// Prompt tokens that a rank has accepted and not computed: what a gateway wants to know of it.
struct PendingPrefill: Sendable {
    private struct Prompt: Sendable {
        let tokenCount: Int
        var computedCount = 0
    }

    private var prompts: [SequenceID: Prompt] = [:]
    private(set) var total = 0

    mutating func onSubmitted(_ id: SequenceID, tokens: Int) {
        prompts[id] = Prompt(tokenCount: tokens)
        total += tokens
    }

    /// The first `position` tokens are computed, or were found in the prefix cache. Those that are
    /// computed again after a preemption are not counted twice.
    mutating func onComputed(_ id: SequenceID, through position: Int) {
        guard var prompt = prompts[id] else { return }
        let computed = min(prompt.tokenCount, position)
        guard computed > prompt.computedCount else { return }
        total -= computed - prompt.computedCount
        prompt.computedCount = computed
        prompts[id] = computed == prompt.tokenCount ? nil : prompt
    }

    mutating func onEnded(_ id: SequenceID) {
        guard let prompt = prompts.removeValue(forKey: id) else { return }
        total -= prompt.tokenCount - prompt.computedCount
    }
}
