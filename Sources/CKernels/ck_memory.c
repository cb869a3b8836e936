// Advice to the kernel about mappings.
#include <sys/mman.h>
#include <unistd.h>

#include "ck_internal.h"

void ck_prefer_huge_pages(void *start, size_t bytes) { (void)madvise(start, bytes, MADV_HUGEPAGE); }

void ck_release_pages(const void *start, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ck_blocks((uintptr_t)start, page) * page;
    uintptr_t end = ((uintptr_t)start + bytes) / page * page;
    if (first < end) (void)madvise((void *)first, end - first, MADV_DONTNEED);
}
