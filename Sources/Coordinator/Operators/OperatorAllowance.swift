import Protocol

/// How many questions of operators the coordinator answers: a report is large, and whoever asks in
/// a loop must not keep it from its peers. What is over is dropped, because an operator that hears
/// nothing asks again. A token bucket; time is a parameter.
struct OperatorAllowance: Equatable {
    static let burstMax = 32
    static let answersPerSecond = 16

    private var left = burstMax
    private var countedFrom: Instant?

    mutating func take(at now: Instant) -> Bool {
        let one = Interval(nanoseconds: 1_000_000_000 / Int64(Self.answersPerSecond))
        if let from = countedFrom {
            let earned = (now - from).nanoseconds / one.nanoseconds
            if left + Int(clamping: earned) >= Self.burstMax {
                left = Self.burstMax
                countedFrom = now
            } else if earned > 0 {
                left += Int(earned)
                countedFrom = from + Interval(nanoseconds: earned * one.nanoseconds)
            }
        } else {
            countedFrom = now
        }
        guard left > 0 else { return false }
        left -= 1
        return true
    }
}
