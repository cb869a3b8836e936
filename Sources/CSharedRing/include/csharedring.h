// Byte rings between the processes of one host, in anonymous shared memory.
//
// Every process owns an inbox: one sealed memfd with a header page and one ring for each possible
// sender. A sender opens the inbox through /proc/<pid>/fd/<fd>, so that nothing has a name that
// could outlive its process. A ring has exactly one writer (who claimed it) and one reader (the
// inbox's owner); each process sleeps on one futex, the doorbell of its own inbox.
//
// What a peer wrote into shared memory is outside input: positions are checked before they are
// used, and a ring that makes no sense is reported as corrupt. Sealing keeps a peer from shrinking
// memory that others have mapped.
//
// The ring is Lamport's single-producer queue ("Proving the correctness of multiprocess
// programs", 1977) with free-running positions; sleeping is the store-fence-load of Dekker.
#ifndef PHALANX_CSHAREDRING_H
#define PHALANX_CSHAREDRING_H

#include <stddef.h>
#include <stdint.h>

struct csr_inbox;  // this process's own memory
struct csr_peer;   // another process's inbox, as far as this process writes to it

enum csr_failure {
    CSR_OK = 0,
    CSR_NO_PROCESS,      // no such process
    CSR_NO_FILE,         // the process has no such descriptor, or may not be looked into
    CSR_NOT_AN_INBOX,    // another file, size, version, key or incarnation than was announced
    CSR_RING_TAKEN,      // another sender has claimed the ring
    CSR_SYSTEM,          // mmap or the like failed; see errno
};

// What an inbox says of itself; a peer must find exactly this.
struct csr_identity {
    uint64_t key;
    uint64_t incarnation;
    uint64_t bytes;  // of the whole memory
};

// `ring_bytes` is a power of two of at least 4096. NULL with errno.
struct csr_inbox *csr_inbox_create(uint32_t ring_count, uint64_t ring_bytes, uint64_t key,
                                   uint64_t incarnation);
int csr_inbox_fd(const struct csr_inbox *inbox);
uint64_t csr_inbox_bytes(const struct csr_inbox *inbox);
// Tells the peers that this inbox will not be read any more.
void csr_inbox_mark_closed(struct csr_inbox *inbox);
// Marks closed, unmaps and closes; peers keep their mappings.
void csr_inbox_free(struct csr_inbox *inbox);
// The key of the sender that claimed a ring, 0 before.
uint64_t csr_ring_owner(const struct csr_inbox *inbox, uint32_t ring);

// Maps ring `ring` of the inbox that process `pid` holds as descriptor `fd`, checks it against
// `expected` and claims the ring for `own_key`. NULL with `*failure`.
struct csr_peer *csr_peer_open(int pid, int fd, struct csr_identity expected, uint32_t ring,
                               uint64_t own_key, enum csr_failure *failure);
// Wakes the peer, so that it sees what this process marked, and unmaps.
void csr_peer_free(struct csr_peer *peer);
int csr_peer_is_alive(const struct csr_peer *peer);
int csr_peer_is_closed(const struct csr_peer *peer);

// Copies as much of `head`, then of `body`, as fits, at most one chunk, into the peer's ring, and
// shows both to the peer at once. Returns the bytes copied, 0 when the ring is full (the peer will
// then ring this process's bell), -1 if corrupt.
int64_t csr_write(struct csr_peer *peer, const void *head, size_t head_count, const void *body,
                  size_t body_count);
// Whether the own ring `ring` holds something to read. Cheap enough to be asked without end.
int csr_is_readable(const struct csr_inbox *inbox, uint32_t ring);
// Copies at most `count` bytes, at most one chunk, out of the own ring `ring`, which `writer`
// fills. Returns the bytes copied, 0 when it is empty, -1 if corrupt.
int64_t csr_read(struct csr_inbox *inbox, uint32_t ring, struct csr_peer *writer, void *bytes,
                 size_t count);

// Sleeping: prepare, look at all rings once more, then sleep or cancel.
uint32_t csr_sleep_prepare(struct csr_inbox *inbox);
void csr_sleep_cancel(struct csr_inbox *inbox);
// Sleeps until the bell rings, at most `nanoseconds`.
void csr_sleep(struct csr_inbox *inbox, uint32_t prepared, int64_t nanoseconds);

// A pause inside a spinning loop.
void csr_relax(void);
// Processors that the calling thread may run on.
int csr_processor_count(void);
#endif
