import COpenSSL
import DaemonRuntime
import Foundation
import Glibc
import Protocol
import Testing

@testable import Gateway

/// A self-signed certificate of `openssl req`, in a folder of its own.
private final class TemporaryCertificate {
    let folder: URL
    var certificateFile: String { folder.appendingPathComponent("certificate.pem").path }
    var keyFile: String { folder.appendingPathComponent("key.pem").path }

    init() throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("phalanx-tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", keyFile, "-out",
            certificateFile,
        ]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "openssl req failed")
    }

    func context() throws -> TLSContext {
        try TLSContext(certificateFile: certificateFile, keyFile: keyFile)
    }

    deinit {
        do {
            try FileManager.default.removeItem(at: folder)
        } catch {
            print("\(folder.path) could not be removed: \(error)")
        }
    }
}

/// OpenSSL's client on the descriptor of a raw one, which the loop wakes it for.
private final class TLSTestClient {
    let raw: TestClient
    let context: OpaquePointer
    let session: OpaquePointer
    private(set) var isConnected = false
    private(set) var isEnded = false
    private(set) var received: [UInt8] = []

    init(_ fixture: ServerFixture, protocols: [String] = ["http/1.1"], versionMax: Int32 = 0) throws
    {
        raw = fixture.connect()
        raw.pauseReading()
        context = try #require(SSL_CTX_new(TLS_client_method()))
        session = try #require(SSL_new(context))
        if versionMax != 0 {
            SSL_ctrl(session, SSL_CTRL_SET_MAX_PROTO_VERSION, Int(versionMax), nil)
        }
        let list = protocols.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        if !list.isEmpty { SSL_set_alpn_protos(session, list, UInt32(list.count)) }
        #expect(fcntl(raw.descriptor, F_SETFL, O_NONBLOCK) == 0)
        SSL_set_fd(session, raw.descriptor)
        SSL_set_connect_state(session)
        fixture.loop.watch(raw.descriptor, for: .readable) { [unowned self] _ in pump() }
        pump()
    }

    deinit {
        raw.loop.unwatch(raw.descriptor)
        SSL_free(session)
        SSL_CTX_free(context)
    }

    var text: String { String(decoding: received, as: UTF8.self) }

    var selectedProtocol: String {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(session, &name, &count)
        return String(
            decoding: UnsafeBufferPointer(start: name, count: Int(count)), as: UTF8.self)
    }

    private func pump() {
        ERR_clear_error()
        if !isConnected {
            let result = SSL_do_handshake(session)
            isConnected = result == 1
            if !isConnected {
                if SSL_get_error(session, result) != SSL_ERROR_WANT_READ { end() }
                return
            }
        }
        var buffer = [UInt8](repeating: 0, count: 32 << 10)
        while true {
            let count = SSL_read(session, &buffer, Int32(buffer.count))
            if count <= 0 {
                if SSL_get_error(session, count) != SSL_ERROR_WANT_READ { end() }
                return
            }
            received.append(contentsOf: buffer.prefix(Int(count)))
        }
    }

    private func end() {
        isEnded = true
        raw.loop.unwatch(raw.descriptor)
    }

    func send(_ text: String) {
        let bytes = Array(text.utf8)
        #expect(SSL_write(session, bytes, Int32(bytes.count)) == bytes.count)
    }

    func get(_ path: String) { send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n") }
}

@Suite struct HTTPServerTLSTests {
    @Test func requestsAndAnswersPassThroughTLS() throws {
        let certificate = try TemporaryCertificate()
        let fixture = try ServerFixture(tls: certificate.context())
        fixture.echo()
        let client = try TLSTestClient(fixture)
        #expect(fixture.run { client.isConnected })
        #expect(client.selectedProtocol == "http/1.1")
        let body = String(repeating: "0123456789", count: 20000)
        for index in 0..<3 {
            client.send(
                "POST /\(index) HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbody\(index)")
            #expect(fixture.run { client.text.hasSuffix("POST /\(index) body\(index)") })
        }
        fixture.handler.answer = { _, exchange in
            fixture.server.beginStream(exchange, status: .ok)
            fixture.server.write(exchange, Array(body.utf8))
            fixture.server.finishStream(exchange)
        }
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        #expect(fixture.run { client.isEnded })
        #expect(client.text.hasSuffix("\r\n30d40\r\n\(body)\r\n0\r\n\r\n"))
        // The end was announced: nobody cut the stream.
        #expect(SSL_get_shutdown(client.session) & SSL_RECEIVED_SHUTDOWN != 0)
    }

