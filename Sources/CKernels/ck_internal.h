// What the files of this folder share.
#ifndef PHALANX_CK_INTERNAL_H
#define PHALANX_CK_INTERNAL_H

#include <string.h>

#include "ckernels.h"

#pragma clang assume_nonnull begin

extern const struct ck_kernels ck_reference_kernels;
extern const struct ck_panel_kernels ck_reference_panel;
#if defined(__x86_64__)
extern const struct ck_kernels ck_avx2_kernels;
extern const struct ck_kernels ck_avx512_kernels;
extern const struct ck_kernels ck_avx512_bf16_kernels;
extern const struct ck_kernels ck_amx_kernels;
extern const struct ck_panel_kernels ck_avx2_panel;
extern const struct ck_panel_kernels ck_avx512_panel;
extern const struct ck_panel_kernels ck_avx512_bf16_panel;
extern const struct ck_panel_kernels ck_amx_panel;
extern const struct ck_attention_form ck_amx_attention;
// Products of row-major rows by tiles (ck_amx_panel.c).
void ck_amx_product_i8(const struct ck_product *product);
void ck_amx_product_bf16(const struct ck_product *product);
#endif
extern const struct ck_attention_form ck_panel_attention;

// The layouts in plain C, for levels that have nothing better.
void ck_plain_transpose(uint32_t *panel, const void *_Nullable const *_Nonnull rows, size_t units);
void ck_plain_pair_rows(uint16_t *panels, const uint16_t *_Nullable const *_Nonnull rows,
                        size_t count, size_t columns);
void ck_plain_narrow_bf16(uint16_t *y, const float *x, size_t count);

// An int8 latent cache (ck_latent_cache.c): one position of it, and back as a row of BF16 numbers
// [latent + rope], the rotated key divided by the scale that is returned.
void ck_store_latent_codes(const struct ck_kernels *kernels, void *entry,
                           float *x,  // [latent + rope]; changed
                           size_t latent, size_t rope);
float ck_load_latent_codes(const struct ck_panel_kernels *kernels, uint16_t *row,
                           const void *entry, size_t latent, size_t rope);

// Units of 4 bytes that `inputs` weights of a kind take, and bytes of one panel of them.
size_t ck_unit_count(int kind, size_t inputs);
size_t ck_panel_bytes(int kind, size_t inputs);

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
    CK_SCRATCH_TILES,         // activations as products read them
    CK_SCRATCH_SECOND_TILES,  // the same for a second linear with another input scale
    CK_SCRATCH_ROWS,          // one tile's rows, a thread
    CK_SCRATCH_TOKENS,        // scales and starts of rows
    CK_SCRATCH_SOURCES,       // which rows the experts of a call share
    CK_SCRATCH_PREPARED,      // and these rows as products read them
    CK_SCRATCH_INNER,
    CK_SCRATCH_CUTS,
    CK_SCRATCH_GROUPS,
    CK_SCRATCH_RUNS,
    CK_SCRATCH_QUERIES,
    CK_SCRATCH_LATENTS,
    CK_SCRATCH_ATTENTION,
    CK_SCRATCH_COUNT,
};

struct ck_engine {
    const struct ck_kernels *kernels;
    struct ck_pool *pool;
    // [threads] Engines of one thread and scratch of its own, for tasks that run whole stages.
    struct ck_engine *_Nullable alone;
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

// ---- Activations as products read them (ck_linear.c) -----------------------------------------

// Whether products with this linear take rows row-major, and how many at a time.
int ck_is_row_major(const struct ck_kernels *kernels, const struct ck_linear *linear);
size_t ck_tile_rows(const struct ck_kernels *kernels, const struct ck_linear *linear);
// Bytes of one row of activations, with the zeros behind it.
size_t ck_operand_bytes(const struct ck_kernels *kernels, const struct ck_linear *linear);
// One row; `start` and `token_scale` are written for int8 only.
void ck_operand_row(const struct ck_kernels *kernels, const struct ck_linear *linear, void *row,
                    const float *x, int32_t *start, float *token_scale);
// Rows to a tile: [rows][units] becomes [units][rows].
void ck_interleave(void *tile, const void *rows, size_t row_bytes, size_t count);
// Sets weights, units and int8 scales of `product` for a panel and runs it. What is read after the
// last panel is the product's `next`; after others it is the next panel.
void ck_panel_product(const struct ck_kernels *kernels, const struct ck_linear *linear,
                      size_t panel, struct ck_product *product);

#pragma clang assume_nonnull end
#endif
