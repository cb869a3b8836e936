import Foundation
import Protocol
import Testing

@Suite struct ProtocolVersionTests {
    struct Pair: Sendable {
        let ours: [UInt32]
        let theirs: [UInt32]
        let common: UInt32?
    }

    static let pairs: [Pair] = [
        Pair(ours: [1, 1], theirs: [1, 1], common: 1),
        Pair(ours: [1, 2], theirs: [1, 1], common: 1),
        Pair(ours: [1, 1], theirs: [1, 2], common: 1),
        Pair(ours: [1, 2], theirs: [1, 2], common: 2),
        Pair(ours: [1, 2], theirs: [2, 3], common: 2),
        Pair(ours: [1, 2], theirs: [1, 9], common: 2),
        Pair(ours: [1, 2], theirs: [3, 4], common: nil),
        Pair(ours: [3, 4], theirs: [1, 2], common: nil),
    ]

    static func range(_ bounds: [UInt32]) throws -> ProtocolRange {
        try #require(ProtocolRange(oldest: bounds[0], newest: bounds[1]))
    }

    @Test(arguments: pairs)
    func theNewestThatBothSpeakIsChosen(pair: Pair) throws {
        let (ours, theirs) = (try Self.range(pair.ours), try Self.range(pair.theirs))
        #expect(ours.newestInCommon(with: theirs) == pair.common)
        #expect(theirs.newestInCommon(with: ours) == pair.common)
        let refusal = ours.refusal(of: theirs, peer: "peer", this: "this")
        #expect((refusal == nil) == (pair.common != nil))
    }

