import Protocol
import Testing

@testable import EngineWorker

@Suite struct DepartureTests {
    private let start = Instant(nanoseconds: 0)

    private func second(_ count: Int) -> Instant { start + .seconds(count) }

    private func draining(patience: Int = 30) -> Departure {
        var departure = Departure()
        departure.begin(at: start, patience: .seconds(patience))
        return departure
    }

    @Test func whoStaysDoesNothing() {
        var departure = Departure()
        #expect(!departure.began)
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(1)) == .none)
        departure.onReleased(at: second(1))
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(99)) == .none)
    }

    @Test func itsSequencesEndFirst() {
        var departure = draining()
        #expect(departure.began)
        #expect(departure.next(sequences: 2, isLoaded: true, at: second(29)) == .none)
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(29)) == .ask)
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(29)) == .none)
        // The request may have been lost.
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(30)) == .ask)
        departure.onReleased(at: second(31))
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(31)) == .end)
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(40)) == .none)
    }

    @Test func whatIsLeftIsHandedBackOnce() {
        var departure = draining(patience: 1)
        #expect(departure.next(sequences: 3, isLoaded: true, at: second(1)) == .ask)
        departure.onReleased(at: second(2))
        #expect(departure.next(sequences: 3, isLoaded: true, at: second(2)) == .handBack)
        #expect(departure.next(sequences: 1, isLoaded: true, at: second(3)) == .none)
        #expect(departure.next(sequences: 0, isLoaded: true, at: second(3)) == .end)
    }

    @Test func nobodyIsWaitedForWithoutEnd() {
        var departure = draining(patience: 1)
        #expect(departure.next(sequences: 1, isLoaded: true, at: second(1)) == .ask)
        let limit = second(1) + Departure.releaseWithin
        #expect(departure.next(sequences: 1, isLoaded: true, at: limit) == .end)

        departure = draining(patience: 1)
        #expect(departure.next(sequences: 1, isLoaded: true, at: second(1)) == .ask)
        departure.onReleased(at: second(2))
        #expect(departure.next(sequences: 1, isLoaded: true, at: second(2)) == .handBack)
        #expect(
            departure.next(sequences: 1, isLoaded: true, at: second(2) + Departure.handBackWithin)
                == .end)
    }

    @Test func whoHasNotLoadedIsMissedByNobody() {
        var departure = draining()
        #expect(departure.next(sequences: 0, isLoaded: false, at: start) == .end)
    }
}
