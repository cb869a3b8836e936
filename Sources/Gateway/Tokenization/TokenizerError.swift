/// Why a checkpoint's tokenizer cannot be used, or a text not be encoded with it.
///
/// Every case names the file and the key, so that the text can be shown to an operator as it is.
public enum TokenizerError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The file cannot be opened or read; `reason` is the system's.
    case unreadable(path: String, reason: String)
    case tooLarge(path: String, byteCount: Int, limit: Int)
    case notJSON(path: String, reason: String)
    /// A key is missing, has another type, or contradicts another key.
    case invalid(path: String, key: String, reason: String)
    /// A key asks for something that would change the ids and that this tokenizer does not do.
    case unsupported(path: String, key: String, reason: String)
    /// PCRE2 gave up on a text; `code` is its error number.
    case splitFailed(pattern: String, code: Int)

    public var description: String {
        switch self {
        case .unreadable(let path, let reason):
            "\(path): cannot be read (\(reason)); is this the folder of a checkpoint?"
        case .tooLarge(let path, let byteCount, let limit):
            "\(path): \(byteCount) bytes are more than the limit of \(limit)"
        case .notJSON(let path, let reason):
            "\(path): not JSON (\(reason)); fetch the file again"
        case .invalid(let path, let key, let reason):
            "\(path): \(key): \(reason)"
        case .unsupported(let path, let key, let reason):
            "\(path): \(key): not supported: \(reason)"
        case .splitFailed(let pattern, let code):
            "the pre-tokenizer's pattern '\(pattern)' failed on this text (PCRE2 error \(code))"
        }
    }
}
