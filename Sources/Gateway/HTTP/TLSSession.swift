internal import COpenSSL

/// The server's side of one TLS connection over memory BIOs: OpenSSL never sees the descriptor, so
/// that readiness, deadlines and hang-ups are handled where those of plain connections are.
final class TLSSession {
    enum ReadResult {
        case bytes(Int)
        case needsMore
        /// The client sent close_notify.
        case closed
        case failed
    }

    enum HandshakeResult {
        case done
        case needsMore
        case failed
    }

    private let session: OpaquePointer
    /// Both belong to `session`, which frees them.
    private let received: OpaquePointer
    private let produced: OpaquePointer

    /// Nil when memory is short.
    init?(_ context: TLSContext) {
        guard let session = SSL_new(context.context) else { return nil }
        guard let received = BIO_new(BIO_s_mem()) else {
            SSL_free(session)
            return nil
        }
        guard let produced = BIO_new(BIO_s_mem()) else {
            BIO_free(received)
            SSL_free(session)
            return nil
        }
        SSL_set_bio(session, received, produced)
        SSL_set_accept_state(session)
        self.session = session
        self.received = received
        self.produced = produced
    }

    deinit { SSL_free(session) }

    /// Takes bytes from the network. False when memory is short.
    func receive(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.isEmpty || BIO_write(received, bytes.baseAddress, Int32(bytes.count)) == bytes.count
    }

    func handshake() -> HandshakeResult {
        ERR_clear_error()
        let result = SSL_do_handshake(session)
        if result == 1 { return .done }
        let error = SSL_get_error(session, result)
        ERR_clear_error()
        return error == SSL_ERROR_WANT_READ ? .needsMore : .failed
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) -> ReadResult {
        ERR_clear_error()
        let count = SSL_read(session, buffer.baseAddress, Int32(buffer.count))
        if count > 0 { return .bytes(Int(count)) }
        let error = SSL_get_error(session, count)
        ERR_clear_error()
        switch error {
        case SSL_ERROR_WANT_READ: return .needsMore
        case SSL_ERROR_ZERO_RETURN: return .closed
        default: return .failed
        }
    }

    /// Encrypts all of `bytes`: a memory BIO is never full. False when the session is broken.
    func write(_ bytes: UnsafeRawBufferPointer) -> Bool {
        if bytes.isEmpty { return true }
        ERR_clear_error()
        let written = SSL_write(session, bytes.baseAddress, Int32(bytes.count))
        ERR_clear_error()
        return written == bytes.count
    }

    /// Says close_notify; nothing can be written after it.
    func finish() {
        ERR_clear_error()
        _ = SSL_shutdown(session)
        ERR_clear_error()
    }

    /// Moves what must be sent to the end of `queue`.
    func takeProduced(into queue: inout ByteQueue) {
        let count = co_bio_pending(produced)
        if count == 0 { return }
        queue.append(
            [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
                let result = BIO_read(produced, buffer.baseAddress, Int32(buffer.count))
                initializedCount = max(0, Int(result))
            })
    }
}
