// What the files of latent attention by tiles share: the cache (ck_amx_cache.c), one task
// (ck_amx_attention.c), and how rows become tasks (ck_amx_tasks.c, ck_amx_runs.c).
#ifndef PHALANX_CK_AMX_ATTENTION_H
#define PHALANX_CK_AMX_ATTENTION_H
#if defined(__x86_64__)
#include "ck_amx.h"
#include "ck_attention.h"

#pragma clang assume_nonnull begin

enum {
    STEP = 128,       // positions of one step of the softmax
    PARTITION = 512,  // positions of one softmax; a multiple of STEP
    TASK_ROWS = RUN_ROWS,  // of a task, at most
    TASK_TILES = TASK_ROWS / CK_TILE_SIDE,
    GROUPS = STEP / CK_TILE_SIDE,
    CHUNK = 32,  // positions that one instruction of the second product takes
    WEIGHT_BYTES = STEP / 2 * 2,  // from row to row of half a step's weights
    SUMS = CK_TILE_SIDE * CK_TILE_SIDE,  // floats of a tile of sums
    BLOCK = STEP * 32,                   // elements of 32 columns of a step
    STREAMS = 4,      // in which the next step is asked for
    COLUMN_PARTS = 4,                    // tasks that join partitions of the same rows
    TASKS_A_THREAD = 4,                  // with fewer, partitions become tasks of their own
};

static const float LOG2_E = 1.44269504088896341f;

struct task {
    uint32_t first, rows;  // rows of the job, [queries, heads]
    uint32_t query;        // of the first row
    uint32_t length;       // positions that the last row sees
    uint32_t partitions;
    uint32_t first_item;   // where partitions are apart: of the task's first, in its round
    size_t partials;       // and where in memory its partial results begin
};

// Sizes that follow from the model.
struct shape {
    size_t heads, latent, width, block_size;
    size_t entry_bytes;  // of a cached position
    size_t depth;    // width padded to whole tiles
    size_t columns;  // tiles of latent columns, even
    size_t operand;  // bytes of one row of activations, at most
    int is_int8;     // the cache
    int direct;      // groups of positions can be read where they lie
};

struct attend_job {
    const struct ck_attention_job *job;
    struct shape shape;
    const struct task *tasks;
    uint8_t *partials;
    const uint32_t *items;  // [items of the round] task of a partition
    size_t first_task;      // of the round
};

// Running softmax of some rows, in tiles of 16.
struct state {
    float *sums;     // [tiles, columns, 16 rows, 16]; columns of a pair are interleaved by fours
    float *largest;  // [tiles, 16], to the base 2
    float *totals;   // [tiles, 16]
};

struct scratch {
    uint16_t *rows;      // [CK_PANEL, depth] queries
    uint32_t *queries;   // [tiles / 2, depth / 2, 32 rows]
    uint16_t *copies;    // [STEP, depth] cached positions; of an int8 cache of two steps
    float *scales;       // int8 cache only: [2, STEP] what they are multiplied by
    float *scores;       // [2 tiles, STEP, 16]
    uint32_t *pairs;     // [STEP / 4, 16 rows] weights of two positions
    uint16_t *weights;   // [tiles, 2, 16 rows, STEP / 2]
    uint16_t *blocks;    // [2, STEP / 2, 2 tiles of columns, 16, 2]
    int32_t *limits;     // [tiles, 16] positions that a row sees
    struct state state, joined;
    uint16_t *staged;    // [TASK_ROWS, depth] queries of a run
    uint8_t *attended;   // rows of attended latents of a run
    uint8_t *operands;   // activations of CK_AMX_ROWS rows
};

// Cached positions of one step, and those that are asked for meanwhile.
struct step {
    size_t first, count;
    const uint16_t *_Nullable rows[STEP];      // NULL beyond the sequence
    const uint16_t *_Nonnull groups[GROUPS];  // 16 rows, `stride` bytes apart
    size_t stride;
    const uint8_t *_Nullable ahead[STEP];
    size_t ahead_count, ahead_next;
    // Of an int8 cache `ahead` is the next step as it lies there, NULL beyond the sequence, and is
    // copied while this one is computed.
    const uint8_t *_Nullable beyond[STEP];  // the one behind it
    size_t copied;                // position from which on a step is in the other half of copies
    uint16_t *next_copies;
    const float *scales;          // [STEP] of this step
    float *next_scales;
    float factors[STEP];          // scales, times that of the scores to the base 2
};

enum { NOTHING_COPIED = 0 };  // position 0 begins a task, and nothing is copied before

// Where attended latents go: rows of F32 numbers, or of BF16 ones with zeros up to whole CHUNKs.
struct target {
    uint8_t *rows;  // the first of a tile
    size_t stride;  // bytes from row to row
    int narrow;
};

static inline size_t ck_amx_state_bytes(const struct shape *shape, size_t tiles)
{
    return tiles * (shape->columns * SUMS + 2 * CK_TILE_SIDE) * sizeof(float);
}

