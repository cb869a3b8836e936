import DaemonRuntime
import Foundation
import Protocol
import Testing

@testable import EngineWorker

@Suite(.serialized) struct CollectivesTests {
    static let cases = CollectivesHarness.transports.flatMap { kind in
        [2, 3, 4].map { (kind, $0) }
    }

    @Test(arguments: cases)
    func gathersBringEveryPartToEveryRank(kind: CollectivesKind, worldSize: Int) throws {
        let endpoints = try CollectivesHarness.endpoints(kind, worldSize)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            for (tick, byteCount) in [0, 1, 7, 64, 96, 4096].enumerated() {
                try group.gatherPatterns(
                    tick: UInt64(tick), byteCount: byteCount,
                    deadline: CollectivesHarness.deadline())
            }
        }
        for outcome in outcomes { #expect(outcome == nil) }
    }

    @Test(arguments: cases)
    func messagesOfAnySizeReachTheirPeers(kind: CollectivesKind, worldSize: Int) throws {
        let endpoints = try CollectivesHarness.endpoints(kind, worldSize)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            let outgoing = PeerBuffers(peerCount: worldSize)
            let incoming = PeerBuffers(peerCount: worldSize)
            for (tick, byteCount) in [0, 1, 4095, 4097, 16384, 200_001].enumerated() {
                try group.exchangePatterns(
                    tick: UInt64(tick), outgoing: outgoing, incoming: incoming,
                    deadline: CollectivesHarness.deadline(), size: { _, _ in byteCount })
            }
            // Asymmetric: each pair another size, some of them nothing.
            try group.exchangePatterns(
                tick: 99, outgoing: outgoing, incoming: incoming,
                deadline: CollectivesHarness.deadline(),
                size: { sender, receiver in sender == 0 ? 0 : sender * 40_003 + receiver })
        }
        for outcome in outcomes { #expect(outcome == nil) }
    }

    @Test(arguments: cases)
    func randomTrafficArrivesUnchanged(kind: CollectivesKind, worldSize: Int) throws {
        let seed = MonotonicClock.randomUInt64()
        print("randomTrafficArrivesUnchanged \(kind) \(worldSize): seed \(seed)")
        let endpoints = try CollectivesHarness.endpoints(kind, worldSize)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            let outgoing = PeerBuffers(peerCount: worldSize)
            let incoming = PeerBuffers(peerCount: worldSize)
            for tick in 0..<UInt64(60) {
                let deadline = CollectivesHarness.deadline()
                try group.gatherPatterns(tick: tick, byteCount: 64, deadline: deadline)
                try group.exchangePatterns(
                    tick: tick, outgoing: outgoing, incoming: incoming, deadline: deadline
                ) { sender, receiver in
                    var generator = TestGenerator(
                        state: seed ^ Pattern.seed(tick, sender, receiver))
                    let limit = 1 << Int.random(in: 0...16, using: &generator)
                    return Int.random(in: 0...limit, using: &generator)
                }
            }
            #expect(group.statistics.operations == 122)
        }
        for outcome in outcomes { #expect(outcome == nil, "seed \(seed)") }
    }

    @Test(arguments: CollectivesHarness.transports)
    func statisticsCountPayloadAndNameTheLatePeer(kind: CollectivesKind) throws {
        let endpoints = try CollectivesHarness.endpoints(kind, 2)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            try group.gatherPatterns(
                tick: 1, byteCount: 100, deadline: CollectivesHarness.deadline())
            // Twice 8 bytes of the meeting, 100 here.
            #expect(group.statistics.bytesSent == 116)
            #expect(group.statistics.bytesReceived == 116)
            #expect(group.statistics.operations == 3)
            #expect(group.statistics.waitedNanoseconds[1 - group.rank] > 0)
            #expect(group.statistics.waitedNanoseconds[group.rank] == 0)
        }
        for outcome in outcomes { #expect(outcome == nil) }
    }

    @Test(arguments: CollectivesHarness.transports)
    func printsTheLatencyOfASmallGather(kind: CollectivesKind) throws {
        let endpoints = try CollectivesHarness.endpoints(
            kind, 2)
        defer { for endpoint in endpoints { endpoint.close() } }
        let outcomes = CollectivesHarness.run(endpoints) { group in
            let send = [UInt8](repeating: 1, count: 64)
            var receive = [UInt8](repeating: 0, count: 128)
            var samples: [Int64] = []
            for tick in 0..<UInt64(2000) {
                let start = MonotonicClock.now()
                try send.withUnsafeBytes { source in
                    try receive.withUnsafeMutableBytes { target in
                        try group.allGather(
                            source, into: target, tag: .tickExchange(view: 7, tick: tick),
                            deadline: start + .seconds(20))
                    }
                }
                samples.append((MonotonicClock.now() - start).nanoseconds)
            }
            samples.sort()
            if group.rank == 0 {
                print(
                    "64-byte gather of 2 threads, \(kind): p50 \(samples[1000]) ns, "
                        + "p99 \(samples[1980]) ns")
            }
        }
        for outcome in outcomes { #expect(outcome == nil) }
    }
}
