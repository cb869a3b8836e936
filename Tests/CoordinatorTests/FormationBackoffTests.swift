import Protocol
import Testing

@testable import Coordinator

@Suite struct FormationBackoffTests {
    private let start = Instant(nanoseconds: 1_000_000_000_000)

    /// Milliseconds after the end of a view in which none may be formed.
    private func pause(_ backoff: FormationBackoff, after end: Instant) -> Int {
        (0...6000).first { backoff.allowsForming(at: end + .milliseconds($0)) } ?? -1
    }

    @Test func shortLivesWaitTwiceAsLongEachUpToALimit() {
        var backoff = FormationBackoff()
        var now = start
        var pauses: [Int] = []
        for _ in 0..<10 {
            backoff.onFormed(at: now)
            backoff.onEnded(at: now + .milliseconds(5))
            pauses.append(pause(backoff, after: now + .milliseconds(5)))
            now = now + .seconds(6)
        }
        #expect(pauses == [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000])
    }

    @Test func aGoodViewStartsAgain() {
        var backoff = FormationBackoff()
        for _ in 0..<5 {
            backoff.onFormed(at: start)
            backoff.onEnded(at: start)
        }
        backoff.onFormed(at: start + .seconds(10))
        let end = start + .seconds(21)
        backoff.onEnded(at: end)
        #expect(pause(backoff, after: end) == 0)
    }

    @Test func whatNeverFormedHasNoPause() {
        var backoff = FormationBackoff()
        for _ in 0..<5 { backoff.onEnded(at: start) }
        #expect(backoff.allowsForming(at: start))
    }
}
