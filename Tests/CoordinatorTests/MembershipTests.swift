import Protocol
import Testing

@testable import Coordinator

@Suite struct MembershipTests {
    let start = Instant(nanoseconds: 0)
    var membership = Membership(
        worldSize: 3, placesMax: 3, tensorParallelSize: 1, configuration: [], lease: .seconds(5))

    mutating func admit(_ number: UInt8, node: String = "a", role: PeerRole = .worker) -> UInt32? {
        let hello = Hello(
            role: role, node: node, device: UInt32(number), pid: 1, softwareVersion: "0",
            declared: [])
        guard
            case .admit(let peer, _) = membership.onHello(
                hello, identity: [number], incarnation: Incarnation(rawValue: 1), at: start)
        else { return nil }
        return peer.worker
    }

    @Test mutating func workersGetTheLowestFreePlace() {
        #expect(admit(10) == 0)
        #expect(admit(11) == 1)
        #expect(admit(12) == 2)
        #expect(admit(13) == nil)
        #expect(membership.remove([11])?.worker == 1)
        #expect(membership.remove([11]) == nil)
        #expect(admit(14) == 1)
        #expect(membership.workers.map(\.identity) == [[10], [14], [12]])
    }

    /// The answer to the first HELLO may be on its way, and counts.
    @Test mutating func whoSaysHelloTwiceKeepsItsPlace() {
        #expect(admit(10) == 0)
        #expect(admit(11) == 1)
        #expect(membership.remove([10])?.worker == 0)
        #expect(admit(11) == 1)
        #expect(admit(12) == 0)
    }

    private static func hello(
        _ node: String, _ device: UInt32, startRank: UInt32? = nil
    ) -> Hello {
        var hello = Hello(
            role: .worker, node: node, device: device, pid: 1, softwareVersion: "0", declared: [])
        (hello.startRank, hello.devicePlace) = (startRank, device)
        return hello
    }

    /// The workers that join one after the other; the texts of those that may not.
    private static func join(
        _ hellos: [Hello], worldSize: UInt32, tensorParallelSize: UInt32
    ) -> (places: [UInt32], refusals: [String]) {
        var membership = Membership(
            worldSize: worldSize, placesMax: worldSize, tensorParallelSize: tensorParallelSize,
            configuration: [], lease: .seconds(5))
        var (places, refusals): ([UInt32], [String]) = ([], [])
        for (number, hello) in hellos.enumerated() {
            let incarnation = Incarnation(rawValue: UInt64(number + 1))
            switch membership.onHello(
                hello, identity: [UInt8(number)], incarnation: incarnation,
                at: Instant(nanoseconds: 0))
            {
            case .admit(let peer, _): places.append(peer.worker)
            case .refuse(let refusal): refusals.append(refusal.text)
            }
        }
        return (places, refusals)
    }

    @Test func theWorkersOfARankAreOnOneNodeHoweverTheyCome() {
        let hellos = [
            ("b", 0), ("a", 1), ("b", 1), ("a", 0), ("a", 2), ("b", 2), ("b", 3), ("a", 3),
        ]
        let joined = Self.join(
            hellos.map { Self.hello($0.0, UInt32($0.1)) }, worldSize: 8, tensorParallelSize: 2)
        // b, a, b, a, then each node's second rank.
        #expect(joined.places == [0, 2, 1, 3, 4, 6, 7, 5])
        #expect(joined.refusals.isEmpty)
    }

    @Test func aRankIsDividedOverNodesOnlyWhereNothingElseIsLeft() {
        let hellos = [
            Self.hello("a", 0), Self.hello("b", 0), Self.hello("b", 1), Self.hello("b", 2),
        ]
        let joined = Self.join(hellos, worldSize: 4, tensorParallelSize: 2)
        #expect(joined.places == [0, 2, 3, 1])
    }

