internal import DaemonRuntime
internal import Protocol

/// What one request has shown: the raw material of every figure.
struct RequestRecord: Hashable, Sendable {
    var promptLength: Int
    /// Just before the request was sent; nil while it waits for its turn.
    var start: Instant?
    /// Of the first and of the last event with choices.
    var firstToken: Instant?
    var lastToken: Instant?
    /// Between events with choices, in seconds. An event may carry several tokens.
    var interTokenSeconds: [Double] = []
    var completionTokens: Int?
    var text = ""
    /// nil while the request runs and when it has succeeded.
    var error: String?
    var isEnded = false

    init(promptLength: Int) { self.promptLength = promptLength }

    var hasSucceeded: Bool { isEnded && error == nil }
    var hasFailed: Bool { isEnded && error != nil }

    var ttftSeconds: Double {
        guard let start, let firstToken else { return 0 }
        return (firstToken - start).seconds
    }

    var latencySeconds: Double {
        guard let start, let lastToken else { return 0 }
        return (lastToken - start).seconds
    }
}

/// A streamed completion: an exchange that fills a ``RequestRecord``.
///
/// It fails where the server says so (status, or an `error` in the stream), where the stream breaks
/// off, and where no event had choices.
final class BenchRequest: HTTPExchange {
    /// Kept of the body of an error, for the message.
    static let errorBytesMax = 512

    let message: [UInt8]
    private(set) var record: RequestRecord
    private let onDone: (RequestRecord) -> Void
    private var head: HTTPResponseHead?
    private var events = EventStreamParser()
    private var errorBody: [UInt8] = []
    private(set) var isSatisfied = false

    init(message: [UInt8], promptLength: Int, onDone: @escaping (RequestRecord) -> Void) {
        self.message = message
        record = RequestRecord(promptLength: promptLength)
        self.onDone = onDone
    }

    func begin(on client: HTTPClient) {
        record.start = MonotonicClock.now()
        client.begin(self)
    }

    func onHead(_ head: HTTPResponseHead) { self.head = head }

    func onBody(_ bytes: [UInt8], at now: Instant) {
        guard head?.status == 200 else {
            errorBody += bytes.prefix(max(0, Self.errorBytesMax - errorBody.count))
            return
        }
        if !events.receive(bytes, { onEvent($0, at: now) }) {
            fail("an event has more than \(EventStreamParser.eventBytesMax) bytes")
            isSatisfied = true
        }
    }

    func onEnd(_ failure: HTTPClientError?) {
        if let failure {
            fail(failure.description)
        } else if let head, head.status != 200 {
            let body = String(decoding: errorBody, as: UTF8.self)
            let text = body.split(whereSeparator: \.isNewline).joined(separator: " ")
            fail("HTTP \(head.status) \(head.reason)" + (text.isEmpty ? "" : ": \(text)"))
        } else {
            let now = record.lastToken ?? Instant(nanoseconds: 0)
            events.finish { onEvent($0, at: now) }
            if record.firstToken == nil { fail("the answer has no event with choices") }
            // Where only the end of the connection ends the body, a server that dies ends it too.
            let isDelimited =
                head?.fields["transfer-encoding"] != nil || head?.fields["content-length"] != nil
            if !isDelimited, !isSatisfied { fail("the connection was closed before data: [DONE]") }
        }
        record.isEnded = true
        onDone(record)
    }

    private func fail(_ reason: String) {
        if record.error == nil { record.error = reason }
    }

    private func onEvent(_ data: [UInt8], at now: Instant) {
        if data == Array("[DONE]".utf8) {
            isSatisfied = true
            return
        }
        let root: JSONValue
        do throws(JSONError) {
            root = try JSONDocument(data).root
        } catch {
            return fail("an event is no JSON (\(error.reason)): \(Self.excerpt(data))")
        }
        if let error = root["error"], !error.isNull {
            return fail("the stream reports an error: \(Self.excerpt(data))")
        }
        if let tokens = root["usage"]?["completion_tokens"]?.integer {
            record.completionTokens = tokens
        }
        guard let choice = root["choices"]?.array?.first else { return }
        if let last = record.lastToken {
            record.interTokenSeconds.append((now - last).seconds)
        } else {
            record.firstToken = now
        }
        record.lastToken = now
        record.text += choice["text"]?.string ?? choice["delta"]?["content"]?.string ?? ""
    }

    private static func excerpt(_ data: [UInt8]) -> String {
        String(decoding: data.prefix(errorBytesMax), as: UTF8.self)
    }
}

/// A GET whose body is wanted as a whole.
final class FetchExchange: HTTPExchange {
    static let bodyBytesMax = 16 << 20

    let message: [UInt8]
    private var head: HTTPResponseHead?
    private var body: [UInt8] = []
    private let onDone: (Result<[UInt8], FetchError>) -> Void

    struct FetchError: Error, Hashable, Sendable {
        let reason: String
    }

    init(message: [UInt8], onDone: @escaping (Result<[UInt8], FetchError>) -> Void) {
        self.message = message
        self.onDone = onDone
    }

    var isSatisfied: Bool { body.count > Self.bodyBytesMax }

    func onHead(_ head: HTTPResponseHead) { self.head = head }

    func onBody(_ bytes: [UInt8], at now: Instant) {
        if body.count <= Self.bodyBytesMax { body += bytes }
    }

    func onEnd(_ failure: HTTPClientError?) {
        if let failure {
            onDone(.failure(FetchError(reason: failure.description)))
        } else if isSatisfied {
            onDone(.failure(FetchError(reason: "more than \(Self.bodyBytesMax) bytes")))
        } else if let head, head.status == 200 {
            onDone(.success(body))
        } else {
            onDone(.failure(FetchError(reason: "HTTP \(head?.status ?? 0) \(head?.reason ?? "")")))
        }
    }
}
