/// One gateway's submissions by the number of the rank's last sequence at their time, so that a
/// report of the rank can say how many of them it knows of.
///
/// Holds those alone that no report knew of yet.
struct SubmissionCount {
    private var unknown: [UInt64] = []
    private var knownCount: UInt64 = 0

    /// - Parameter sequence: number of the last sequence that the rank was given, this submission
    ///   included if it became one.
    mutating func onSubmitted(behind sequence: UInt64) { unknown.append(sequence) }

    /// - Parameter submissions: sequences that the report counts.
    mutating func known(counting submissions: UInt64) -> UInt64 {
        let newlyKnown = unknown.prefix { $0 <= submissions }.count
        if newlyKnown > 0 {
            unknown.removeFirst(newlyKnown)
            knownCount += UInt64(newlyKnown)
        }
        return knownCount
    }
}
