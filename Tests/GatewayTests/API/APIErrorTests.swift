import DaemonRuntime
import Testing

@testable import Gateway

@Suite struct APIErrorTests {
    static let table: [(error: APIError, status: Int, type: String, parameter: String?)] = [
        (.invalidJSON(reason: "r"), 400, "Bad Request", nil),
        (.invalidType(name: "n", expected: "a string"), 400, "Bad Request", "n"),
        (.invalidField(name: "n", reason: "must be \"x\""), 400, "BadRequestError", "n"),
        (.unsupported(field: "f", reason: "r"), 400, "BadRequestError", "f"),
        (
            .contextTooLong(limit: 1, requestedOutput: 2, promptTokens: 3), 400,
            "BadRequestError", "input_tokens"
        ),
        (.textTooLong(characters: 2, limit: 1), 400, "BadRequestError", "input_text"),
        (.modelNotFound(name: "m"), 404, "NotFoundError", "model"),
        (.notFound(path: "/x"), 404, "Not Found", nil),
        (
            .methodNotAllowed(method: "PUT", path: "/x", allowed: ["GET", "POST"]), 405,
            "Method Not Allowed", nil
        ),
        (.payloadTooLarge(bytes: 2, limit: 1), 413, "Payload Too Large", nil),
        (
            .overloaded(reason: "r", retryAfterSeconds: 7), 429, "TooManyRequestsError", nil
        ),
        (.engineError(reason: "r"), 500, "InternalServerError", nil),
        (.rankLost(rank: 1, reason: "r"), 503, "ServiceUnavailableError", nil),
        (
            .notReady(reason: "r", retryAfterSeconds: 7), 503, "ServiceUnavailableError", nil
        ),
    ]

    @Test(arguments: table.indices)
    func aBodyHasVLLMsForm(index: Int) throws {
        let (error, status, type, parameter) = Self.table[index]
        let root = try JSONDocument(error.body).root
        #expect(root.members?.map(\.key) == ["error"])
        let body = root["error"]
        #expect(body?.members?.map(\.key) == ["message", "type", "param", "code"])
        #expect(body?["message"]?.string == error.message)
        #expect(body?["type"]?.string == type)
        #expect(body?["param"]?.string == parameter)
        #expect(body?["param"]?.isNull == (parameter == nil))
        #expect(body?["code"]?.integer == status)
        #expect(error.status == status)
    }

    @Test func theMissingKeyHasAFormOfItsOwn() {
        #expect(APIError.unauthorized.status == 401)
        #expect(APIFixtures.text(APIError.unauthorized.body) == #"{"error":"Unauthorized"}"#)
    }

    @Test func headersSayWhatToDo() {
        func headers(_ error: APIError) -> [String] {
            error.headers.map { "\($0.name): \($0.value)" }
        }
        #expect(headers(.overloaded(reason: "r", retryAfterSeconds: 7)) == ["retry-after: 7"])
        #expect(headers(.notReady(reason: "r", retryAfterSeconds: 9)) == ["retry-after: 9"])
        #expect(headers(.rankLost(rank: 1, reason: "r")) == ["retry-after: 1"])
        #expect(
            headers(.methodNotAllowed(method: "PUT", path: "/x", allowed: ["GET", "POST"]))
                == ["allow: GET, POST"])
        #expect(headers(.unauthorized) == ["www-authenticate: Bearer"])
        #expect(headers(.invalidJSON(reason: "r")) == [])
    }

    @Test func theModelsNameIsQuotedInTheMessage() {
        #expect(APIError.modelNotFound(name: "X").message == "The model `X` does not exist.")
    }
}
