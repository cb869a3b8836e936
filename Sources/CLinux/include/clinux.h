// The Linux calls that Swift's Glibc module does not show, as plain functions.
//
// Every function returns what the system call returns, and sets errno as it does; the Swift side
// checks the result at the call. Nothing here allocates, logs or keeps state.
#ifndef PHALANX_CLINUX_H
#define PHALANX_CLINUX_H

#include <stddef.h>
#include <stdint.h>

// One ready descriptor of an epoll set.
struct cl_event {
    uint32_t events;  // CL_IN | CL_OUT | ...
    uint64_t data;    // what was given to cl_epoll_add
};

enum {
    CL_IN = 0x001,
    CL_OUT = 0x004,
    CL_ERR = 0x008,
    CL_HUP = 0x010,
    CL_RDHUP = 0x2000,
};

int cl_epoll_create(void);
// `op`: 0 add, 1 modify, 2 remove.
int cl_epoll_control(int epoll, int op, int fd, uint32_t events, uint64_t data);
// Waits at most `timeout_milliseconds` (-1: for ever) and fills at most `capacity` events.
int cl_epoll_wait(int epoll, struct cl_event *events, int capacity, int timeout_milliseconds);

int cl_eventfd(void);                       // non-blocking, close-on-exec, counter 0
int cl_eventfd_signal(int fd);              // adds 1
int cl_eventfd_drain(int fd);               // resets to 0
int cl_signalfd(const int *signals, int count);  // blocks them for the whole process, then opens
int cl_signalfd_read(int fd);               // the signal's number, or -1 with EAGAIN

int cl_accept(int listener);                // non-blocking, close-on-exec
// Listening IPv4/IPv6 socket bound to a numeric address; port 0 picks one. -1 with errno.
int cl_listen_tcp(const char *address, uint16_t port, int backlog);
int cl_local_port(int fd);
int cl_set_nodelay(int fd);
// From where this host would talk to `host` (a numeric address): its own address and the interface
// that has it, as NUL-terminated text. 0, or -1 with errno (EHOSTUNREACH for a name: nothing is
// resolved).
int cl_source_toward(const char *host, uint16_t port, char *address, size_t address_bytes,
                     char *interface, size_t interface_bytes);
// The numeric address from which packets to a numeric address leave, as text. Sends nothing.
int cl_source_address(const char *destination, char *text, size_t size);

// Starts a program (NULL-terminated lists; no search of PATH) in a session of its own, with nothing
// to read, `log` as standard output and error, no other descriptor, no blocked signal, and SIGKILL
// when the calling thread ends. The process number; -1 with the errno of what failed, exec too.
int cl_spawn(char *const *arguments, char *const *environment, int log);
// A pipe; both ends close-on-exec, the reading one non-blocking.
int cl_log_pipe(int ends[2]);
// Socket for sd_notify(3) at an address that the kernel picks; `name` as NOTIFY_SOCKET takes it.
int cl_notify_socket(char *name, size_t size);
// One message, ended by a 0, and the process that the kernel says sent it; -1 with errno.
int cl_notify_receive(int fd, char *text, size_t size, int *process);

int64_t cl_monotonic_nanoseconds(void);
int64_t cl_realtime_microseconds(void);
int64_t cl_process_cpu_nanoseconds(void);
uint64_t cl_random_u64(void);               // getrandom(2)

int cl_memfd(const char *name);             // an anonymous file, close-on-exec
// Soft limits of this process; INT64_MAX where there is none.
int64_t cl_limit_descriptors(void);
int64_t cl_limit_locked_bytes(void);

int cl_set_thread_name(const char *name);
int cl_errno(void);
#endif
