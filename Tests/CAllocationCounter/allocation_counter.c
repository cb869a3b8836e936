#include "allocation_counter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#ifdef SANITIZED

int64_t allocation_count(void) { return -1; }
int64_t large_allocation_count(void) { return -1; }
int64_t thread_allocation_count(void) { return 0; }
int64_t thread_large_allocation_count(void) { return 0; }

#else

// glibc's own, under the names that it keeps for programs that replace malloc.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_int_least64_t count, large_count;
static _Thread_local int64_t thread_count, thread_large_count;

int64_t allocation_count(void) { return atomic_load_explicit(&count, memory_order_relaxed); }

int64_t large_allocation_count(void) {
    return atomic_load_explicit(&large_count, memory_order_relaxed);
}

int64_t thread_allocation_count(void) { return thread_count; }
int64_t thread_large_allocation_count(void) { return thread_large_count; }

static void counted(size_t size) {
    thread_count++;
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    if (size < 1024) return;
    thread_large_count++;
    atomic_fetch_add_explicit(&large_count, 1, memory_order_relaxed);
}

void *malloc(size_t size) {
    counted(size);
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    counted(size > 0 && number >= 1024 / size + 1 ? 1024 : number * size);
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size) {
    counted(size);
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    counted(size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **place, size_t alignment, size_t size) {
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
    void *memory = memalign(alignment, size);
    if (memory == NULL) return ENOMEM;
    *place = memory;
    return 0;
}

#endif
