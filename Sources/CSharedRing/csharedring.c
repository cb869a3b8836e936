#define _GNU_SOURCE
#include "csharedring.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE_BYTES = 4096,
    LAYOUT_VERSION = 1,
    // A copy is published in pieces of this size, so that the reader works while the writer does.
    CHUNK_BYTES = 64 * 1024,
};
static const uint64_t INBOX_MAGIC = 0x316e616c61687021;  // "!phalan1", little-endian
static const int SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// First page of an inbox. Everything before `doorbell` is constant once published.
struct header {
    uint64_t magic;
    uint32_t version;
    uint32_t ring_count;
    uint64_t ring_bytes;
    uint64_t key;
    uint64_t incarnation;
    alignas(64) _Atomic uint32_t doorbell;  // the futex
    _Atomic uint32_t sleeping;
    alignas(64) _Atomic uint32_t closed;
};

// First page of a ring; its bytes follow. Positions only grow; `head - tail` bytes are in flight.
struct control {
    alignas(64) _Atomic uint64_t owner;         // key of the one writer, 0 while unclaimed
    alignas(64) _Atomic uint64_t head;          // stored by the writer
    alignas(64) _Atomic uint64_t tail;          // stored by the reader
    alignas(64) _Atomic uint32_t writer_waits;  // the writer found the ring full
};

_Static_assert(sizeof(struct header) <= PAGE_BYTES, "the header fits its page");
_Static_assert(sizeof(struct control) <= PAGE_BYTES, "the control words fit their page");

struct csr_inbox {
    int fd;
    uint32_t ring_count;
    uint64_t ring_bytes;
    uint64_t bytes;
    struct header *header;
    uint64_t *tails;  // this reader's own positions: what the memory says is not trusted
};

struct csr_peer {
    int pid;
    int pidfd;  // -1 where the kernel has none
    uint64_t ring_bytes;
    uint64_t head;  // this writer's own position
    struct header *header;
    struct control *ring;
};

static uint64_t ring_offset(uint64_t ring, uint64_t ring_bytes) {
    return PAGE_BYTES + ring * (PAGE_BYTES + ring_bytes);
}

static struct control *ring_at(const struct csr_inbox *inbox, uint32_t ring) {
    return (struct control *)((char *)inbox->header + ring_offset(ring, inbox->ring_bytes));
}

