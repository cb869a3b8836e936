internal import COpenSSL

public enum TLSError: Error, Hashable, Sendable, CustomStringConvertible {
    case certificateUnusable(file: String, reason: String)
    case keyUnusable(file: String, reason: String)
    case keyDoesNotMatch(keyFile: String, certificateFile: String)
    case setUpFailed(function: String, reason: String)

    public var description: String {
        switch self {
        case .certificateUnusable(let file, let reason):
            "The certificate chain in \(file) cannot be used: \(reason). It must be a PEM file with"
                + " the server's certificate first."
        case .keyUnusable(let file, let reason):
            "The private key in \(file) cannot be used: \(reason). It must be a PEM file without a"
                + " passphrase that this process may read."
        case .keyDoesNotMatch(let keyFile, let certificateFile):
            "The private key in \(keyFile) does not belong to the certificate in"
                + " \(certificateFile)."
        case .setUpFailed(let function, let reason):
            "OpenSSL's \(function) failed: \(reason)."
        }
    }
}

/// A server's certificate and key: what every TLS connection is made from. TLS 1.2 at least, ALPN
/// `http/1.1`. Belongs to the loop's thread, as the sessions do.
public final class TLSContext {
    let context: OpaquePointer

    public init(certificateFile: String, keyFile: String) throws(TLSError) {
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_server_method()) else {
            throw .setUpFailed(function: "SSL_CTX_new", reason: Self.takeReason())
        }
        do throws(TLSError) {
            try Self.configure(context, certificateFile: certificateFile, keyFile: keyFile)
        } catch {
            SSL_CTX_free(context)
            throw error
        }
        self.context = context
    }

    deinit { SSL_CTX_free(context) }

    private static func configure(
        _ context: OpaquePointer, certificateFile: String, keyFile: String
    ) throws(TLSError) {
        guard co_ssl_ctx_configure(context) == 1 else {
            throw .setUpFailed(function: "SSL_CTX_set_min_proto_version", reason: takeReason())
        }
        // OpenSSL would ask for the passphrase at the terminal.
        SSL_CTX_set_default_passwd_cb(context) { _, _, _, _ in -1 }
        guard SSL_CTX_use_certificate_chain_file(context, certificateFile) == 1 else {
            throw .certificateUnusable(file: certificateFile, reason: takeReason())
        }
        guard SSL_CTX_use_PrivateKey_file(context, keyFile, SSL_FILETYPE_PEM) == 1 else {
            let code = ERR_peek_error()
            let reason = takeReason()
            if ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH {
                throw .keyDoesNotMatch(keyFile: keyFile, certificateFile: certificateFile)
            }
            throw .keyUnusable(file: keyFile, reason: reason)
        }
        guard SSL_CTX_check_private_key(context) == 1 else {
            ERR_clear_error()
            throw .keyDoesNotMatch(keyFile: keyFile, certificateFile: certificateFile)
        }
        SSL_CTX_set_alpn_select_cb(
            context,
            { _, chosen, chosenCount, offered, offeredCount, _ in
                selectHTTP1(chosen, chosenCount, offered, offeredCount)
            }, nil)
    }

    /// The reasons of OpenSSL's queue, which is empty afterwards.
    static func takeReason() -> String {
        var reasons: [String] = []
        while true {
            let code = ERR_get_error()
            if code == 0 { break }
            let text = [CChar](unsafeUninitializedCapacity: 256) { buffer, count in
                ERR_error_string_n(code, buffer.baseAddress, buffer.count)
                count = buffer.firstIndex(of: 0) ?? 0
            }
            reasons.append(String(decoding: text.map { UInt8(bitPattern: $0) }, as: UTF8.self))
        }
        return reasons.isEmpty ? "no reason given" : reasons.joined(separator: "; ")
    }
}

/// RFC 7301 section 3.2: without a protocol in common the handshake fails.
private func selectHTTP1(
    _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ chosenCount: UnsafeMutablePointer<UInt8>?,
    _ offered: UnsafePointer<UInt8>?, _ offeredCount: UInt32
) -> Int32 {
    guard let chosen, let chosenCount, let offered else { return SSL_TLSEXT_ERR_ALERT_FATAL }
    let list = UnsafeBufferPointer(start: offered, count: Int(offeredCount))
    var index = 0
    while index < list.count {
        let count = Int(list[index])
        let name = list[(index + 1)...].prefix(count)
        if name.elementsEqual("http/1.1".utf8) {
            // Points into the client's list, as SSL_select_next_proto's result does.
            chosen.pointee = offered + index + 1
            chosenCount.pointee = list[index]
            return SSL_TLSEXT_ERR_OK
        }
        index += 1 + count
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL
}
