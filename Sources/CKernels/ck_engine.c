// An engine: kernels of a level, threads, and scratch that grows to what was needed once.
#include <stdlib.h>

#include "ck_internal.h"

enum { HUGE_PAGE = 2 << 20 };  // scratch of this size is in such pages, where the system has them

void *ck_scratch(struct ck_engine *engine, int slot, size_t bytes)
{
    if (engine->scratch_bytes[slot] < bytes) {
        size_t doubled = engine->scratch_bytes[slot] * 2;
        size_t wanted = bytes > doubled ? bytes : doubled;
        // Rows of one head or of one expert's batch lie pages apart.
        size_t alignment = wanted < HUGE_PAGE ? 64 : HUGE_PAGE;
        size_t size = ck_blocks(wanted, alignment) * alignment;
        free(engine->scratch[slot]);
        engine->scratch[slot] = aligned_alloc(alignment, size);
        engine->scratch_bytes[slot] = size;
        // Sizes follow from the engine's limits; without this memory nothing can be computed.
        if (!engine->scratch[slot]) abort();
        if (alignment == HUGE_PAGE) ck_prefer_huge_pages(engine->scratch[slot], size);
    }
    static char none;
    return engine->scratch[slot] ? engine->scratch[slot] : &none;
}

struct ck_engine *ck_engine_create(int level, size_t threads)
{
    const struct ck_kernels *kernels = ck_kernels_select(level);
    struct ck_engine *engine = calloc(1, sizeof *engine);
    struct ck_engine *alone = calloc(threads ? threads : 1, sizeof *alone);
    struct ck_pool *pool = kernels ? ck_pool_create(threads) : NULL;
    struct ck_pool *single = pool ? ck_pool_create(1) : NULL;
    if (!engine || !alone || !single) {
        if (pool) ck_pool_destroy(pool);
        if (single) ck_pool_destroy(single);
        free(alone);
        free(engine);
        return NULL;
    }
    *engine = (struct ck_engine){.kernels = kernels, .pool = pool, .alone = alone};
    // A pool of one thread has no state in use: all may have the same.
    for (size_t thread = 0; thread < threads; thread++) {
        alone[thread] = (struct ck_engine){.kernels = kernels, .pool = single};
    }
    return engine;
}

static void free_scratch(struct ck_engine *engine)
{
    for (int slot = 0; slot < CK_SCRATCH_COUNT; slot++) free(engine->scratch[slot]);
}

void ck_engine_destroy(struct ck_engine *engine)
{
    size_t threads = ck_pool_threads(engine->pool);
    ck_pool_destroy(engine->pool);
    ck_pool_destroy(engine->alone[0].pool);
    for (size_t thread = 0; thread < threads; thread++) free_scratch(&engine->alone[thread]);
    free_scratch(engine);
    free(engine->alone);
    free(engine);
}