    @Test func aTLSClientThatLeavesIsNoticedInOneTurn() throws {
        let certificate = try TemporaryCertificate()
        let fixture = try ServerFixture(tls: certificate.context())
        for leave in [TestClient.close, TestClient.reset, TestClient.closeSendingSide] {
            fixture.handler.exchanges = []
            fixture.handler.hangUps = []
            let client = try TLSTestClient(fixture)
            #expect(fixture.run { client.isConnected })
            client.get("/")
            #expect(fixture.run { fixture.handler.exchanges.count == 1 })
            let exchange = fixture.handler.exchanges[0]
            fixture.server.beginStream(exchange, status: .ok)
            #expect(fixture.run { client.text.hasSuffix("\r\n\r\n") })
            client.raw.loop.unwatch(client.raw.descriptor)
            leave(client.raw)()
            #expect(fixture.turns { fixture.handler.hangUps == [exchange] } == 1)
        }
        #expect(fixture.server.openConnections == 0)
    }

    /// What a gateway does at SIGHUP: nobody is cut off, and who comes sees the new certificate.
    @Test func aRenewedCertificateIsForNewConnections() throws {
        let (old, new) = (try TemporaryCertificate(), try TemporaryCertificate())
        let fixture = try ServerFixture(tls: old.context())
        fixture.echo()
        let first = try TLSTestClient(fixture)
        #expect(fixture.run { first.isConnected })
        fixture.server.adopt(try new.context())
        let second = try TLSTestClient(fixture)
        #expect(fixture.run { second.isConnected })
        let certificates = [first, second].map { SSL_get1_peer_certificate($0.session) }
        defer { for certificate in certificates { X509_free(certificate) } }
        #expect(X509_cmp(certificates[0], certificates[1]) != 0)
        for client in [first, second] {
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            #expect(fixture.run { client.text.hasSuffix("POST / body") })
        }
    }

    @Test func closeNotifyIsAHangUp() throws {
        let certificate = try TemporaryCertificate()
        let fixture = try ServerFixture(tls: certificate.context())
        let client = try TLSTestClient(fixture)
        #expect(fixture.run { client.isConnected })
        client.get("/")
        #expect(fixture.run { fixture.handler.exchanges.count == 1 })
        SSL_shutdown(client.session)
        #expect(fixture.run { fixture.handler.hangUps.count == 1 })
    }

    @Test func garbageEndsTheConnection() throws {
        let certificate = try TemporaryCertificate()
        let fixture = try ServerFixture(tls: certificate.context())
        let plain = fixture.connect()
        plain.get()
        #expect(fixture.run { plain.isEnded })
        #expect(!plain.text.contains("HTTP/"))
        let broken = try TLSTestClient(fixture)
        #expect(fixture.run { broken.isConnected })
        broken.raw.send([0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5])
        #expect(fixture.run { broken.isEnded })
        #expect(fixture.server.openConnections == 0)
        #expect(fixture.handler.requests.isEmpty)
    }

    @Test func aHandshakeThatStopsTimesOut() throws {
        let certificate = try TemporaryCertificate()
        var limits = HTTPLimits()
        limits.handshakeDeadline = .milliseconds(30)
        let fixture = try ServerFixture(limits: limits, tls: certificate.context())
        let client = fixture.connect()
        client.send([0x16, 3, 1])
        #expect(fixture.run { client.isEnded })
        #expect(fixture.server.openConnections == 0)
    }

    @Test func oldVersionsAndOtherProtocolsAreRefused() throws {
        let certificate = try TemporaryCertificate()
        let fixture = try ServerFixture(tls: certificate.context())
        let old = try TLSTestClient(fixture, versionMax: TLS1_1_VERSION)
        #expect(fixture.run { old.isEnded })
        #expect(!old.isConnected)
        let other = try TLSTestClient(fixture, protocols: ["h2"])
        #expect(fixture.run { other.isEnded })
        #expect(!other.isConnected)
        let silent = try TLSTestClient(fixture, protocols: [])
        #expect(fixture.run { silent.isConnected })
    }

    @Test func errorsNameTheFileAndTheReason() throws {
        let first = try TemporaryCertificate()
        let second = try TemporaryCertificate()
        func error(_ certificateFile: String, _ keyFile: String) -> TLSError? {
            do throws(TLSError) {
                _ = try TLSContext(certificateFile: certificateFile, keyFile: keyFile)
                return nil
            } catch {
                return error
            }
        }
        let missing = error("/no/such/file", first.keyFile)
        #expect(missing?.description.contains("/no/such/file") == true)
        #expect(missing?.description.contains("No such file or directory") == true)
        let swapped = error(first.certificateFile, first.certificateFile)
        #expect(swapped?.description.contains("private key in \(first.certificateFile)") == true)
        #expect(
            error(first.certificateFile, second.keyFile)
                == .keyDoesNotMatch(
                    keyFile: second.keyFile, certificateFile: first.certificateFile))
        #expect(error(first.certificateFile, first.keyFile) == nil)
    }
}