static void ring_bell(struct header *header) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&header->sleeping, memory_order_relaxed) == 0) return;
    atomic_store_explicit(&header->sleeping, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&header->doorbell, 1, memory_order_release);
    syscall(SYS_futex, &header->doorbell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

struct csr_inbox *csr_inbox_create(uint32_t ring_count, uint64_t ring_bytes, uint64_t key,
                                   uint64_t incarnation) {
    struct csr_inbox *inbox = calloc(1, sizeof *inbox);
    uint64_t *tails = calloc(ring_count, sizeof *tails);
    uint64_t bytes = ring_offset(ring_count, ring_bytes);
    int fd = memfd_create("phalanx-collectives", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *memory = MAP_FAILED;
    if (inbox && tails && fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, SEALS) == 0) {
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (memory == MAP_FAILED) {
        int error = errno;
        if (fd >= 0) close(fd);
        free(tails);
        free(inbox);
        errno = error;
        return NULL;
    }
    struct header *header = memory;
    header->version = LAYOUT_VERSION;
    header->ring_count = ring_count;
    header->ring_bytes = ring_bytes;
    header->key = key;
    header->incarnation = incarnation;
    header->magic = INBOX_MAGIC;
    *inbox = (struct csr_inbox){fd, ring_count, ring_bytes, bytes, header, tails};
    return inbox;
}

int csr_inbox_fd(const struct csr_inbox *inbox) { return inbox->fd; }
uint64_t csr_inbox_bytes(const struct csr_inbox *inbox) { return inbox->bytes; }

void csr_inbox_mark_closed(struct csr_inbox *inbox) {
    atomic_store_explicit(&inbox->header->closed, 1, memory_order_seq_cst);
}

void csr_inbox_free(struct csr_inbox *inbox) {
    csr_inbox_mark_closed(inbox);
    munmap(inbox->header, inbox->bytes);
    close(inbox->fd);
    free(inbox->tails);
    free(inbox);
}

uint64_t csr_ring_owner(const struct csr_inbox *inbox, uint32_t ring) {
    return atomic_load_explicit(&ring_at(inbox, ring)->owner, memory_order_acquire);
}

// Whether the mapped header is the inbox that was announced, and holds ring `ring`.
static int header_matches(const struct header *header, const struct csr_identity *expected,
                          uint32_t ring, uint64_t ring_bytes) {
    return header->magic == INBOX_MAGIC && header->version == LAYOUT_VERSION &&
           header->key == expected->key && header->incarnation == expected->incarnation &&
           ring < header->ring_count && ring_bytes >= PAGE_BYTES && ring_bytes < (1ull << 40) &&
           (ring_bytes & (ring_bytes - 1)) == 0 &&
           ring_offset(header->ring_count, ring_bytes) == expected->bytes;
}

// Maps and checks; `fd` stays the caller's.
static enum csr_failure map_peer(struct csr_peer *peer, int fd, struct csr_identity expected,
                                 uint32_t ring, uint64_t own_key) {
    struct stat status;
    if (fstat(fd, &status) < 0) return CSR_SYSTEM;
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != expected.bytes ||
        expected.bytes < PAGE_BYTES || fcntl(fd, F_GET_SEALS) != SEALS) {
        return CSR_NOT_AN_INBOX;
    }
    void *memory = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return CSR_SYSTEM;
    peer->header = memory;
    peer->ring_bytes = peer->header->ring_bytes;
    if (!header_matches(peer->header, &expected, ring, peer->ring_bytes)) return CSR_NOT_AN_INBOX;
    memory = mmap(NULL, PAGE_BYTES + peer->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                  (off_t)ring_offset(ring, peer->ring_bytes));
    if (memory == MAP_FAILED) return CSR_SYSTEM;
    peer->ring = memory;
    uint64_t unclaimed = 0;
    if (!atomic_compare_exchange_strong(&peer->ring->owner, &unclaimed, own_key)) {
        return CSR_RING_TAKEN;
    }
    return CSR_OK;
}

static void unmap_peer(struct csr_peer *peer) {
    if (peer->ring) munmap(peer->ring, PAGE_BYTES + peer->ring_bytes);
    if (peer->header) munmap(peer->header, PAGE_BYTES);
    if (peer->pidfd >= 0) close(peer->pidfd);
    free(peer);
}

struct csr_peer *csr_peer_open(int pid, int fd, struct csr_identity expected, uint32_t ring,
                               uint64_t own_key, enum csr_failure *failure) {
    struct csr_peer *peer = calloc(1, sizeof *peer);
    *failure = CSR_SYSTEM;
    if (!peer) return NULL;
    peer->pid = pid;
    // Before the file: if the number is reused in between, the key of the file does not match.
    peer->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (peer->pidfd < 0 && (errno == ESRCH || errno == EINVAL)) {
        *failure = CSR_NO_PROCESS;
        unmap_peer(peer);
        return NULL;
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    int file = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        *failure = CSR_NO_FILE;
    } else {
        *failure = map_peer(peer, file, expected, ring, own_key);
        int error = errno;
        close(file);
        errno = error;
    }
    if (*failure == CSR_OK) return peer;
    int error = errno;
    unmap_peer(peer);
    errno = error;
    return NULL;
}

void csr_peer_free(struct csr_peer *peer) {
    ring_bell(peer->header);
    unmap_peer(peer);
}

int csr_peer_is_alive(const struct csr_peer *peer) {
    if (peer->pidfd < 0) return kill(peer->pid, 0) == 0 || errno == EPERM;
    struct pollfd exited = {.fd = peer->pidfd, .events = POLLIN};
    return poll(&exited, 1, 0) <= 0;
}

int csr_peer_is_closed(const struct csr_peer *peer) {
    return (int)atomic_load_explicit(&peer->header->closed, memory_order_acquire);
}

static char *ring_bytes_of(struct control *ring) { return (char *)ring + PAGE_BYTES; }

// Into the ring at position `place`, around its end.
static void put(struct csr_peer *peer, uint64_t place, const void *bytes, size_t count) {
    uint64_t start = place & (peer->ring_bytes - 1);
    size_t first = count < peer->ring_bytes - start ? count : (size_t)(peer->ring_bytes - start);
    char *ring = ring_bytes_of(peer->ring);
    if (first > 0) memcpy(ring + start, bytes, first);
    if (count > first) memcpy(ring, (const char *)bytes + first, count - first);
}

int csr_is_readable(const struct csr_inbox *inbox, uint32_t ring) {
    return atomic_load_explicit(&ring_at(inbox, ring)->head, memory_order_acquire) !=
           inbox->tails[ring];
}

int64_t csr_write(struct csr_peer *peer, const void *head, size_t head_count, const void *body,
                  size_t body_count) {
    struct control *ring = peer->ring;
    uint64_t used = peer->head - atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (used > peer->ring_bytes) return -1;
    if (used == peer->ring_bytes) {
        atomic_store_explicit(&ring->writer_waits, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        used = peer->head - atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (used > peer->ring_bytes) return -1;
        if (used == peer->ring_bytes) return 0;
    }
    size_t space = (size_t)(peer->ring_bytes - used);
    if (space > CHUNK_BYTES) space = CHUNK_BYTES;
    size_t heads = head_count < space ? head_count : space;
    size_t bodies = body_count < space - heads ? body_count : space - heads;
    size_t amount = heads + bodies;
    put(peer, peer->head, head, heads);
    put(peer, peer->head + heads, body, bodies);
    peer->head += amount;
    atomic_store_explicit(&ring->head, peer->head, memory_order_release);
    ring_bell(peer->header);
    return (int64_t)amount;
}

int64_t csr_read(struct csr_inbox *inbox, uint32_t index, struct csr_peer *writer, void *bytes,
                 size_t count) {
    struct control *ring = ring_at(inbox, index);
    uint64_t tail = inbox->tails[index];
    uint64_t used = atomic_load_explicit(&ring->head, memory_order_acquire) - tail;
    if (used > inbox->ring_bytes) return -1;
    if (used == 0) return 0;
    size_t amount = count < used ? count : (size_t)used;
    if (amount > CHUNK_BYTES) amount = CHUNK_BYTES;
    uint64_t start = tail & (inbox->ring_bytes - 1);
    size_t first =
        amount < inbox->ring_bytes - start ? amount : (size_t)(inbox->ring_bytes - start);
    memcpy(bytes, ring_bytes_of(ring) + start, first);
    memcpy((char *)bytes + first, ring_bytes_of(ring), amount - first);
    inbox->tails[index] = tail + amount;
    atomic_store_explicit(&ring->tail, tail + amount, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&ring->writer_waits, memory_order_relaxed)) {
        atomic_store_explicit(&ring->writer_waits, 0, memory_order_relaxed);
        ring_bell(writer->header);
    }
    return (int64_t)amount;
}

uint32_t csr_sleep_prepare(struct csr_inbox *inbox) {
    struct header *header = inbox->header;
    uint32_t seen = atomic_load_explicit(&header->doorbell, memory_order_acquire);
    atomic_store_explicit(&header->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return seen;
}

void csr_sleep_cancel(struct csr_inbox *inbox) {
    atomic_store_explicit(&inbox->header->sleeping, 0, memory_order_relaxed);
}

void csr_sleep(struct csr_inbox *inbox, uint32_t prepared, int64_t nanoseconds) {
    struct timespec timeout = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    syscall(SYS_futex, &inbox->header->doorbell, FUTEX_WAIT, prepared, &timeout, NULL, 0);
    csr_sleep_cancel(inbox);
}

void csr_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int csr_processor_count(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) < 0) return 1;
    return CPU_COUNT(&set);
}
