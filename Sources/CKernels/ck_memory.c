// Advice to the kernel about mappings.
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ck_internal.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14
#endif

void ck_prefer_huge_pages(void *start, size_t bytes) { (void)madvise(start, bytes, MADV_HUGEPAGE); }

void ck_release_pages(const void *start, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ck_blocks((uintptr_t)start, page) * page;
    uintptr_t end = ((uintptr_t)start + bytes) / page * page;
    if (first < end) (void)madvise((void *)first, end - first, MADV_DONTNEED);
}

int ck_populate(void *start, size_t bytes)
{
    while (madvise(start, bytes, MADV_POPULATE_READ) != 0) {
        if (errno == EINTR || errno == EAGAIN) continue;
        // Older kernels bring pages in when they are touched.
        return errno == EINVAL || errno == ENOSYS ? 0 : errno;
    }
    return 0;
}
