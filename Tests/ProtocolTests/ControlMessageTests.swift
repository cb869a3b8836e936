import Protocol
import Testing

@Suite struct ControlMessageTests {
    @Test(arguments: ControlFrames.all)
    func aFrameIsWrittenAndReadAsInVersionOne(golden: GoldenFrame<ControlMessage>) {
        FrameChecks.expectGolden(golden)
    }

    @Test(arguments: ControlFrames.all)
    func noTruncationOrBitFlipCrashesTheDecoder(golden: GoldenFrame<ControlMessage>) {
        FrameChecks.expectEveryDamageIsHandled(golden)
    }

    @Test func noiseNeverCrashesTheDecoder() {
        FrameChecks.expectNoiseIsHandled(ControlFrames.all + ControlFrames.probes, rounds: 3000)
    }

    @Test func everyKindHasAGoldenFrame() {
        let kinds = Set(
            (ControlFrames.all + ControlFrames.probes).map {
                String(describing: $0.message.body).prefix { $0 != "(" }
            })
        #expect(kinds.count == 23)
    }

    @Test func aFrameAboveTheLimitIsRefusedUnread() {
        let limit = CodecLimits.controlMessageBytesMax
        let frame = [UInt8](repeating: 0xFF, count: limit + 1)
        #expect(
            ControlMessage.decode(frame)
                == .failure(.tooLarge(message: "Envelope", byteCount: limit + 1, limit: limit)))
    }

    @Test func anEnvelopeWithoutBodyOrWithAnUnknownOneIsRefused() {
        let missing = Result<ControlMessage, CodecError>.failure(.missingBody(message: "Envelope"))
        #expect(ControlMessage.decode([]) == missing)
        #expect(ControlMessage.decode(Wire.integer(1, 1)) == missing)
        #expect(ControlMessage.decode(Wire.message(99, [])) == missing)
    }

    @Test func fieldsOfALaterVersionAreSkipped() {
        let frame = ControlFrames.wake.bytes + Wire.integer(500, 1) + Wire.message(501, [1, 2])
        #expect(ControlMessage.decode(frame) == .success(ControlFrames.wake.message))
    }

    /// Field number of the body, what is in it, and the field that the refusal names.
    struct BadBody: Sendable {
        let field: UInt64
        let body: [UInt8]
        let named: String
    }

    static let badBodies: [BadBody] = [
        BadBody(field: 10, body: [], named: "role"),
        BadBody(field: 10, body: Wire.integer(1, 3), named: "role"),
        BadBody(field: 11, body: Wire.integer(1, 1), named: "lease_milliseconds"),
        BadBody(field: 12, body: Wire.integer(1, 99), named: "reason"),
        BadBody(field: 13, body: Wire.integer(5, 16), named: "block_count"),
        BadBody(field: 13, body: Wire.integer(4, 16), named: "block_size"),
        BadBody(field: 14, body: Wire.integer(2, 0), named: "state"),
        BadBody(field: 14, body: Wire.integer(2, 4), named: "state"),
        // Two members in the wrong order, and one worker twice.
        BadBody(field: 14, body: view([1, 0]), named: "members"),
        BadBody(field: 14, body: view([0, 0]), named: "members"),
        BadBody(
            field: 14, body: view((0...UInt64(CodecLimits.membersMax)).map { $0 }),
            named: "members"),
        BadBody(field: 16, body: Wire.integer(1, 8) + Wire.message(3, []), named: "stage"),
        BadBody(
            field: 16, body: Wire.integer(1, 1) + Wire.message(3, Wire.float(5, .nan)),
            named: "kv_cache_usage"),
        BadBody(field: 31, body: Wire.integer(5, 1), named: "view_state"),
        BadBody(field: 31, body: Wire.integer(9, 3), named: "tensor_parallel_size"),
        BadBody(field: 31, body: report(Wire.message(15, Wire.integer(1, 9))), named: "role"),
        BadBody(
            field: 31, body: report(Wire.message(15, Wire.integer(1, 1) + Wire.integer(10, 99))),
            named: "stage"),
        BadBody(
            field: 31,
            body: report(
                (0...CodecLimits.statusMissingMax).flatMap { _ in Wire.message(12, [0x61]) }),
            named: "missing"),
        BadBody(
            field: 31,
            body: report(
                (0...CodecLimits.statusPeersMax).flatMap { _ in
                    Wire.message(15, Wire.integer(1, 1) + Wire.message(17, []))
                }), named: "peers"),
        BadBody(field: 22, body: Wire.message(1, Wire.float(5, 1.5)), named: "kv_cache_usage"),
    ]

    static func report(_ rest: [UInt8]) -> [UInt8] {
        Wire.integer(5, 1) + Wire.integer(9, 3) + rest
    }

    static func view(_ workers: [UInt64]) -> [UInt8] {
        Wire.integer(2, 2) + workers.flatMap { Wire.message(3, Wire.integer(1, $0)) }
    }

    @Test(arguments: badBodies)
    func aValueOutOfRangeIsRefusedByName(bad: BadBody) {
        guard
            case .failure(.invalid(_, let field, _)) = ControlMessage.decode(
                Wire.message(bad.field, bad.body))
        else {
            Issue.record("\(bad) is taken")
            return
        }
        #expect(field == bad.named)
    }

    @Test func aHeartbeatWithoutLoadIsRefused() {
        #expect(
            ControlMessage.decode(Wire.message(16, Wire.integer(1, 1)))
                == .failure(.missingBody(message: "Heartbeat.load")))
    }

    @Test(arguments: [UInt64.max, 1 << 62, 9_223_372_036_854_776])
    func aTickAgeBeyondTheClockIsAVeryLongTime(milliseconds: UInt64) {
        let body = Wire.integer(1, 6) + Wire.message(3, []) + Wire.integer(4, milliseconds)
        guard
            case .success(let message) = ControlMessage.decode(Wire.message(16, body)),
            case .heartbeat(let heartbeat) = message.body
        else {
            Issue.record("refused")
            return
        }
        #expect(heartbeat.tickAge == Interval(nanoseconds: .max))
    }

    @Test func aNulInATextDoesNotCutIt() {
        let message = ControlFrames.envelope(.leave(reason: "a\0b"))
        #expect(
            ControlMessage.decode(message.encoded())
                == .success(ControlFrames.envelope(.leave(reason: "a?b"))))
    }

    @Test func bytesThatAreNoUTF8AreRepaired() {
        let decoded = ControlMessage.decode(Wire.message(23, Wire.message(1, [0x61, 0xFF, 0x62])))
        guard case .success(let message) = decoded else {
            Issue.record("\(decoded)")
            return
        }
        #expect(message.body == .leave(reason: "a\u{FFFD}b"))
    }
}
