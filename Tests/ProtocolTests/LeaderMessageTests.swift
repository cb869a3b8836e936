import Protocol
import Testing

@Suite struct LeaderMessageTests {
    @Test(arguments: LeaderFrames.all)
    func aFrameIsWrittenAndReadAsInVersionOne(golden: GoldenFrame<LeaderMessage>) {
        FrameChecks.expectGolden(golden)
    }

    @Test(arguments: LeaderFrames.all)
    func noTruncationOrBitFlipCrashesTheDecoder(golden: GoldenFrame<LeaderMessage>) {
        FrameChecks.expectEveryDamageIsHandled(golden)
    }

    @Test func noiseNeverCrashesTheDecoder() {
        FrameChecks.expectNoiseIsHandled(LeaderFrames.all, rounds: 3000)
    }

    @Test func aFrameAboveTheLimitIsRefusedUnread() {
        let limit = CodecLimits.leaderMessageBytesMax
        // Not touched before it is refused, so its pages cost nothing.
        let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: limit + 1, alignment: 1)
        defer { frame.deallocate() }
        #expect(
            throws: CodecError.tooLarge(
                message: "LeaderMessage", byteCount: limit + 1, limit: limit)
        ) {
            try LeaderMessage.decode(UnsafeRawBufferPointer(frame))
        }
    }

    @Test func aMessageWithoutBodyOrLoadIsRefused() {
        let missing = CodecError.missingBody(message: "LeaderMessage")
        #expect(LeaderMessage.decode([]) == .failure(missing))
        #expect(LeaderMessage.decode(Wire.message(99, [])) == .failure(missing))
        #expect(LeaderMessage.decode(Wire.message(2, [])) == .failure(missing))
    }

    @Test(arguments: [5, 99, 256, 257, 0xFFFF_FFFF] as [UInt64])
    func anUnknownFinishReasonIsRefused(reason: UInt64) {
        let output = Wire.message(1, Wire.integer(5, reason))
        #expect(
            LeaderMessage.decode(Wire.message(2, output + Wire.message(2, [])))
                == .failure(
                    .invalid(message: "Output", field: "finish_reason", value: "\(reason)")))
    }

    @Test(arguments: FinishReason.allCases)
    func everyFinishReasonArrives(reason: FinishReason) {
        let output = RequestOutput(requestID: RequestID(rawValue: 1), finishReason: reason)
        let message = LeaderMessage.outputs([output], load: RankLoad(), knownSubmissions: 3)
        #expect(
            LeaderMessage.decode(message.encoded(in: ProtocolVersion.current)) == .success(message))
    }

    @Test func moreStagesThanThereArePlacesAreRefused() {
        func frame(_ count: Int) -> [UInt8] {
            let load = Wire.message(13, [UInt8](repeating: 7, count: count))
            return Wire.message(2, Wire.message(2, load))
        }
        #expect(
            LeaderMessage.decode(frame(17))
                == .failure(
                    .invalid(message: "RankLoad", field: "stage_nanoseconds", value: "17 stages")))
        var load = RankLoad()
        for stage in TickStage.allCases { load.stageTimes[stage] = 7 }
        #expect(
            LeaderMessage.decode(frame(TickStage.allCases.count))
                == .success(.outputs([], load: load, knownSubmissions: 0)))
    }

    @Test func aNegativeStopTokenIsRefused() {
        let output = Wire.message(1, Wire.integer(6, UInt64(bitPattern: -1)))
        #expect(
            LeaderMessage.decode(Wire.message(2, output + Wire.message(2, [])))
                == .failure(.invalid(message: "Output", field: "stop_token_id", value: "-1")))
    }

    @Test(arguments: [0, 6, 99] as [UInt64])
    func anUnknownRejectionIsRefused(reason: UInt64) {
        #expect(
            LeaderMessage.decode(Wire.message(3, Wire.integer(2, reason)))
                == .failure(.invalid(message: "Rejected", field: "reason", value: "\(reason)")))
    }

    @Test(arguments: RejectionReason.allCases)
    func everyRejectionArrives(reason: RejectionReason) {
        let message = LeaderMessage.rejected(RequestID(rawValue: 3), reason: reason, text: "full")
        #expect(
            LeaderMessage.decode(message.encoded(in: ProtocolVersion.current)) == .success(message))
    }
}
