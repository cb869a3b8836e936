/// libFuzzer's entry: the first byte chooses the decoder. A frame that is accepted must survive
/// being packed again.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFrames(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    // A copy of its own: the address sanitizer sees a read beyond its end.
    let frame = UnsafeMutableRawBufferPointer.allocate(byteCount: count - 1, alignment: 1)
    defer { frame.deallocate() }
    frame.copyMemory(from: UnsafeRawBufferPointer(start: start + 1, count: count - 1))
    let input = UnsafeRawBufferPointer(frame)
    switch start[0] % 3 {
    case 0: check(input, ControlMessage.decode) { $0.encoded() }
    case 1: check(input, GatewayMessage.decode) { $0.encoded() }
    default:
        check(input, LeaderMessage.decode) { $0.encoded(in: ProtocolVersion.current) }
    }
    return 0
}

/// Bytes are compared, not messages: a NaN in one is not equal to itself.
private func check<Message>(
    _ frame: UnsafeRawBufferPointer,
    _ decode: (UnsafeRawBufferPointer) throws(CodecError) -> Message,
    _ encode: (Message) -> [UInt8]
) {
    guard let message = try? decode(frame) else { return }
    let packed = encode(message)
    let again = packed.withUnsafeBytes { try? decode($0) }
    guard let again else { preconditionFailure("\(message) was packed, then refused") }
    precondition(encode(again) == packed, "\(message) became \(again)")
}