    @Test func aRefusalSaysWhichSideNeedsWhat() throws {
        let old = try Self.range([1, 2])
        let new = try Self.range([3, 4])
        #expect(
            new.refusal(of: old, peer: "the worker", this: "the coordinator")
                == "the worker speaks protocol 1 to 2, the coordinator 3 to 4: install a newer "
                + "release there, one that speaks 3")
        #expect(
            old.refusal(of: new, peer: "the worker", this: "the coordinator")
                == "the worker speaks protocol 3 to 4, the coordinator 1 to 2: install a newer "
                + "release here first, one that speaks 3")
        #expect(old.refusal(of: nil, peer: "x", this: "y")?.contains("no Phalanx") == true)
    }

    @Test func whatIsNoRangeIsNone() {
        #expect(ProtocolRange(oldest: 0, newest: 0) == nil)
        #expect(ProtocolRange(oldest: 0, newest: 2) == nil)
        #expect(ProtocolRange(oldest: 2, newest: 1) == nil)
    }

    @Test func aBuildSpeaksTheVersionBeforeItsOwn() throws {
        #expect(ProtocolVersion.oldest == ProtocolVersion.current - 1)
        #expect(
            ProtocolRange.ofThisBuild
                == (try Self.range([ProtocolVersion.oldest, ProtocolVersion.current])))
    }

    // MARK: The bytes of version 1

    struct OldFrame: Sendable, CustomTestStringConvertible {
        let plane: String
        let name: String
        let bytes: [UInt8]
        var testDescription: String { "\(plane) \(name)" }
    }

    static let oldFrames: [OldFrame] = {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent()
            .appendingPathComponent("Fixtures/protocol/version-1.txt")
        let text = (try? String(contentsOf: path, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
            let words = line.split(separator: " ")
            let digits = words[2].compactMap(\.hexDigitValue)
            return OldFrame(
                plane: String(words[0]), name: String(words[1]),
                bytes: stride(from: 0, to: digits.count - 1, by: 2).map {
                    UInt8(digits[$0] << 4 | digits[$0 + 1])
                })
        }
    }()

    @Test func thereAreAllKindsOfVersionOne() {
        #expect(Self.oldFrames.count { $0.plane == "control" } == 20)
        #expect(Self.oldFrames.count { $0.plane == "gateway" } == 3)
        #expect(Self.oldFrames.count { $0.plane == "leader" } == 3)
    }

    /// What a process of the release before sends is understood, and what is said to it in its
    /// version has its bytes.
    @Test(arguments: oldFrames)
    func aFrameOfVersionOneIsReadAndWrittenAsThen(frame: OldFrame) throws {
        let again =
            switch frame.plane {
            case "control": try Self.again(frame.bytes, as: ControlMessage.self)
            case "gateway": try Self.again(frame.bytes, as: GatewayMessage.self)
            default: try Self.again(frame.bytes, as: LeaderMessage.self)
            }
        #expect(FrameChecks.hex(again) == FrameChecks.hex(frame.bytes))
    }

    private static func again<Message: FramedMessage>(
        _ bytes: [UInt8], as type: Message.Type
    ) throws -> [UInt8] {
        try Message.decode(bytes).get().encoded(in: 1)
    }

    // MARK: What version 2 added

    @Test func whatVersionTwoAddedIsNotWrittenInVersionOne() throws {
        for golden in ControlFrames.ofVersionTwo {
            let new = golden.message
            let old = ControlMessage(
                protocolVersion: 1, incarnation: new.incarnation, view: new.view,
                sequence: new.sequence, body: new.body)
            let seen = try ControlMessage.decode(old.encoded()).get()
            #expect(seen.body != new.body, "\(golden.name)")
            #expect(Self.versions(in: seen.body).allSatisfy { $0 == 1 }, "\(golden.name)")
        }
        var opened = Opened(worker: Incarnation(rawValue: 1), view: 2, requestsMax: 3)
        let plain = opened
        opened.protocolVersion = 2
        opened.refusal = "no"
        let frame = LeaderMessage.opened(opened).encoded(in: 1)
        #expect(LeaderMessage.decode(frame) == .success(.opened(plain)))
    }

    private static func versions(in body: ControlBody) -> [UInt32] {
        switch body {
        case .config(let configuration): [configuration.protocolVersion]
        case .view(let view): [view.protocolVersion]
        case .statusReport(let report):
            [report.protocolVersion, report.viewProtocolVersion]
                + report.peers.map(\.protocolVersion)
        default: []
        }
    }

    @Test(
        arguments: ControlFrames.ofVersionTwo + ControlFrames.newInVersionTwo
            + ControlFrames.probes)
    func aControlFrameOfVersionTwo(golden: GoldenFrame<ControlMessage>) {
        FrameChecks.expectGolden(golden)
        FrameChecks.expectEveryDamageIsHandled(golden)
    }

    @Test func whatCameWithVersionTwoSaysSo() {
        #expect(ControlFrames.probes.allSatisfy { $0.message.body.firstVersion == 2 })
        #expect(ControlFrames.all.allSatisfy { $0.message.body.firstVersion == 1 })
    }

    @Test func anOpenedOfVersionTwo() {
        FrameChecks.expectGolden(LeaderFrames.openedOfVersionTwo)
        FrameChecks.expectEveryDamageIsHandled(LeaderFrames.openedOfVersionTwo)
    }

    @Test func anOpenOfSeveralVersions() {
        FrameChecks.expectGolden(GatewayFrames.openOfVersionTwo)
        FrameChecks.expectEveryDamageIsHandled(GatewayFrames.openOfVersionTwo)
    }

    /// A leader of version 1 reads the first field alone, and must find there what it speaks.
    @Test func anOpenNamesTheOldestVersionWhereVersionOneLooks() {
        let bytes = GatewayFrames.openOfVersionTwo.bytes
        #expect(Array(bytes[2...3]) == Wire.integer(1, 1))
    }

    @Test func versionsOfAnOpenThatAreNoRangeAreNone() {
        let open = Wire.message(1, Wire.integer(1, 3) + Wire.integer(4, 2))
        #expect(
            GatewayMessage.decode(open)
                == .success(.open(protocols: nil, gateway: Incarnation(rawValue: 0), view: 0)))
    }
}
