// Counts the heap allocations of the process that it is linked into, by standing in for glibc's
// allocator functions and calling the ones behind them. Swift's run-time allocates through them.
#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stdint.h>

// Allocations of all threads since the process began; -1 under a sanitizer, which stands in for
// the allocator itself.
int64_t allocation_count(void);

// Those of the calling thread.
int64_t thread_allocation_count(void);

// Those of the calling thread of at least a kilobyte.
int64_t thread_large_allocation_count(void);

// Those of all threads of at least a kilobyte.
int64_t large_allocation_count(void);

#endif