    @Test func aStartRankGivesEachDeviceItsPlace() {
        let hellos = (0..<4).reversed().flatMap { device in
            [
                Self.hello("b", UInt32(device), startRank: 2),
                Self.hello("a", UInt32(device), startRank: 0),
            ]
        }
        let joined = Self.join(hellos, worldSize: 8, tensorParallelSize: 2)
        #expect(joined.places == [7, 3, 6, 2, 5, 1, 4, 0])
    }

    @Test func aStartRankThatIsTakenOrTooHighIsRefusedWithTheReason() {
        let taken = Self.join(
            [Self.hello("a", 1, startRank: 0), Self.hello("b", 1, startRank: 0)],
            worldSize: 4, tensorParallelSize: 2)
        #expect(taken.places == [1])
        #expect(taken.refusals.first?.contains("worker 1 (node a, device 1)") == true)
        let high = Self.join(
            [Self.hello("b", 3, startRank: 1)], worldSize: 4, tensorParallelSize: 2)
        #expect(high.refusals.first?.contains("worker 5, but 2 DP ranks of 2") == true)
        let overflow = Self.join(
            [Self.hello("b", .max, startRank: .max)], worldSize: 4, tensorParallelSize: 2)
        #expect(overflow.places.isEmpty)
    }

    @Test mutating func gatewaysTakeNoPlace() {
        for number in 0..<20 as Range<UInt8> { #expect(admit(number, role: .gateway) == 0) }
        #expect(admit(100) == 0 && admit(101) == 1 && admit(102) == 2)
        #expect(membership.gateways.count == 20)
    }

    @Test mutating func theSameDeviceOnAnotherNodeIsAnotherWorker() {
        #expect(admit(10, node: "a") == 0)
        membership.update([10]) { $0.stage = .configured }
        let hello = Hello(
            role: .worker, node: "b", device: 10, pid: 1, softwareVersion: "0", declared: [])
        let action = membership.onHello(
            hello, identity: [77], incarnation: Incarnation(rawValue: 2), at: start)
        guard case .admit(let peer, let replaced) = action else {
            Issue.record("\(action)")
            return
        }
        #expect(peer.worker == 1 && replaced == nil)
    }

    @Test mutating func aLeaseEndsAfterItsLengthAndNotAtIt() {
        _ = admit(1)
        _ = admit(2)
        membership.onHeard([2], at: start + .seconds(1))
        #expect(membership.expire(at: start + .seconds(5)).isEmpty)
        let lost = membership.expire(at: start + .seconds(5) + Interval(nanoseconds: 1))
        #expect(lost.map(\.identity) == [[1]])
        #expect(membership.peers.map(\.identity) == [[2]])
    }

    @Test mutating func missingNamesEveryPlace() {
        _ = admit(1)
        _ = admit(2)
        let ready = Ready(
            endpoint: "", collectivesAddress: [], modelDigest: "", blockCount: 1, blockSize: 1,
            position: GroupPosition(rank: 0, worldSize: 3))
        membership.update([1]) { $0.stage = .ready(ready) }
        #expect(
            membership.missing(ranksMin: 3) == [
                "worker 1 (node a, device 2) is not ready", "worker 2 has not said HELLO",
            ])
        membership.forgetReadiness(of: 2)
        #expect(membership.missing(ranksMin: 3).count == 3)
        #expect(
            membership.missing(ranksMin: 3, namedMax: 1) == [
                "worker 0 (node a, device 1) is not ready", "2 more",
            ])
    }

    @Test mutating func peersAreBounded() {
        for number in 0..<Membership.peersMax {
            let hello = Hello(
                role: .gateway, node: "", device: 0, pid: 1, softwareVersion: "", declared: [])
            let identity = [UInt8(number >> 8), UInt8(number & 255)]
            _ = membership.onHello(
                hello, identity: identity, incarnation: Incarnation(rawValue: 1), at: start)
        }
        #expect(membership.peers.count == Membership.peersMax)
        #expect(admit(9) == nil)
        #expect(membership.peers.count == Membership.peersMax)
    }
}
