internal import CPCRE2

/// One `Split` of a pre-tokenizer: a compiled regular expression whose matches, and the text
/// between them, become pieces of their own ("isolated").
///
/// Owns PCRE2's code, match data and JIT stack; one thread only. Texts must be valid UTF-8, since
/// PCRE2 is told not to check them.
final class PatternSplitter {
    private static let jitStackBytesMax = 8 << 20
    private static let options = PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK

    let pattern: String
    private let code: OpaquePointer
    private let matchData: OpaquePointer
    private let context: OpaquePointer
    private let jitStack: OpaquePointer?
    private let bounds: UnsafeMutablePointer<Int>

    /// - Returns: nil and PCRE2's message in `reason` when the pattern does not compile.
    init?(pattern: String, reason: inout String) {
        guard case .translated(var translated) = PatternTranslation.translate(pattern) else {
            if case .unknown(let what) = PatternTranslation.translate(pattern) {
                reason = "the pattern '\(pattern)' contains \(what)"
            }
            return nil
        }
        var errorCode: Int32 = 0
        var errorOffset = 0
        let code = translated.withUTF8 {
            pcre2_compile_8(
                $0.baseAddress, $0.count, UInt32(Self.options), &errorCode, &errorOffset, nil)
        }
        guard let code else {
            reason = "the pattern '\(pattern)' does not compile (PCRE2 error \(errorCode))"
            return nil
        }
        guard let matchData = pcre2_match_data_create_from_pattern_8(code, nil),
            let context = pcre2_match_context_create_8(nil),
            let bounds = pcre2_get_ovector_pointer_8(matchData)
        else {
            pcre2_code_free_8(code)
            reason = "out of memory"
            return nil
        }
        // Without JIT (no executable memory) the interpreter gives the same matches.
        pcre2_jit_compile_8(code, UInt32(PCRE2_JIT_COMPLETE))
        let jitStack = pcre2_jit_stack_create_8(32 << 10, Self.jitStackBytesMax, nil)
        pcre2_jit_stack_assign_8(context, nil, jitStack.map { UnsafeMutableRawPointer($0) })
        // A long run of spaces needs more steps than the default; the work is bounded by the text.
        pcre2_set_match_limit_8(context, .max)
        self.pattern = pattern
        self.code = code
        self.matchData = matchData
        self.context = context
        self.jitStack = jitStack
        self.bounds = bounds
    }

    deinit {
        pcre2_match_data_free_8(matchData)
        pcre2_match_context_free_8(context)
        pcre2_jit_stack_free_8(jitStack)
        pcre2_code_free_8(code)
    }

    enum Match {
        case found(start: Int, end: Int)
        case none
        /// PCRE2's error number.
        case failed(Int)
    }

    /// The first match in `piece` at `offset` or later. The piece is the whole subject: looking
    /// ahead or behind does not see the text around it.
    func next(in piece: UnsafeBufferPointer<UInt8>, from offset: Int) -> Match {
        precondition(0 <= offset && offset <= piece.count, "\(offset) in \(piece.count) bytes")
        var result = pcre2_match_8(
            code, piece.baseAddress, piece.count, offset, UInt32(PCRE2_NO_UTF_CHECK), matchData,
            context)
        if result == PCRE2_ERROR_JIT_STACKLIMIT {
            let options = UInt32(PCRE2_NO_UTF_CHECK) | PCRE2_NO_JIT
            result = pcre2_match_8(
                code, piece.baseAddress, piece.count, offset, options, matchData, context)
        }
        if result > 0 { return .found(start: bounds[0], end: bounds[1]) }
        return result == PCRE2_ERROR_NOMATCH ? .none : .failed(Int(result))
    }
}
