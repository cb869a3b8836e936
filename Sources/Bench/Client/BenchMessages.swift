/// Writes the requests: HTTP heads, and the bodies that vLLM's client sends.
struct BenchMessages: Sendable {
    let configuration: BenchConfiguration
    /// What the field `model` says.
    let modelName: String
    let requestIDPrefix: String
    /// From the environment, as OpenAI's clients take it.
    let key: String?

    /// - Parameter index: nil for requests that do not count (no x-request-id).
    func completion(_ prompt: BenchPrompt, index: Int?) -> [UInt8] {
        let body = JSONTree.object(members(prompt)).bytes
        let fields =
            [("Content-Type", "application/json"), ("Content-Length", "\(body.count)")]
            + (index.map { [("x-request-id", "\(requestIDPrefix)\($0)")] } ?? [])
        return head("POST", configuration.endpoint, fields) + body
    }

    func get(_ path: String) -> [UInt8] { head("GET", path, []) }

    private func head(_ method: String, _ path: String, _ own: [(String, String)]) -> [UInt8] {
        var fields = [("Host", configuration.url.authority), ("Accept", "*/*")]
        if let key { fields.append(("Authorization", "Bearer \(key)")) }
        let given = configuration.headers.map { ($0.key, $0.value) }
        // --header comes before what is set here, but for the request's own fields.
        let isOwn = { (name: String) in own.contains { $0.0.lowercased() == name.lowercased() } }
        fields.removeAll { field in
            given.contains { $0.0.lowercased() == field.0.lowercased() }
        }
        fields += given.filter { !isOwn($0.0) } + own
        let lines = fields.map { "\($0.0): \($0.1)\r\n" }.joined()
        let target = "\(configuration.url.prefix)\(path)"
        return Array("\(method) \(target) HTTP/1.1\r\n\(lines)\r\n".utf8)
    }

    func members(_ prompt: BenchPrompt) -> [JSONTree.Member] {
        let content: JSONTree
        switch prompt.content {
        case .text(let text): content = .text(text)
        case .tokens(let ids): content = .integers(ids.map { Int($0) })
        }
        let stream: [JSONTree.Member] = [
            .init("stream", .bool(true)),
            .init("stream_options", .object([.init("include_usage", .bool(true))])),
            .init("ignore_eos", .bool(true)),
        ]
        let own: [JSONTree.Member]
        if configuration.backend.isChat {
            let part = JSONTree.object([.init("type", .text("text")), .init("text", content)])
            let message = JSONTree.object([
                .init("role", .text("user")), .init("content", .array([part])),
            ])
            own = [
                .init("model", .text(modelName)),
                .init("messages", .array([message])),
                .init("max_completion_tokens", .integer(prompt.outputLength)),
            ]
        } else {
            own = [
                .init("model", .text(modelName)),
                .init("prompt", content),
                .init("repetition_penalty", .number(1)),
                .init("max_tokens", .integer(prompt.outputLength)),
                .init("logprobs", configuration.logprobs.map { .integer($0) } ?? .null),
            ]
        }
        return JSONTree.merged(own + stream, with: configuration.extraBody)
    }
}
