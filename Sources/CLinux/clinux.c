#define _GNU_SOURCE
#include "clinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int cl_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int cl_epoll_control(int epoll, int op, int fd, uint32_t events, uint64_t data) {
    static const int operations[] = {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(epoll, operations[op], fd, &event);
}

int cl_epoll_wait(int epoll, struct cl_event *events, int capacity, int timeout_milliseconds) {
    struct epoll_event ready[256];
    if (capacity > 256) capacity = 256;
    int count = epoll_wait(epoll, ready, capacity, timeout_milliseconds);
    for (int i = 0; i < count; i++) {
        events[i].events = ready[i].events;
        events[i].data = ready[i].data.u64;
    }
    return count;
}

int cl_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

int cl_eventfd_signal(int fd) {
    uint64_t one = 1;
    return write(fd, &one, sizeof one) == sizeof one ? 0 : -1;
}

int cl_eventfd_drain(int fd) {
    uint64_t count;
    return read(fd, &count, sizeof count) == sizeof count ? 0 : -1;
}

int cl_signalfd(const int *signals, int count) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error) {
        errno = error;
        return -1;
    }
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int cl_signalfd_read(int fd) {
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : -1;
}

int cl_accept(int listener) { return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

// The length, or 0 with errno where `text` is no numeric address.
static socklen_t parse_address(const char *text, uint16_t port, union address *where) {
    memset(where, 0, sizeof *where);
    if (inet_pton(AF_INET, text, &where->v4.sin_addr) == 1) {
        where->v4.sin_family = AF_INET;
        where->v4.sin_port = htons(port);
        return sizeof where->v4;
    }
    if (inet_pton(AF_INET6, text, &where->v6.sin6_addr) == 1) {
        where->v6.sin6_family = AF_INET6;
        where->v6.sin6_port = htons(port);
        return sizeof where->v6;
    }
    errno = EINVAL;
    return 0;
}

int cl_source_address(const char *destination, char *text, size_t size) {
    union address where;
    // A datagram socket that is connected has a route and sends nothing; any port will do.
    socklen_t length = parse_address(destination, 9, &where);
    if (length == 0) return -1;
    int fd = socket(where.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int failed = connect(fd, &where.any, length);
    length = sizeof where;
    if (!failed) failed = getsockname(fd, &where.any, &length);
    int error = errno;
    close(fd);
    errno = error;
    if (failed) return -1;
    const void *bytes = where.any.sa_family == AF_INET ? (const void *)&where.v4.sin_addr
                                                       : (const void *)&where.v6.sin6_addr;
    return inet_ntop(where.any.sa_family, bytes, text, (socklen_t)size) ? 0 : -1;
}

int cl_listen_tcp(const char *address, uint16_t port, int backlog) {
    union address where;
    socklen_t length = parse_address(address, port, &where);
    if (length == 0) return -1;
    int fd = socket(where.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, &where.any, length) < 0 || listen(fd, backlog) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int cl_local_port(int fd) {
    struct sockaddr_storage where;
    socklen_t length = sizeof where;
    if (getsockname(fd, (struct sockaddr *)&where, &length) < 0) return -1;
    if (where.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&where)->sin_port);
    if (where.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&where)->sin6_port);
    errno = EAFNOSUPPORT;
    return -1;
}

// The address part of a socket address, or NULL.
static const void *address_of(const struct sockaddr *where, size_t *bytes) {
    if (where->sa_family == AF_INET) {
        *bytes = sizeof(struct in_addr);
        return &((const struct sockaddr_in *)where)->sin_addr;
    }
    if (where->sa_family == AF_INET6) {
        *bytes = sizeof(struct in6_addr);
        return &((const struct sockaddr_in6 *)where)->sin6_addr;
    }
    return NULL;
}

static void find_interface(const struct sockaddr *own, char *interface, size_t interface_bytes) {
    size_t bytes = 0, other_bytes = 0;
    const void *address = address_of(own, &bytes);
    struct ifaddrs *list = NULL;
    if (!address || getifaddrs(&list) < 0) return;
    for (struct ifaddrs *entry = list; entry; entry = entry->ifa_next) {
        if (!entry->ifa_addr || entry->ifa_addr->sa_family != own->sa_family) continue;
        const void *other = address_of(entry->ifa_addr, &other_bytes);
        if (other && memcmp(address, other, bytes) == 0) {
            snprintf(interface, interface_bytes, "%s", entry->ifa_name);
            break;
        }
    }
    freeifaddrs(list);
}

int cl_source_toward(const char *host, uint16_t port, char *address, size_t address_bytes,
                     char *interface, size_t interface_bytes) {
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    // No resolver: who asks must not wait.
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, service, &hints, &found) != 0 || !found) {
        errno = EHOSTUNREACH;
        return -1;
    }
    // Connecting a datagram socket sends nothing: it asks the kernel for the route.
    int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -1 : connect(fd, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    if (result == 0) result = getsockname(fd, (struct sockaddr *)&own, &length);
    int error = errno;
    if (fd >= 0) close(fd);
    if (result == 0) {
        size_t bytes = 0;
        const void *bits = address_of((struct sockaddr *)&own, &bytes);
        interface[0] = 0;
        if (!bits || !inet_ntop(own.ss_family, bits, address, (socklen_t)address_bytes)) return -1;
        find_interface((struct sockaddr *)&own, interface, interface_bytes);
    }
    errno = error;
    return result;
}

