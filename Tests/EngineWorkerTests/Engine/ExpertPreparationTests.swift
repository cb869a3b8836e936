import DaemonRuntime
import Protocol
import Testing

@testable import EngineWorker

/// The experts of the next view beside a model that computes with its own, which is place 0 of 1.
@Suite struct ExpertPreparationTests {
    private final class Preparation {
        let fixture: EngineFixture
        let commands = Mailbox<EngineCommand>(capacity: 16)
        private(set) var answers: [GroupPosition] = []
        private lazy var preparation = ExpertPreparation(
            fixture.engine, EngineFixture.configuration(), commands
        ) { [unowned self] event in
            if case .prepared(let position, "") = event { answers.append(position) }
        }

        init() throws { fixture = try EngineFixture() }

        func ask(for position: GroupPosition) { preparation.onPrepare(position) }
        func endView() { preparation.onViewEnded() }

        /// The thread that loads has come to an end.
        func finish() {
            commands.wait(until: MonotonicClock.now() + .seconds(60))
            var taken: [EngineCommand] = []
            commands.takeAll(into: &taken)
            #expect(taken.count == 1)
            for case .shareLoaded(let share, let failure) in taken {
                preparation.onLoaded(share, failure: failure)
            }
        }
    }

    private func place(_ rank: UInt32, _ worldSize: UInt32) -> GroupPosition {
        GroupPosition(rank: rank, worldSize: worldSize)
    }

    @Test func whatWasPreparedMakesRoomForWhatIsWantedNow() throws {
        let preparation = try Preparation()
        preparation.ask(for: place(0, 2))
        preparation.finish()
        #expect(preparation.fixture.engine.nextPosition == place(0, 2))
        preparation.ask(for: place(0, 3))
        // While the third division is loaded, the second one is not there any more.
        #expect(preparation.fixture.engine.nextPosition == place(0, 1))
        preparation.finish()
        #expect(preparation.fixture.engine.nextPosition == place(0, 3))
        #expect(preparation.answers == [place(0, 2), place(0, 3)])
    }

    @Test func whatIsLoadedWhenAViewEndsTakesNoPlaceBehindItsEnd() throws {
        let preparation = try Preparation()
        preparation.ask(for: place(1, 2))
        // READY says here that this worker has place 0 of 1.
        preparation.endView()
        preparation.finish()
        #expect(preparation.fixture.engine.nextPosition == place(0, 1))
        #expect(preparation.answers.isEmpty)
        // Asked for again while it is loaded still, it is loaded once.
        preparation.ask(for: place(1, 2))
        preparation.endView()
        preparation.ask(for: place(1, 2))
        preparation.finish()
        #expect(preparation.fixture.engine.nextPosition == place(1, 2))
        #expect(preparation.answers == [place(1, 2)])
    }

    @Test func whatIsNotWantedAnyMoreIsNotKept() throws {
        let preparation = try Preparation()
        preparation.ask(for: place(0, 2))
        preparation.ask(for: place(0, 1))
        preparation.finish()
        #expect(preparation.fixture.engine.nextPosition == place(0, 1))
        #expect(preparation.answers == [place(0, 1)])
    }
}
