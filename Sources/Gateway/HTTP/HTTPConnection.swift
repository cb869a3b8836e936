internal import Glibc
internal import Protocol

/// One client's connection: its descriptor, its buffers, and how far its current request is.
/// Decides nothing; ``HTTPServer`` does.
final class HTTPConnection {
    enum Phase {
        case handshaking
        /// A request is read, or none has begun.
        case reading
        /// A request was handed over and its answer is not complete. Nothing is parsed meanwhile.
        case answering
        /// The last answer is complete and not yet sent.
        case finishing
        /// Everything is sent and our side is shut down; the client's bytes are dropped. To close
        /// at once would reset the connection if it has sent more, and the reset could overtake
        /// the answer (RFC 9112 section 9.6).
        case lingering
        case closed
    }

    /// Where in reading it is: each stage has a deadline, set when the stage begins.
    enum ReadingStage {
        /// Connected, and no request has begun.
        case fresh
        case head
        case body
        /// Between requests.
        case idle
    }

    enum Stream {
        case none
        case chunked
        case untilClose
        /// The answer to HEAD, and those that cannot have a body.
        case bodiless
    }

    enum SendResult {
        case done
        case blocked
        case broken
    }

    let descriptor: Int32
    let slot: Int
    let peer: String?
    let tls: TLSSession?
    var parser: HTTPParser
    var phase: Phase
    var stage = ReadingStage.fresh
    /// Read and not yet parsed.
    var input = ByteQueue()
    /// Written and, with TLS, not yet encrypted.
    var output = ByteQueue()
    private var encrypted = ByteQueue()

    // The current exchange; `serial` 0 is none.
    var serial: UInt64 = 0
    var isHeadRequest = false
    var isVersion10 = false
    var keepsAlive = false
    var stream = Stream.none
    var isCongested = false

    var isDirty = false
    var isBlocked = false
    var interest: UInt32 = 0
    var deadline: Instant?
    var stallDeadline: Instant?

    init(
        descriptor: Int32, slot: Int, peer: String?, tls: TLSSession?, limits: HTTPMessageLimits
    ) {
        self.descriptor = descriptor
        self.slot = slot
        self.peer = peer
        self.tls = tls
        parser = HTTPParser(limits: limits)
        phase = tls == nil ? .reading : .handshaking
    }

    var unsentBytes: Int { output.count + encrypted.count }

    /// One send for all that was written since the last one. `sentBytes` says whether the client
    /// takes any.
    func send() -> (result: SendResult, sentBytes: Int) {
        guard let tls else { return Self.send(&output, to: descriptor) }
        var sentBytes = 0
        for _ in 0..<HTTPLimits.encryptionsPerTurnMax {
            if encrypted.isEmpty {
                let count = min(output.count, HTTPLimits.encryptedBytesMax)
                let isWritten = output.withUnsafeBytes {
                    tls.write(UnsafeRawBufferPointer(rebasing: $0.prefix(count)))
                }
                guard isWritten else { return (.broken, sentBytes) }
                output.removeFirst(count)
                tls.takeProduced(into: &encrypted)
            }
            if encrypted.isEmpty { return (.done, sentBytes) }
            let (result, count) = Self.send(&encrypted, to: descriptor)
            sentBytes += count
            if result != .done { return (result, sentBytes) }
        }
        return (output.isEmpty ? .done : .blocked, sentBytes)
    }

    /// Handshake records and alerts.
    func takeProduced() { tls?.takeProduced(into: &encrypted) }

    private static func send(
        _ queue: inout ByteQueue, to descriptor: Int32
    ) -> (result: SendResult, sentBytes: Int) {
        if queue.isEmpty { return (.done, 0) }
        let count = queue.withUnsafeBytes {
            Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        if count < 0 {
            let isTemporary = errno == EAGAIN || errno == EINTR
            return (isTemporary ? .blocked : .broken, 0)
        }
        queue.removeFirst(count)
        return (queue.isEmpty ? .done : .blocked, count)
    }
}

/// The numeric address of the other end, nil where it has none.
func peerAddress(of descriptor: Int32) -> String? {
    var address = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    return withUnsafeMutableBytes(of: &address) { bytes -> String? in
        guard let base = bytes.baseAddress else { return nil }
        let result = getpeername(
            descriptor, base.assumingMemoryBound(to: sockaddr.self), &length)
        guard result == 0 else { return nil }
        let family = Int32(base.load(as: sa_family_t.self))
        let offset =
            switch family {
            case AF_INET: MemoryLayout<sockaddr_in>.offset(of: \.sin_addr)
            case AF_INET6: MemoryLayout<sockaddr_in6>.offset(of: \.sin6_addr)
            default: Int?.none
            }
        guard let offset else { return nil }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(family, base + offset, &text, socklen_t(text.count)) != nil else {
            return nil
        }
        return String(
            decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
