internal import CLinux
internal import CSharedRing
internal import Glibc

/// This process's shared memory, into which its peers write: one ring a possible sender.
///
/// It has no name: peers reach it through `/proc/<pid>/fd/<fd>`, and it is gone when its last user
/// is. Pages are only backed by memory once written, so unused rings cost nothing.
final class SharedMemoryInbox: @unchecked Sendable {
    // The handle is used by one thread at a time; creation may happen on another one.
    let handle: OpaquePointer
    let key: UInt64
    let incarnation: UInt64

    init(ringCount: Int, ringBytes: Int, incarnation: UInt64) throws(CollectiveError) {
        precondition(
            ringBytes >= CollectivesOptions.ringBytesMin && ringBytes & (ringBytes - 1) == 0,
            "a ring of \(ringBytes) bytes is not a power of two")
        // 0 marks a ring without an owner.
        key = cl_random_u64() | 1
        self.incarnation = incarnation
        guard
            let handle = csr_inbox_create(UInt32(ringCount), UInt64(ringBytes), key, incarnation)
        else {
            throw .setup(
                reason: "shared memory of \(ringCount) rings of \(ringBytes) bytes: "
                    + SystemText.of(cl_errno()))
        }
        self.handle = handle
    }

    deinit { csr_inbox_free(handle) }

    var fd: Int32 { csr_inbox_fd(handle) }
    var byteCount: UInt64 { csr_inbox_bytes(handle) }
}

/// The sending side to one peer: its inbox, mapped as far as this worker writes to it.
struct SharedMemoryPeer {
    let handle: OpaquePointer
    let key: UInt64

    static func open(
        _ address: SharedMemoryAddress, peer: Int, rank: Int, inbox: SharedMemoryInbox,
        tag: OperationTag
    ) throws(CollectiveError) -> SharedMemoryPeer {
        var failure = CSR_OK
        let expected = csr_identity(
            key: address.key, incarnation: address.incarnation, bytes: address.byteCount)
        guard
            let handle = csr_peer_open(
                address.pid, address.fd, expected, UInt32(rank), inbox.key, &failure)
        else {
            let number = cl_errno()
            let reason = "shared memory: \(text(failure, address, number))"
            if failure == CSR_NO_PROCESS || (failure == CSR_NO_FILE && number == ENOENT) {
                throw .peerLost(peer: peer, tag: tag, reason: reason)
            }
            throw .setup(reason: "rank \(peer): \(reason)")
        }
        return SharedMemoryPeer(handle: handle, key: address.key)
    }

    private static func text(
        _ failure: csr_failure, _ address: SharedMemoryAddress, _ number: Int32
    ) -> String {
        let place = "/proc/\(address.pid)/fd/\(address.fd)"
        return switch failure {
        case CSR_NO_PROCESS: "process \(address.pid) is gone"
        case CSR_NO_FILE:
            "\(place) cannot be opened (\(SystemText.of(number))); all workers of a host "
                + "must run under one user"
        case CSR_NOT_AN_INBOX: "\(place) is not the memory that was announced"
        case CSR_RING_TAKEN: "another worker of the same rank writes to \(place)"
        default: "\(place): \(SystemText.of(number))"
        }
    }
}
