/// The table of routes: exact paths, as vLLM has them.
public enum APIRoutes {
    private static let modelPrefix = "/v1/models/"

    /// - Parameter target: The request's target; a query is left alone.
    /// - Throws: `notFound` for a path that isn't served, `methodNotAllowed` for one that is.
    public static func match(method: String, target: String) throws(APIError) -> APIEndpoint {
        let path = String(target.prefix { $0 != "?" })
        guard let (endpoint, methods) = route(path) else { throw .notFound(path: path) }
        guard methods.contains(method) else {
            throw .methodNotAllowed(method: method, path: path, allowed: methods)
        }
        return endpoint
    }

    private static func route(_ path: String) -> (APIEndpoint, [String])? {
        switch path {
        case "/v1/completions": return (.completions, ["POST"])
        case "/v1/chat/completions": return (.chatCompletions, ["POST"])
        case "/v1/models": return (.models, ["GET"])
        case "/health": return (.health, ["GET"])
        case "/ready": return (.ready, ["GET"])
        case "/ping": return (.ping, ["GET", "POST"])
        case "/load": return (.load, ["GET"])
        case "/version": return (.version, ["GET"])
        case "/metrics": return (.metrics, ["GET"])
        case "/tokenize": return (.tokenize, ["POST"])
        case "/detokenize": return (.detokenize, ["POST"])
        default:
            // Names of models have slashes of their own ("organisation/model").
            guard path.hasPrefix(modelPrefix) else { return nil }
            let id = percentDecoded(path.dropFirst(modelPrefix.count))
            guard let id, !id.isEmpty else { return nil }
            return (.model(id: id), ["GET"])
        }
    }

    /// RFC 3986 section 2.1; nil for a malformed escape or bytes that aren't UTF-8.
    private static func percentDecoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(hexadecimal),
                let low = rest.popFirst().flatMap(hexadecimal)
            else { return nil }
            bytes.append(high << 4 | low)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}
