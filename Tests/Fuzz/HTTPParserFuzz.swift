/// libFuzzer's entry: the first byte says how the rest is cut into pieces. Besides not crashing,
/// the parser must give the same outcomes for the input whole and in pieces.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzHTTPParser(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = [UInt8](UnsafeBufferPointer(start: start + 1, count: count - 1))
    let whole = outcomes(of: input, pieceBytes: input.count)
    let pieces = outcomes(of: input, pieceBytes: Int(start[0] & 0x1F) + 1)
    precondition(whole == pieces, "whole: \(whole)\npieces: \(pieces)")
    return 0
}

/// Small limits, so that short inputs reach them.
private let limits: HTTPMessageLimits = {
    var limits = HTTPMessageLimits()
    limits.targetBytesMax = 64
    limits.headerLineBytesMax = 96
    limits.headerBytesMax = 256
    limits.headerFieldsMax = 12
    limits.bodyBytesMax = 512
    return limits
}()

private func outcomes(of input: [UInt8], pieceBytes: Int) -> [HTTPParser.Outcome] {
    var parser = HTTPParser(limits: limits)
    var outcomes: [HTTPParser.Outcome] = []
    var start = 0
    while start < input.count {
        let piece = Array(input[start..<min(start + pieceBytes, input.count)])
        var used = 0
        while true {
            let (consumed, outcome) = parser.parse(piece.span.extracting(used..<piece.count))
            precondition(consumed >= 0 && consumed <= piece.count - used, "consumed \(consumed)")
            used += consumed
            switch outcome {
            case .needsMore:
                precondition(used == piece.count, "\(piece.count - used) bytes were left")
            case .continueExpected:
                outcomes.append(outcome)
                continue
            case .request(let request):
                precondition(request.body.count <= limits.bodyBytesMax, "the body is too long")
                precondition(consumed > 0, "a request came out of nothing")
                outcomes.append(outcome)
                continue
            case .refused:
                return outcomes + [outcome]
            }
            break
        }
        start += piece.count
    }
    return outcomes
}
