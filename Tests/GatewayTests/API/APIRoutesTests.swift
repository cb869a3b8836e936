import Testing

@testable import Gateway

@Suite struct APIRoutesTests {
    static let table: [(method: String, target: String, endpoint: APIEndpoint)] = [
        ("POST", "/v1/completions", .completions),
        ("POST", "/v1/chat/completions", .chatCompletions),
        ("POST", "/v1/chat/completions?x=1", .chatCompletions),
        ("GET", "/v1/models", .models),
        ("GET", "/v1/models/tiny", .model(id: "tiny")),
        ("GET", "/v1/models/organisation/tiny", .model(id: "organisation/tiny")),
        ("GET", "/v1/models/organisation%2Ftiny%C3%A9", .model(id: "organisation/tinyé")),
        ("GET", "/health", .health), ("GET", "/ready", .ready), ("GET", "/ping", .ping),
        ("POST", "/ping", .ping), ("GET", "/load", .load), ("GET", "/version", .version),
        ("GET", "/metrics", .metrics), ("POST", "/tokenize", .tokenize),
        ("POST", "/detokenize", .detokenize),
    ]

    @Test(arguments: table.indices)
    func aRouteIsFound(index: Int) throws {
        let (method, target, endpoint) = Self.table[index]
        #expect(try APIRoutes.match(method: method, target: target) == endpoint)
        let error = APIFixtures.error { () throws(APIError) in
            try APIRoutes.match(method: "DELETE", target: target)
        }
        #expect(error?.status == 405)
        #expect(error?.headers.first?.value.contains(method) == true)
    }

    @Test(arguments: [
        "", "/", "/v1", "/v1/", "/v1/completions/", "//v1/completions", "/V1/completions", "*",
        "/v1/models/", "/v1/models/%", "/v1/models/%zz", "/v1/models/%FF", "?", "/tokenizer",
    ])
    func anotherPathIsNotFound(target: String) {
        let error = APIFixtures.error { () throws(APIError) in
            try APIRoutes.match(method: "GET", target: target)
        }
        #expect(error?.status == 404)
    }

    @Test func protectedPathsNeedAKey() {
        let keys = APIKeys(["secret", "other"])
        func isRefused(_ target: String, _ authorization: String?, method: String = "POST") -> Bool
        {
            let error = APIFixtures.error { () throws(APIError) in
                try keys.check(method: method, target: target, authorization: authorization)
            }
            #expect(error == nil || error == .unauthorized)
            return error != nil
        }
        for target in ["/v1/completions", "/v1/models?x", "/tokenize", "/detokenize", "/v1"] {
            #expect(!isRefused(target, "Bearer secret"), "\(target)")
            #expect(!isRefused(target, "bearer other"), "\(target)")
            #expect(!isRefused(target, nil, method: "OPTIONS"), "\(target)")
            for authorization in [
                nil, "", "Bearer", "Bearer ", "Bearer secre", "Bearer secrett", "Bearer Secret",
                "Basic secret", "secret", "Bearer secretsecret", "Bearer  secret",
            ] as [String?] {
                #expect(isRefused(target, authorization), "\(authorization ?? "none")")
            }
        }
        for target in ["/health", "/ready", "/metrics", "/version", "/ping", "/v11"] {
            #expect(!isRefused(target, nil), "\(target)")
        }
    }

    @Test func withoutKeysEveryoneMayAsk() {
        #expect(throws: Never.self) {
            try APIKeys([]).check(method: "POST", target: "/v1/completions", authorization: nil)
        }
    }
}