static inline struct state ck_amx_state_at(uint8_t *base, const struct shape *shape, size_t tiles)
{
    float *sums = (float *)base, *largest = sums + tiles * shape->columns * SUMS;
    return (struct state){sums, largest, largest + tiles * CK_TILE_SIDE};
}

static inline size_t ck_amx_tile_count(const struct task *task)
{
    return ck_blocks(task->rows, CK_TILE_SIDE);
}

// ---- The cache (ck_amx_cache.c) --------------------------------------------------------------

// The position of a step that is asked for as number `i`: in several streams, which memory serves
// faster than one.
static inline size_t ck_amx_in_streams(size_t i)
{
    return i % STREAMS * (STEP / STREAMS) + i / STREAMS;
}

// Copies one position of an int8 cache as BF16 codes, with zeros behind its width. Returns what
// they are multiplied by.
INLINE float ck_amx_copy_codes(uint16_t *copy, const uint8_t *entry, const struct shape *shape)
{
    const uint8_t *keys = entry + sizeof(float);
    size_t rope = shape->width - shape->latent;
    const int8_t *codes = (const int8_t *)(keys + rope * sizeof *copy);
    for (size_t i = 0; i < shape->latent; i += 32) {
        size_t left = shape->latent - i;
        __m256i bytes;
        if (left >= 32) bytes = _mm256_loadu_si256((const __m256i *)(codes + i));
        else bytes = _mm256_maskz_loadu_epi8((__mmask32)((1u << left) - 1), codes + i);
        __m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes));
        __m512i high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1));
        __m512bh both = _mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(high), _mm512_cvtepi32_ps(low));
        // What is written behind the latent, keys or zeros replace: the depth is whole.
        _mm512_storeu_si512(copy + i, (__m512i)both);
    }
    for (size_t i = 0; i < shape->depth - shape->latent; i += 32) {
        __mmask32 mask = i >= rope ? 0 : rope - i < 32 ? (__mmask32)((1u << (rope - i)) - 1)
                                                       : (__mmask32)~0u;
        size_t left = shape->depth - shape->latent - i;
        __mmask32 whole = left < 32 ? (__mmask32)((1u << left) - 1) : (__mmask32)~0u;
        __m512i part = _mm512_maskz_loadu_epi16(mask, keys + i * sizeof *copy);
        _mm512_mask_storeu_epi16(copy + shape->latent + i, whole, part);
    }
    float scale;
    memcpy(&scale, entry, sizeof scale);
    return scale;
}

// Asks for one position of the next step; of an int8 cache copies it, and asks for one of the step
// behind that.
INLINE void ck_amx_look_ahead(struct step *step, const struct shape *shape)
{
    if (step->ahead_next == step->ahead_count) return;
    size_t at = step->ahead_next++;
    const uint8_t *row = step->ahead[at];
    if (shape->is_int8) {
        if (row) {
            step->next_scales[at] =
                ck_amx_copy_codes(step->next_copies + at * shape->depth, row, shape);
        }
        row = step->beyond[ck_amx_in_streams(at)];
        if (!row) return;
    }
    for (size_t byte = 0; byte < shape->entry_bytes; byte += 64) {
        _mm_prefetch((const char *)row + byte, _MM_HINT_T1);
    }
}

// The step at position `first`. Steps up to `end` may follow with the same `step`.
void ck_amx_find_rows(const struct attend_job *t, const struct task *task, const struct scratch *s,
                      struct step *step, size_t first, size_t end);

// ---- A task (ck_amx_attention.c) -------------------------------------------------------------

struct shape ck_amx_shape(const struct ck_latent_attention *a);
size_t ck_amx_lay_out(const struct shape *shape, uint8_t *_Nullable base, struct scratch *s);
// Positions first ..< last of one partition, into s->state. With the same `step`, the one up to
// `end` may follow.
void ck_amx_attend_partition(const struct attend_job *t, const struct task *task,
                             const struct scratch *s, struct step *step, size_t first,
                             size_t last, size_t end);
// All partitions of a task, joined, into s->joined.
void ck_amx_attend_all(const struct attend_job *t, const struct task *task,
                       struct scratch *s);
// Adds a later partition to 16 rows; some columns of them. A row that saw nothing of it stays.
void ck_amx_join(float *sums, float *largest, float *totals, const float *more,
                 const float *more_largest, const float *more_totals, size_t columns);
// Writes sums / totals of columns first ..< last, an even number of tiles, of a tile of rows.
void ck_amx_finish(const struct shape *shape, const struct task *task, size_t tile,
                   const float *sums, const float *totals, size_t first, size_t last,
                   struct target target);
// The whole stage of some runs (ck_amx_runs.c).
void ck_amx_attend_runs(struct ck_engine *engine, struct ck_attention_job *job,
                        const struct ck_attention_run *runs, size_t count);

#pragma clang assume_nonnull end
#endif
#endif
