import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import EngineWorker

/// Whom an operation waits for, readable while it waits.
@Suite(.serialized) struct WaitBoardTests {
    /// Rank 2 comes when the others have said for whom they wait, in the second operation: the
    /// first one takes no time.
    @Test(arguments: CollectivesHarness.transports)
    func theBoardNamesTheLateRankUntilItComes(kind: CollectivesKind) throws {
        let boards = (0..<3).map { _ in WaitBoard() }
        let endpoints = try CollectivesHarness.endpoints(kind, 3, waits: boards)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            let deadline = CollectivesHarness.deadline(30)
            try group.gatherPatterns(tick: 1, byteCount: 64, deadline: deadline)
            if group.rank == 2 {
                // The others' boards are what it waits for, for a while each.
                let turn = DispatchSemaphore(value: 0)
                while boards[0].current?.peers != [2] || boards[1].current?.peers != [2] {
                    guard MonotonicClock.now() < deadline else { break }
                    _ = turn.wait(timeout: .now() + .milliseconds(20))
                }
                let wait = try #require(boards[1].current)
                #expect(wait.view == 7)
                #expect(MonotonicClock.now() - wait.since >= WaitNotice.after)
                #expect(boards[2].current == nil)
            }
            try group.gatherPatterns(tick: 2, byteCount: 64, deadline: deadline)
            #expect(boards[group.rank].current == nil)
        }
        #expect(outcomes.allSatisfy { $0 == nil }, "\(outcomes)")
    }

    @Test func aShortWaitIsNotPosted() {
        let board = WaitBoard()
        var notice = WaitNotice(board)
        let tag = OperationTag.tickExchange(view: 3, tick: 5)
        let start = Instant(nanoseconds: 10)
        notice.onWaiting(tag, since: start, at: start + .milliseconds(999)) { [1] }
        #expect(board.current == nil)
        notice.onWaiting(tag, since: start, at: start + .milliseconds(1000)) { [1, 4] }
        #expect(board.current == PeerWait(view: 3, peers: [1, 4], since: start))
        notice.onEnded()
        #expect(board.current == nil)
    }
}
