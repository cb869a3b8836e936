import Protocol
import Testing

@Suite struct RefusedSubmitTests {
    private func requestID(_ frame: [UInt8]) -> RequestID? {
        frame.withUnsafeBytes { GatewayMessage.requestID(ofRefusedSubmit: $0) }
    }

    @Test func aSubmitWithAValueOutOfRangeIsNamed() {
        var sampling = SamplingParameters()
        sampling.temperature = -1
        let frame = GatewayMessage.submit(
            GenerationRequest(
                requestID: RequestID(rawValue: 77), view: 1, promptTokenIDs: [1],
                sampling: sampling, priority: 0)
        ).encoded()
        #expect(throws: CodecError.self) {
            try frame.withUnsafeBytes { (bytes) throws(CodecError) in
                try GatewayMessage.decode(bytes)
            }
        }
        #expect(requestID(frame) == RequestID(rawValue: 77))
    }

    @Test func whatIsNoSubmitHasNoRequest() {
        #expect(requestID(GatewayMessage.cancel([RequestID(rawValue: 3)]).encoded()) == nil)
        #expect(requestID([]) == nil)
        #expect(requestID([0xFF, 0x00, 0x13]) == nil)
    }
}
