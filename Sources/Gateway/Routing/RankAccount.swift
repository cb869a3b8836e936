internal import Protocol

/// What a gateway knows of one DP rank's work: the rank's last report, which counts everybody's,
/// and what the gateway has done since that the report cannot know.
///
/// Nothing is counted twice and nothing is lost: submissions over a link are numbered from 1 by
/// their order, a report says up to which number it knows them, and what lies behind is added to
/// it. What the gateway cancels is taken away until the next report, which may be one that the
/// cancellation has crossed: then it counts once more, until the report after that.
struct RankAccount: Sendable {
    private struct Submission: Sendable {
        var sequences = 1
        var uncachedTokens: Int
        var expectedTokens: Int
    }

    private(set) var report = RankLoad()
    /// Whether there was a report at all.
    private(set) var hasReport = false
    private(set) var knownSubmissions: UInt64 = 0
    private(set) var sentSubmissions: UInt64 = 0

    /// Those that no report knows of, in order; the first is number `knownSubmissions + 1`.
    private var inFlight: [Submission] = []
    /// How many of them are known by now and wait for their memory to be used again.
    private var inFlightHead = 0
    /// Bounded by what is in flight, whatever has been.
    var inFlightCapacity: Int { inFlight.capacity }
    private var inFlightSequences = 0
    private var inFlightTokens = 0
    private var inFlightExpected = 0
    /// Known to the report, and cancelled since.
    private var cancelledSequences = 0
    private var cancelledTokens = 0

    /// Prompt tokens that are not computed yet.
    var pendingTokens: Int {
        max(Int(clamping: report.pendingPrefillTokens) - cancelledTokens, 0) + inFlightTokens
    }

    /// Sequences that run or wait.
    var sequences: Int {
        max(Int(report.running) + Int(report.waiting) - cancelledSequences, 0) + inFlightSequences
    }

    /// - Parameter capacity: tokens that the rank's cache holds.
    func cacheTokens(capacity: Int) -> Int {
        Int(report.kvCacheUsage * Float(capacity)) + inFlightExpected
    }

    // MARK: Events

    /// - Returns: the submission's number.
    mutating func onSubmitted(uncachedTokens: Int, expectedTokens: Int) -> UInt64 {
        inFlight.append(
            Submission(uncachedTokens: uncachedTokens, expectedTokens: expectedTokens))
        inFlightSequences += 1
        inFlightTokens += uncachedTokens
        inFlightExpected += expectedTokens
        sentSubmissions += 1
        return sentSubmissions
    }

    /// A report that came over the link.
    mutating func onReport(_ load: RankLoad, known: UInt64) {
        advance(to: known)
        report = load
        hasReport = true
        cancelledSequences = 0
        cancelledTokens = 0
    }

    /// A report that came by way of the coordinator, which does not say whose submissions it knows.
    /// It counts where that is clear: as many are known as before, or all of this gateway's are.
    ///
    /// - Returns: whether it counts.
    mutating func onRelayedReport(_ load: RankLoad) -> Bool {
        let isClear =
            if hasReport && load.submissions == report.submissions {
                load.tick >= report.tick
            } else {
                knownSubmissions == sentSubmissions
                    && (!hasReport || load.submissions > report.submissions)
            }
        guard isClear else { return false }
        onReport(load, known: knownSubmissions)
        return true
    }

    /// An output shows that its rank knows the submission, whatever the report says.
    mutating func onOutput(of submission: UInt64) { advance(to: submission) }

    /// The gateway has cancelled it.
    ///
    /// - Parameter pendingTokens: of its prompt, not computed as far as the gateway knows.
    mutating func onCancelled(_ submission: UInt64, pendingTokens: Int) {
        guard submission > knownSubmissions else {
            cancelledSequences += 1
            cancelledTokens += pendingTokens
            return
        }
        onRefused(submission)
    }

    /// The rank does not take it. A report that knows of it already counts it no more.
    mutating func onRefused(_ submission: UInt64) {
        guard submission > knownSubmissions else { return }
        let place = inFlightHead + Int(submission - knownSubmissions - 1)
        guard place < inFlight.count else { return }
        forget(inFlight[place])
        inFlight[place] = Submission(sequences: 0, uncachedTokens: 0, expectedTokens: 0)
    }

    private mutating func advance(to known: UInt64) {
        while knownSubmissions < min(known, sentSubmissions) {
            forget(inFlight[inFlightHead])
            inFlightHead += 1
            knownSubmissions += 1
        }
        if inFlightHead == inFlight.count {
            inFlight.removeAll(keepingCapacity: true)
            inFlightHead = 0
        } else if inFlightHead > inFlight.count / 2 {
            inFlight.removeFirst(inFlightHead)
            inFlightHead = 0
        }
    }

    private mutating func forget(_ submission: Submission) {
        inFlightSequences -= submission.sequences
        inFlightTokens -= submission.uncachedTokens
        inFlightExpected -= submission.expectedTokens
    }
}
