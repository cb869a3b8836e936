// Joins two network namespaces by a link with delay, loss and blocked ports: two TUN devices and
// a queue in between. For tests on kernels without netem.
//
//   network-relay NAMESPACE_A NAMESPACE_B DEVICE DELAY_MICROSECONDS LOSS_PER_MILLE SEED [PORT ...]
//
// Each way has the delay, and loses the part; TCP segments to a PORT are lost all. It says "ready"
// on standard error when both devices are there (addresses are the caller's affair), and ends with
// its parent.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    PACKET_BYTES_MAX = 2048,
    QUEUE_PACKETS_MAX = 8192,  // more are lost, as in a router
    PORTS_MAX = 64,
};

struct packet {
    int64_t due;  // nanoseconds
    uint16_t bytes;
    uint8_t data[PACKET_BYTES_MAX];
};

// One direction.
struct queue {
    struct packet *packets;  // [QUEUE_PACKETS_MAX] ring
    size_t first, count;
};

static int64_t delay;
static uint32_t loss;
static uint64_t state;
static uint16_t ports[PORTS_MAX];
static size_t port_count;

static void fail(const char *what)
{
    fprintf(stderr, "network-relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_nanoseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

// xorshift64* (Vigna 2016)
static uint32_t random_number(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * UINT64_C(0x2545F4914F6CDD1D)) >> 32);
}

static int open_device(const char *name_space, const char *device)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", name_space);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) != 0) fail(path);
    close(space);
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tun < 0) fail("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (ioctl(tun, TUNSETIFF, &request) != 0) fail("TUNSETIFF");
    return tun;
}

// Whether it is a TCP segment to one of the ports (IPv4, no fragments).
static int is_blocked(const uint8_t *data, size_t bytes)
{
    if (bytes < 20 || data[0] >> 4 != 4 || data[9] != 6) return 0;
    size_t header = (size_t)(data[0] & 15) * 4;
    if (bytes < header + 4) return 0;
    uint16_t port = (uint16_t)(data[header + 2] << 8 | data[header + 3]);
    for (size_t i = 0; i < port_count; i++) {
        if (ports[i] == port) return 1;
    }
    return 0;
}

static void take_packets(int tun, struct queue *queue)
{
    uint8_t data[PACKET_BYTES_MAX];
    for (;;) {
        ssize_t bytes = read(tun, data, sizeof data);
        if (bytes <= 0) return;
        if (queue->count == QUEUE_PACKETS_MAX || is_blocked(data, (size_t)bytes)) continue;
        if (random_number() % 1000 < loss) continue;
        struct packet *packet =
            &queue->packets[(queue->first + queue->count++) % QUEUE_PACKETS_MAX];
        packet->due = now_nanoseconds() + delay;
        packet->bytes = (uint16_t)bytes;
        memcpy(packet->data, data, (size_t)bytes);
    }
}

static void deliver_packets(int tun, struct queue *queue, int64_t now)
{
    while (queue->count > 0 && queue->packets[queue->first].due <= now) {
        struct packet *packet = &queue->packets[queue->first];
        // A device that takes nothing loses it.
        if (write(tun, packet->data, packet->bytes) < 0 && errno == EBADF) fail("write");
        queue->first = (queue->first + 1) % QUEUE_PACKETS_MAX;
        queue->count--;
    }
}

static int64_t next_due(const struct queue *queues)
{
    int64_t due = INT64_MAX;
    for (int i = 0; i < 2; i++) {
        if (queues[i].count == 0) continue;
        int64_t first = queues[i].packets[queues[i].first].due;
        due = first < due ? first : due;
    }
    return due;
}

int main(int argc, char **argv)
{
    if (argc < 7 || argc - 7 > PORTS_MAX) {
        fprintf(stderr, "usage: network-relay A B DEVICE DELAY_US LOSS SEED [PORT ...]\n");
        return 64;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    delay = strtoll(argv[4], NULL, 10) * 1000;
    loss = (uint32_t)strtoul(argv[5], NULL, 10);
    state = strtoull(argv[6], NULL, 10) | 1;
    for (int i = 7; i < argc; i++) ports[port_count++] = (uint16_t)strtoul(argv[i], NULL, 10);
    int tuns[2] = {open_device(argv[1], argv[3]), open_device(argv[2], argv[3])};
    struct queue queues[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) {
        queues[i].packets = calloc(QUEUE_PACKETS_MAX, sizeof(struct packet));
        if (!queues[i].packets) fail("memory");
    }
    fprintf(stderr, "network-relay: ready\n");
    for (;;) {
        int64_t due = next_due(queues), now = now_nanoseconds();
        struct timespec wait = {0};
        if (due > now && due != INT64_MAX) {
            wait.tv_sec = (due - now) / 1000000000;
            wait.tv_nsec = (due - now) % 1000000000;
        }
        struct pollfd polls[2] = {{tuns[0], POLLIN, 0}, {tuns[1], POLLIN, 0}};
        if (ppoll(polls, 2, due == INT64_MAX ? NULL : &wait, NULL) < 0 && errno != EINTR) {
            fail("poll");
        }
        for (int i = 0; i < 2; i++) take_packets(tuns[i], &queues[i]);
        now = now_nanoseconds();
        for (int i = 0; i < 2; i++) deliver_packets(tuns[1 - i], &queues[i], now);
    }
}
