import CLinux
import DaemonRuntime
import Foundation
import Gateway
import Protocol
import Testing

@testable import Bench

/// An OpenAI-compatible server on the benchmark's own loop that answers as a test says.
private final class FakeServer: HTTPHandler {
    enum Answer {
        case stream([String])
        /// The same, but the connection breaks in place of its end.
        case cut([String])
        case error
        case silence
    }

    private var server: HTTPServer?
    private var loop: EventLoop?
    private(set) var bodies: [String] = []
    private(set) var requestIDs: [String?] = []
    private(set) var underWay = 0
    private(set) var peakUnderWay = 0
    var answer: (Int) -> Answer

    init(answer: @escaping (Int) -> Answer) { self.answer = answer }

    /// The last event is the one with the usage.
    static func events(_ texts: [String], tokens: Int) -> [String] {
        texts.map { #"data: {"choices":[{"text":"\#($0)"}]}"# + "\n\n" }
            + [
                #"data: {"choices":[],"usage":{"completion_tokens":\#(tokens)}}"# + "\n\n",
                "data: [DONE]\n\n",
            ]
    }

    /// A benchmark of this server.
    func benchmark(
        _ arguments: [String], _ output: @escaping (String) -> Void
    ) throws -> ServeBenchmark {
        let listener = cl_listen_tcp("127.0.0.1", 0, 128)
        precondition(listener >= 0, "errno \(cl_errno())")
        let configuration = try BenchFixtures.configuration(
            ["--port", "\(cl_local_port(listener))", "--skip-tokenizer-init"] + arguments)
        let benchmark = try ServeBenchmark(configuration: configuration, output: output)
        loop = benchmark.loop
        server = HTTPServer(loop: benchmark.loop, listeners: [listener], handler: self)
        return benchmark
    }

    func onRequest(_ request: HTTPRequest, exchange: HTTPExchangeID) {
        guard let server else { return }
        if request.path == "/v1/models" {
            server.respond(
                exchange, status: .ok, body: Array(#"{"data":[{"id":"m","root":"r/m"}]}"#.utf8))
            return
        }
        let index = bodies.count
        bodies.append(String(decoding: request.body, as: UTF8.self))
        requestIDs.append(request.headers["x-request-id"])
        underWay += 1
        peakUnderWay = max(peakUnderWay, underWay)
        switch answer(index) {
        case .stream(let events):
            server.beginStream(exchange, status: .ok)
            write(events[...], to: exchange) { server in server.finishStream(exchange) }
        case .cut(let events):
            server.beginStream(exchange, status: .ok)
            write(events[...], to: exchange) { server in server.abort(exchange) }
        case .error:
            underWay -= 1
            server.respond(
                exchange, status: .internalServerError, body: Array(#"{"error":"no\nluck"}"#.utf8))
        case .silence: break
        }
    }

    /// An event a millisecond, cut in two pieces.
    private func write(
        _ events: ArraySlice<String>, to exchange: HTTPExchangeID,
        then end: @escaping (HTTPServer) -> Bool
    ) {
        guard let server else { return }
        guard let event = events.first else {
            underWay -= 1
            _ = end(server)
            return
        }
        let bytes = Array(event.utf8)
        server.write(exchange, bytes[..<(bytes.count / 2)])
        loop?.schedule(after: .milliseconds(1)) { [self] in
            server.write(exchange, bytes[(bytes.count / 2)...])
            write(events.dropFirst(), to: exchange, then: end)
        }
    }

    func onHangUp(exchange: HTTPExchangeID) { underWay -= 1 }
    func onDrained(exchange: HTTPExchangeID) {}
}

@Suite struct ServeBenchmarkTests {
    /// Status and output of a run against a server that answers like this.
    private static func run(
        _ server: FakeServer, _ arguments: [String]
    ) throws -> (status: Int32, output: String) {
        var output = ""
        let benchmark = try server.benchmark(arguments) { output += $0 }
        let status = try benchmark.run(takesSignals: false)
        return (status, output)
    }

    private static func value(_ label: String, in output: String) -> String? {
        output.split(separator: "\n").first { $0.hasPrefix(label) }?
            .dropFirst(label.count).trimmingCharacters(in: .whitespaces)
    }

    @Test func everyStreamIsReadToItsEnd() throws {
        let server = FakeServer { _ in .stream(FakeServer.events(["a", "b", "c"], tokens: 6)) }
        let result = try Self.run(
            server,
            [
                "--num-prompts", "20", "--input-len", "5", "--output-len", "6",
                "--max-concurrency", "4", "--request-id-prefix", "t-", "--num-warmups", "3",
                "--ready-check-timeout-sec", "10",
            ])
        #expect(result.status == 0, "\(result.output)")
        #expect(Self.value("Successful requests:", in: result.output) == "20")
        #expect(Self.value("Failed requests:", in: result.output) == "0")
        #expect(Self.value("Total input tokens:", in: result.output) == "100")
        #expect(Self.value("Total generated tokens:", in: result.output) == "120")
        #expect(result.output.contains("first model id: r/m"))
        // One test request, three to warm up, and those that count.
        #expect(server.bodies.count == 24)
        #expect(server.requestIDs.prefix(4).allSatisfy { $0 == nil })
        #expect(Set(server.requestIDs.dropFirst(4)) == Set((0..<20).map { "t-\($0)" }))
        #expect(server.bodies.allSatisfy { $0.hasPrefix(#"{"model": "m", "prompt": [1"#) })
        #expect(server.peakUnderWay == 4)
    }

    @Test func whatBreaksOffAndWhatIsRefusedIsCounted() throws {
        let server = FakeServer { index in
            switch index % 4 {
            case 0: .cut(Array(FakeServer.events(["a", "b"], tokens: 2).prefix(2)))
            case 1: .error
            case 2: .stream(["data: [DONE]\n\n"])
            default: .stream(FakeServer.events(["a"], tokens: 1))
            }
        }
        let result = try Self.run(server, ["--num-prompts", "8", "--max-concurrency", "1"])
        #expect(result.status == 1)
        #expect(Self.value("Successful requests:", in: result.output) == "2")
        #expect(Self.value("Failed requests:", in: result.output) == "6")
        #expect(result.output.contains(#"HTTP 500 Internal Server Error: {"error":"no\nluck"}"#))
        #expect(result.output.contains("the connection"))
        #expect(result.output.contains("the answer has no event with choices"))
    }

    @Test func anErrorInTheStreamIsAFailure() throws {
        let events = FakeServer.events(["a"], tokens: 1)
        let server = FakeServer { _ in
            .stream([events[0], "data: {\"error\":{\"message\":\"late\"}}\n\n", events[2]])
        }
        let result = try Self.run(server, ["--num-prompts", "1"])
        #expect(result.status == 1)
        #expect(result.output.contains("the stream reports an error"))
        #expect(result.output.contains("late"))
    }

    @Test func aServerThatSaysNothingDoesNotHoldTheRun() throws {
        let server = FakeServer {
            $0 == 0 ? .silence : .stream(FakeServer.events(["a"], tokens: 1))
        }
        let result = try Self.run(
            server, ["--num-prompts", "3", "--request-timeout-sec", "1", "--model", "m"])
        #expect(result.status == 1)
        #expect(Self.value("Failed requests:", in: result.output) == "1")
        #expect(result.output.contains("no end after 1.0 s (waiting)"))
    }

    @Test func aRefusedConnectionIsAFailureThatSaysSo() throws {
        let listener = cl_listen_tcp("127.0.0.1", 0, 1)
        let port = cl_local_port(listener)
        close(listener)
        var output = ""
        let configuration = try BenchFixtures.configuration([
            "--port", "\(port)", "--skip-tokenizer-init", "--model", "m", "--num-prompts", "3",
        ])
        let benchmark = try ServeBenchmark(configuration: configuration) { output += $0 }
        #expect(try benchmark.run(takesSignals: false) == 1)
        #expect(Self.value("Failed requests:", in: output) == "3")
        #expect(output.contains("cannot connect to 127.0.0.1:\(port): Connection refused"))
    }

    @Test func aServerThatNeverAnswersIsNotReady() throws {
        let server = FakeServer { _ in .error }
        #expect(throws: BenchError.self) {
            try Self.run(server, ["--num-prompts", "1", "--ready-check-timeout-sec", "1"])
        }
        #expect(server.bodies.count >= 1)
    }

    @Test func arrivalsAreSpreadOverTheirTime() throws {
        let server = FakeServer { _ in .stream(FakeServer.events(["a"], tokens: 1)) }
        let result = try Self.run(
            server, ["--num-prompts", "10", "--request-rate", "50", "--burstiness", "inf"])
        let duration = Double(Self.value("Benchmark duration (s):", in: result.output) ?? "") ?? 0
        #expect(result.status == 0)
        // The last of ten is due after 0.2 s.
        #expect(duration >= 0.2)
        #expect(Self.value("Request rate configured (RPS):", in: result.output) == "50.00")
    }

    @Test func theResultIsSaved() throws {
        let folder = NSTemporaryDirectory() + "bench-\(UUID().uuidString)"
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(atPath: folder) } }
        let server = FakeServer { _ in .stream(FakeServer.events(["x", "y"], tokens: 2)) }
        let result = try Self.run(
            server,
            [
                "--num-prompts", "2", "--save-result", "--save-detailed", "--result-dir", folder,
                "--result-filename", "r.json",
            ])
        #expect(result.status == 0)
        let data = try #require(FileManager.default.contents(atPath: folder + "/r.json"))
        let root = try JSONDocument(Array(data)).root
        #expect(root["model_id"]?.string == "r/m")
        #expect(root["generated_texts"]?.array?.compactMap(\.string) == ["xy", "xy"])
    }
}
