/// Why a call is answered with an error; the one place where HTTP status codes are chosen.
///
/// Bodies have vLLM's form, `{"error":{"message","type","param","code"}}`, and where vLLM answers
/// 400 so does this. Two answers are ours, because vLLM queues without bound: 429 with
/// `Retry-After` when there is no room, and 503 while the deployment isn't ready or drains.
/// A case carries what the one who reads the incident needs; it never carries a stack or a secret.
public enum APIError: Error, Hashable, Sendable {
    /// The body isn't one JSON value.
    case invalidJSON(reason: String)
    /// A field has a type that it can't have.
    case invalidType(name: String, expected: String)
    /// A field has the right type and a value that is refused.
    case invalidField(name: String, reason: String)
    /// vLLM knows the field (or this value of it) and this server does not.
    case unsupported(field: String, reason: String)
    case modelNotFound(name: String)
    case contextTooLong(limit: Int, requestedOutput: Int, promptTokens: Int)
    /// Refused unread: no tokenization could make it fit.
    case textTooLong(characters: Int, limit: Int)
    case notFound(path: String)
    case methodNotAllowed(method: String, path: String, allowed: [String])
    case unauthorized
    case payloadTooLarge(bytes: Int, limit: Int)
    /// Admission refuses: the queues are full.
    case overloaded(reason: String, retryAfterSeconds: Int)
    /// Start-up, no engine, or draining.
    case notReady(reason: String, retryAfterSeconds: Int)
    /// The DP rank that held the sequence is gone, and it could not go on elsewhere.
    case rankLost(rank: Int, reason: String)
    case engineError(reason: String)

    public var status: Int {
        switch self {
        case .invalidJSON, .invalidType, .invalidField, .unsupported, .contextTooLong, .textTooLong:
            400
        case .unauthorized: 401
        case .modelNotFound, .notFound: 404
        case .methodNotAllowed: 405
        case .payloadTooLarge: 413
        case .overloaded: 429
        case .engineError: 500
        case .notReady, .rankLost: 503
        }
    }

    /// vLLM's names of its error types; "Bad Request" is what failed its schema.
    public var type: String {
        switch self {
        case .invalidJSON, .invalidType: "Bad Request"
        case .invalidField, .unsupported, .contextTooLong, .textTooLong: "BadRequestError"
        case .unauthorized: "AuthenticationError"
        case .modelNotFound: "NotFoundError"
        case .notFound: "Not Found"
        case .methodNotAllowed: "Method Not Allowed"
        case .payloadTooLarge: "Payload Too Large"
        case .overloaded: "TooManyRequestsError"
        case .engineError: "InternalServerError"
        case .notReady, .rankLost: "ServiceUnavailableError"
        }
    }

    /// The field at fault, or nil.
    public var parameter: String? {
        switch self {
        case .invalidType(let name, _), .invalidField(let name, _), .unsupported(let name, _):
            name
        case .modelNotFound: "model"
        case .contextTooLong: "input_tokens"
        case .textTooLong: "input_text"
        case .invalidJSON, .notFound, .methodNotAllowed, .unauthorized, .payloadTooLarge,
            .overloaded, .notReady, .rankLost, .engineError:
            nil
        }
    }

    public var message: String {
        switch self {
        case .invalidJSON(let reason):
            return "The request body is not valid JSON: \(reason)"
        case .invalidType(let name, let expected):
            return "`\(name)` must be \(expected)."
        case .invalidField(let name, let reason):
            return "`\(name)` \(reason)."
        case .unsupported(let field, let reason):
            return "`\(field)` is not supported by this server: \(reason)."
        case .modelNotFound(let name):
            return "The model `\(name)` does not exist."
        case .contextTooLong(let limit, let output, let prompt):
            return "This model's maximum context length is \(limit) tokens. However, you requested "
                + "\(output) output tokens and your prompt contains \(prompt) input tokens, for a "
                + "total of \(output &+ prompt) tokens. Please reduce the length of the input "
                + "prompt or the number of requested output tokens."
        case .textTooLong(let characters, let limit):
            return
                "Your prompt has \(characters) characters, more than \(limit), the most that the "
                + "model's context can hold. Please reduce the length of the input prompt."
        case .notFound(let path):
            return "Not Found: there is no `\(path)` here."
        case .methodNotAllowed(let method, let path, let allowed):
            return "Method Not Allowed: `\(path)` answers "
                + allowed.joined(separator: " and ") + ", not \(method)."
        case .unauthorized:
            return "Unauthorized"
        case .payloadTooLarge(let bytes, let limit):
            return "The request body has \(bytes) bytes; the limit is \(limit)."
        case .overloaded(let reason, let seconds):
            return "The server is overloaded: \(reason). Retry after \(seconds) s."
        case .notReady(let reason, let seconds):
            return "The server is not ready: \(reason). Retry after \(seconds) s."
        case .rankLost(let rank, let reason):
            return "Data parallel rank \(rank) was lost: \(reason). Please send the request again."
        case .engineError(let reason):
            return "The engine failed: \(reason)"
        }
    }

    /// What `Retry-After` says, where it belongs.
    public var retryAfterSeconds: Int? {
        switch self {
        case .overloaded(_, let seconds), .notReady(_, let seconds): seconds
        case .rankLost: 1
        case .invalidJSON, .invalidType, .invalidField, .unsupported, .modelNotFound,
            .contextTooLong, .textTooLong, .notFound, .methodNotAllowed, .unauthorized,
            .payloadTooLarge,
            .engineError:
            nil
        }
    }

    /// Header fields of the answer besides the body's own, names in lower case.
    public var headers: [(name: String, value: String)] {
        if let seconds = retryAfterSeconds { return [("retry-after", String(seconds))] }
        switch self {
        case .methodNotAllowed(_, _, let allowed):
            return [("allow", allowed.joined(separator: ", "))]
        case .unauthorized:
            return [("www-authenticate", "Bearer")]
        case .invalidJSON, .invalidType, .invalidField, .unsupported, .modelNotFound,
            .contextTooLong, .textTooLong, .notFound, .payloadTooLarge, .overloaded, .notReady,
            .rankLost,
            .engineError:
            return []
        }
    }

    /// The body of the answer.
    public var body: [UInt8] {
        var writer = JSONWriter()
        write(to: &writer)
        return writer.bytes
    }

    func write(to writer: inout JSONWriter) {
        // vLLM's authentication middleware answers before its error handlers do, in a form of
        // its own.
        if case .unauthorized = self {
            writer.raw(#"{"error":"Unauthorized"}"#)
            return
        }
        writer.raw(#"{"error":{"message":"#)
        writer.string(message)
        writer.raw(#","type":"#)
        writer.string(type)
        writer.raw(#","param":"#)
        writer.string(parameter)
        writer.raw(#","code":"#)
        writer.integer(status)
        writer.raw("}}")
    }
}