int cl_set_nodelay(int fd) {
    int one = 1;
    return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

// In the child: becomes the program, or tells the parent by `failure` why it cannot.
static void become(char *const *arguments, char *const *environment, int log, pid_t parent,
                   int failure) {
    sigset_t none;
    sigemptyset(&none);
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(log, STDOUT_FILENO) >= 0 &&
        dup2(log, STDERR_FILENO) >= 0 && setsid() >= 0 &&
        prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && sigprocmask(SIG_SETMASK, &none, NULL) == 0) {
        // The parent may have died before the tie was made.
        if (getppid() != parent) _exit(1);
        close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
        execve(arguments[0], arguments, environment);
    }
    int error = errno;
    ssize_t ignored = write(failure, &error, sizeof error);
    (void)ignored;
    _exit(127);
}

int cl_spawn(char *const *arguments, char *const *environment, int log) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -1;
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) become(arguments, environment, log, parent, ends[1]);
    int error = errno;
    close(ends[1]);
    ssize_t count = 0;
    // The end of the pipe is a successful exec.
    if (child > 0) {
        do count = read(ends[0], &error, sizeof error);
        while (count < 0 && errno == EINTR);
    }
    close(ends[0]);
    if (child > 0 && count == 0) return child;
    if (child > 0) waitpid(child, NULL, 0);
    errno = error;
    return -1;
}

int cl_log_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) < 0) return -1;
    return fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

int cl_notify_socket(char *name, size_t size) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    socklen_t length = sizeof where;
    int one = 1;
    // A name of length zero is picked by the kernel: a zero byte and five digits.
    if (bind(fd, (struct sockaddr *)&where, sizeof where.sun_family) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0 ||
        getsockname(fd, (struct sockaddr *)&where, &length) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    int count = (int)(length - offsetof(struct sockaddr_un, sun_path)) - 1;
    snprintf(name, size, "@%.*s", count, where.sun_path + 1);
    return fd;
}

int cl_notify_receive(int fd, char *text, size_t size, int *process) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec part = {.iov_base = text, .iov_len = size - 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t count = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) return -1;
    text[count] = 0;
    *process = 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
        struct ucred who;
        memcpy(&who, CMSG_DATA(header), sizeof who);
        *process = who.pid;
    }
    return (int)count;
}

static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t cl_monotonic_nanoseconds(void) { return nanoseconds(CLOCK_MONOTONIC); }
int64_t cl_realtime_microseconds(void) { return nanoseconds(CLOCK_REALTIME) / 1000; }
int64_t cl_process_cpu_nanoseconds(void) { return nanoseconds(CLOCK_PROCESS_CPUTIME_ID); }

uint64_t cl_random_u64(void) {
    uint64_t value = 0;
    // Cannot fail for 8 bytes once the pool is initialised, and blocks until it is.
    while (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value) {
    }
    return value;
}

int cl_set_thread_name(const char *name) { return pthread_setname_np(pthread_self(), name); }

int cl_errno(void) { return errno; }

int cl_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

static int64_t soft_limit(int resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) return INT64_MAX;
    if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > (rlim_t)INT64_MAX) return INT64_MAX;
    return (int64_t)limit.rlim_cur;
}

int64_t cl_limit_descriptors(void) { return soft_limit(RLIMIT_NOFILE); }

int64_t cl_limit_locked_bytes(void) { return soft_limit(RLIMIT_MEMLOCK); }
