// What the collectives need of UCX (UCP 1.13): one context and one worker with an endpoint for each
// peer, and at most two outgoing and one incoming message for each peer at a time.
//
// Plain functions and opaque handles: Swift sees no UCX type. One thread at a time uses a group.
// Nothing here waits without a bound, and no peer, alive or dead, can keep a group from closing.
#ifndef PHALANX_CUCX_H
#define PHALANX_CUCX_H

#include <stddef.h>
#include <stdint.h>

struct cucx_group;

enum cucx_state {
    CUCX_IDLE = 0,
    CUCX_RUNNING = 1,
    CUCX_DONE = 2,
    CUCX_FAILED = 3,
};

enum { CUCX_ERROR_BYTES = 256, CUCX_SENDS = 2 };

// Opens context and worker. `net_devices` and `transports` are UCX_NET_DEVICES and UCX_TLS; NULL
// leaves them to the environment. NULL with a text in `error` (CUCX_ERROR_BYTES).
struct cucx_group *cucx_open(const char *net_devices, const char *transports, char *error);
// The worker's address; the bytes belong to the group.
const uint8_t *cucx_address(const struct cucx_group *group, size_t *count);
// Makes room for `count` peers. 0, or -1 when out of memory.
int cucx_set_peer_count(struct cucx_group *group, uint32_t count);
// Makes the endpoint to a peer. What is sent to it bears `send_tag`; what is received from it must
// bear `receive_tag`. `address` must be what a worker published: UCX does not check it. 0 or -1.
int cucx_connect(struct cucx_group *group, uint32_t peer, const void *address, uint64_t send_tag,
                 uint64_t receive_tag, char *error);

// Starts message `slot` to a peer; the bytes stay untouched until its state is not RUNNING.
void cucx_send(struct cucx_group *group, uint32_t peer, uint32_t slot, const void *bytes,
               size_t count);
// Starts to receive the peer's next message into `bytes`.
void cucx_receive(struct cucx_group *group, uint32_t peer, void *bytes, size_t count);
// Forgets finished messages of a peer, so that its slots can be used again.
void cucx_reset(struct cucx_group *group, uint32_t peer);
enum cucx_state cucx_send_state(const struct cucx_group *group, uint32_t peer);  // of both slots
enum cucx_state cucx_receive_state(const struct cucx_group *group, uint32_t peer, size_t *count);
// Why the peer is gone or its messages failed; NULL if nothing is wrong. A constant of UCX.
const char *cucx_peer_error(const struct cucx_group *group, uint32_t peer);

// Pushes out what UCX has buffered, so that no peer depends on this worker's next operation.
void cucx_flush(struct cucx_group *group);
enum cucx_state cucx_flush_state(const struct cucx_group *group);

// Lets UCX work; how many things happened.
uint32_t cucx_progress(struct cucx_group *group);
// Sleeps until UCX has something to do, at most `nanoseconds`. NULL, or what went wrong.
const char *cucx_wait(struct cucx_group *group, int64_t nanoseconds);

// Ends all messages and connections by force and releases everything. What was flushed is still
// delivered. Takes `nanoseconds` at most, and touches no message buffer once it has returned.
void cucx_close(struct cucx_group *group, int64_t nanoseconds);
#endif
