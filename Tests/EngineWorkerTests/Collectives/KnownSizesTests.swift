import DaemonRuntime
import Protocol
import Testing

@testable import EngineWorker

/// All-to-alls in which every worker knows what it gets.
@Suite struct KnownSizesTests {
    @Test(arguments: CollectivesHarness.transports)
    func emptyPartsMayBeLeftOutAndTheOthersArrive(kind: CollectivesKind) throws {
        let endpoints = try CollectivesHarness.endpoints(kind, 3)
        defer { for endpoint in endpoints { endpoint.close() } }
        // More than a ring of the harness holds, something, and nothing.
        @Sendable func size(from sender: Int, to receiver: Int) -> Int {
            [0, 100, 50_000][(sender + 2 * receiver) % 3]
        }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            let (outgoing, incoming) = (PeerBuffers(peerCount: 3), PeerBuffers(peerCount: 3))
            for tick in 0..<20 as Range<UInt64> {
                for peer in 0..<3 {
                    outgoing.setCount(size(from: group.rank, to: peer), of: peer)
                    incoming.setCount(size(from: peer, to: group.rank), of: peer)
                    let pattern = UInt8(group.rank * 50 + peer * 10) &+ UInt8(tick)
                    outgoing[peer].initializeMemory(as: UInt8.self, repeating: pattern)
                }
                try group.allToAllOfKnownSizes(
                    outgoing: outgoing, incoming: incoming,
                    tag: .combine(view: 7, tick: tick, layer: 3),
                    deadline: CollectivesHarness.deadline())
                for peer in 0..<3 {
                    let pattern = UInt8(peer * 50 + group.rank * 10) &+ UInt8(tick)
                    #expect(incoming.count(of: peer) == size(from: peer, to: group.rank))
                    #expect(incoming[peer].allSatisfy { $0 == pattern })
                }
            }
        }
        for outcome in outcomes { #expect(outcome == nil) }
    }

    @Test func whoGetsNothingDoesNotWait() throws {
        let endpoints = try CollectivesHarness.endpoints(.sharedMemory, 2)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            // Rank 1 never takes part, and rank 0 goes on.
            guard group.rank == 0 else { return }
            let (outgoing, incoming) = (PeerBuffers(peerCount: 2), PeerBuffers(peerCount: 2))
            outgoing.setCount(64, of: 1)
            try group.allToAllOfKnownSizes(
                outgoing: outgoing, incoming: incoming,
                tag: .combine(view: 7, tick: 1, layer: 1), deadline: CollectivesHarness.deadline())
            #expect(group.statistics.bytesSent >= 64)
        }
        for outcome in outcomes { #expect(outcome == nil) }
    }

    @Test func anotherSizeThanWasAgreedNamesThePeer() throws {
        let endpoints = try CollectivesHarness.endpoints(.sharedMemory, 2)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            let (outgoing, incoming) = (PeerBuffers(peerCount: 2), PeerBuffers(peerCount: 2))
            outgoing.setCount(group.rank == 0 ? 8 : 16, of: 1 - group.rank)
            incoming.setCount(8, of: 1 - group.rank)
            try group.allToAllOfKnownSizes(
                outgoing: outgoing, incoming: incoming,
                tag: .combine(view: 7, tick: 1, layer: 1), deadline: CollectivesHarness.deadline())
        }
        guard case .peerLost(1, _, let reason) = outcomes[0] as? CollectiveError else {
            Issue.record("\(String(describing: outcomes[0]))")
            return
        }
        #expect(reason.contains("16 bytes"))
    }
}
