private let defaults = ModelDefaults(
    servedModelNames: ["tiny"], contextLength: 100, vocabularySize: 1_000)

/// libFuzzer's entry: the first byte chooses the endpoint, the rest is the body of a call.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzCall(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let body = Array(UnsafeBufferPointer(start: start + 1, count: count - 1))
    switch start[0] % 5 {
    case 0:
        check {
            () throws(APIError) in
            try .parseCompletion(body: body, headers: .init(), defaults: defaults)
        }
    case 1:
        check {
            () throws(APIError) in
            try .parseChat(body: body, headers: .init(), defaults: defaults)
        }
    case 2: _ = try? TokenizeCall.parse(body: body, defaults: defaults)
    case 3: _ = try? DetokenizeCall.parse(body: body, defaults: defaults)
    default: _ = try? GenerationConfig(json: body)
    }
    return 0
}

private func check(_ parse: () throws(APIError) -> GenerationCall) {
    guard let call = try? parse() else { return }
    _ = try? call.samplingParameters(promptTokens: 1, choice: 0, drawnSeed: 0)
}
