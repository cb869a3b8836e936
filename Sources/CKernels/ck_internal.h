// What the files of this folder share.
#ifndef PHALANX_CK_INTERNAL_H
#define PHALANX_CK_INTERNAL_H

#include <string.h>

#include "ckernels.h"

#pragma clang assume_nonnull begin

extern const struct ck_kernels ck_reference_kernels;
#if defined(__x86_64__)
extern const struct ck_kernels ck_avx2_kernels;
extern const struct ck_kernels ck_avx512_kernels;
#endif

// Attention by tiles of CK_POSITION_TILE positions with a running maximum ("online softmax",
// Milakov and Gimelshein 2018; FlashAttention, arXiv 2205.14135), for the vector levels.
void ck_attention_tiled(const struct ck_kernels *kernels, const struct ck_attention *attention);

static inline float ck_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static inline size_t ck_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t ck_blocks(size_t count, size_t block) { return (count + block - 1) / block; }

// Grow-only scratch of an engine, one slot a purpose.
enum {
    CK_SCRATCH_QUANTIZED,     // int8 activations
    CK_SCRATCH_TOKEN_SCALES,  // float
    CK_SCRATCH_GATE,
    CK_SCRATCH_UP,
    CK_SCRATCH_GATHERED,
    CK_SCRATCH_SCATTERED,
    CK_SCRATCH_GROUPS,
    CK_SCRATCH_QUERIES,
    CK_SCRATCH_LATENTS,
    CK_SCRATCH_SCORES,
    CK_SCRATCH_COUNT,
};

struct ck_engine {
    const struct ck_kernels *kernels;
    struct ck_pool *pool;
    void *_Nullable scratch[CK_SCRATCH_COUNT];
    size_t scratch_bytes[CK_SCRATCH_COUNT];
};

// Below this many multiplications, waking other threads costs more than they save.
enum { CK_INLINE_WORK = 1 << 16 };

// Runs a job whose items take about `work` multiplications each: alone, or on the pool.
static inline void ck_run(struct ck_engine *engine, size_t items, size_t work, ck_task task,
                          void *context)
{
    if (items * work < CK_INLINE_WORK) {
        for (size_t item = 0; item < items; item++) task(context, item, 0);
    } else {
        ck_pool_run(engine->pool, items, task, context);
    }
}

void *ck_scratch(struct ck_engine *engine, int slot, size_t bytes);

#pragma clang assume_nonnull end
#endif
