import CNetworkNamespace
import Foundation

/// A client over plain sockets, so that tests can leave, stall and misbehave as clients do.
struct HTTPClient: Sendable {
    let port: UInt16
    /// Where the server is; nil: here, on the loopback address.
    var node: NodeNetwork.Node?

    struct Answer {
        let status: Int
        let headers: [String: String]
        let body: [UInt8]

        var text: String { String(decoding: body, as: UTF8.self) }
        var json: [String: Any] {
            (try? JSONSerialization.jsonObject(with: Data(body))) as? [String: Any] ?? [:]
        }
        var choices: [[String: Any]] { json["choices"] as? [[String: Any]] ?? [] }
        /// Of the n-th choice of a completion with `return_token_ids`.
        func tokens(_ index: Int = 0) -> [Int] {
            choices.indices.contains(index) ? choices[index]["token_ids"] as? [Int] ?? [] : []
        }
        var errorMessage: String {
            (json["error"] as? [String: Any])?["message"] as? String ?? text
        }
    }

    func get(_ path: String) throws -> Answer { try send("GET", path, nil, [:]) }

    func post(
        _ path: String, _ body: [String: Any], headers: [String: String] = [:]
    ) throws -> Answer {
        try send("POST", path, JSONSerialization.data(withJSONObject: body), headers)
    }

    private func send(
        _ method: String, _ path: String, _ body: Data?, _ headers: [String: String]
    ) throws -> Answer {
        let connection = try HTTPConnection(port: port, node: node)
        try connection.write(request(method, path, body, headers, close: true))
        return try connection.answer()
    }

    func request(
        _ method: String, _ path: String, _ body: Data?, _ headers: [String: String], close: Bool
    ) -> [UInt8] {
        var head = "\(method) \(path) HTTP/1.1\r\nhost: localhost\r\n"
        if close { head += "connection: close\r\n" }
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        if let body {
            head += "content-type: application/json\r\ncontent-length: \(body.count)\r\n"
        }
        return Array((head + "\r\n").utf8) + Array(body ?? Data())
    }

    /// Opens a stream; the caller reads its events and may leave.
    func stream(_ path: String, _ body: [String: Any]) throws -> HTTPConnection {
        var body = body
        body["stream"] = true
        let connection = try HTTPConnection(port: port, node: node)
        let data = try JSONSerialization.data(withJSONObject: body)
        try connection.write(request("POST", path, data, [:], close: false))
        return connection
    }
}

/// One connection; closing it is leaving.
final class HTTPConnection: @unchecked Sendable {
    // Used by one thread at a time.
    private var fd: Int32
    private var buffer: [UInt8] = []
    private var head: (status: Int, headers: [String: String])?
    /// Body bytes of a chunked answer that are decoded and not read yet.
    private var decoded: [UInt8] = []
    private var isComplete = false

    init(port: UInt16, node: NodeNetwork.Node? = nil) throws {
        if let node {
            fd = network_namespace_socket("/run/netns/\(node.space)")
        } else {
            fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        }
        guard fd >= 0 else { throw CellError(description: "socket: \(fd)") }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = inet_addr(node?.address ?? "127.0.0.1")
        // Every wait has a deadline.
        var limit = timeval(tv_sec: 120, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, size) }
        }
        if result != 0 {
            throw CellError(description: "connect: \(String(cString: strerror(errno)))")
        }
    }

    deinit { close() }

    func close() {
        if fd >= 0 { Foundation.close(fd) }
        fd = -1
    }

    func write(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                Foundation.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { throw CellError(description: "send: errno \(errno)") }
            sent += count
        }
    }

    /// False at the end of the connection.
    private func fill() throws -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65536)
        let count = recv(fd, &chunk, chunk.count, 0)
        if count < 0 {
            if errno == ECONNRESET { return false }
            throw CellError(description: "recv: \(String(cString: strerror(errno)))")
        }
        buffer += chunk[0..<count]
        return count > 0
    }

    private func line() throws -> String {
        while true {
            if let end = buffer.firstIndex(of: 10) {
                let text = String(decoding: buffer[..<end], as: UTF8.self)
                buffer.removeSubrange(...end)
                return text.hasSuffix("\r") ? String(text.dropLast()) : text
            }
            guard try fill() else { throw CellError(description: "the connection ended") }
        }
    }

    private func take(_ count: Int) throws -> [UInt8] {
        while buffer.count < count {
            guard try fill() else { throw CellError(description: "the connection ended") }
        }
        defer { buffer.removeSubrange(0..<count) }
        return Array(buffer[0..<count])
    }

    func readHead() throws -> (status: Int, headers: [String: String]) {
        if let head { return head }
        let first = try line().split(separator: " ")
        var headers: [String: String] = [:]
        while case let text = try line(), !text.isEmpty {
            let parts = text.split(separator: ":", maxSplits: 1)
            headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        let parsed = (Int(first[1]) ?? 0, headers)
        head = parsed
        return parsed
    }

    /// The whole answer.
    func answer() throws -> HTTPClient.Answer {
        let (status, headers) = try readHead()
        var body: [UInt8] = []
        if let length = headers["content-length"].flatMap({ Int($0) }) {
            body = try take(length)
        } else {
            while try moreChunks() {}
            body = decoded
        }
        head = nil
        return HTTPClient.Answer(status: status, headers: headers, body: body)
    }

    /// Decodes one more chunk; false at the end.
    private func moreChunks() throws -> Bool {
        if isComplete { return false }
        let size = Int(try line(), radix: 16) ?? 0
        if size == 0 {
            _ = try line()
            isComplete = true
            return false
        }
        decoded += try take(size)
        _ = try line()
        return true
    }

    /// The next server-sent event without its `data: `; nil at the end of the stream.
    func event() throws -> String? {
        _ = try readHead()
        let separator = Array("\n\n".utf8)
        while true {
            if let range = decoded.firstRange(of: separator) {
                let text = String(decoding: decoded[..<range.lowerBound], as: UTF8.self)
                decoded.removeSubrange(..<range.upperBound)
                return text.hasPrefix("data: ") ? String(text.dropFirst(6)) : text
            }
            guard try moreChunks() else { return nil }
        }
    }

    /// The text of all events to `[DONE]`, and how many tokens they named.
    func wholeText() throws -> (text: String, tokens: [Int], finish: String?) {
        var (text, tokens): (String, [Int]) = ("", [])
        var finish: String?
        while let event = try event(), event != "[DONE]" {
            let json =
                (try? JSONSerialization.jsonObject(with: Data(event.utf8))) as? [String: Any] ?? [:]
            if let error = json["error"] { throw CellError(description: "\(error)") }
            for choice in json["choices"] as? [[String: Any]] ?? [] {
                text += choice["text"] as? String ?? ""
                tokens += choice["token_ids"] as? [Int] ?? []
                finish = choice["finish_reason"] as? String ?? finish
            }
        }
        return (text, tokens, finish)
    }
}
