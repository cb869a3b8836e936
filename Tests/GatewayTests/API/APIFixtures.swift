import DaemonRuntime

@testable import Gateway

/// What the tests of this folder share: a small model, and calls written as JSON text.
enum APIFixtures {
    static let defaults: ModelDefaults = {
        var defaults = ModelDefaults(
            servedModelNames: ["tiny", "alias"], contextLength: 100, vocabularySize: 1_000)
        defaults.maxLogprobs = 20
        return defaults
    }()

    static func completion(
        _ json: String, headers: GenerationCall.Headers = .init(),
        defaults: ModelDefaults = APIFixtures.defaults
    ) throws(APIError) -> GenerationCall {
        try .parseCompletion(body: Array(json.utf8), headers: headers, defaults: defaults)
    }

    static func chat(
        _ json: String, headers: GenerationCall.Headers = .init(),
        defaults: ModelDefaults = APIFixtures.defaults
    ) throws(APIError) -> GenerationCall {
        try .parseChat(body: Array(json.utf8), headers: headers, defaults: defaults)
    }

    /// A valid call of `kind` with `members` (JSON text) added.
    static func call(_ kind: GenerationCall.Kind, _ members: String) throws(APIError)
        -> GenerationCall
    {
        let separator = members.isEmpty ? "" : ","
        switch kind {
        case .completion: return try completion(#"{"prompt":"Hi"\#(separator)\#(members)}"#)
        case .chat:
            return try chat(
                #"{"messages":[{"role":"user","content":"Hi"}]\#(separator)\#(members)}"#)
        }
    }

    /// The error of `body`, or nil.
    static func error<Value>(_ body: () throws(APIError) -> Value) -> APIError? {
        do {
            _ = try body()
            return nil
        } catch {
            return error
        }
    }

    /// A long text in pieces; the compiler takes seconds over as many `+`.
    static func joined(_ parts: String...) -> String { parts.joined() }

    static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers from the same seed.
struct APIRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
