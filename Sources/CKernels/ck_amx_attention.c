// Latent attention over a BF16 or an int8 cache by tiles of AMX. A task takes neighbouring queries
// of one sequence, all heads of each as far as there is room: one row a query and head. Positions
// come in steps of STEP, with a running softmax over steps, in F32 and to the base 2; weights are
// rounded to BF16 for the second product.
//
// Scores: 16 cached positions as they lie in memory, times the queries of 16 rows, which are packed
// once a task. They come out [position, row], so that the softmax works on 16 rows at a time.
// Values: weights [row, position], times pairs of positions interleaved, 32 columns at a time.
// Of an int8 cache, positions are copied as BF16 codes, once a step for all rows of a task and
// while tiles compute the step before; what they are to be multiplied by goes into scores and
// weights.
//
// A row's result depends on its own positions alone. They are cut into PARTITION, counted from
// position 0, each with a softmax of its own; partitions are joined in rising order. So a thread
// may take all partitions of a task or one, and decode of a long sequence has work for every
// thread. A position that a row must not see has weight 0, which adds nothing.
#if defined(__x86_64__)
#include <math.h>

#include "ck_amx.h"
#include "ck_attention.h"

#pragma STDC FP_CONTRACT OFF

enum {
    STEP = 128,       // positions of one step of the softmax
    PARTITION = 512,  // positions of one softmax; a multiple of STEP
    TASK_ROWS = 128,  // rows of a task, at most
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

// Memory for partitions that are computed apart, at most, if more than one task has any.
static const size_t PARTIAL_BYTES = (size_t)64 << 20;
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
};

// Cached positions of one step, and those that are asked for meanwhile.
struct step {
    size_t first, count;
    const uint16_t *rows[STEP];      // NULL beyond the sequence
    const uint16_t *groups[GROUPS];  // 16 rows, `stride` bytes apart
    size_t stride;
    const uint8_t *ahead[STEP];
    size_t ahead_count, ahead_next;
    // Of an int8 cache `ahead` is the next step as it lies there, NULL beyond the sequence, and is
    // copied while this one is computed.
    const uint8_t *beyond[STEP];  // the one behind it
    size_t copied;                // position from which on a step is in the other half of copies
    uint16_t *next_copies;
    const float *scales;          // [STEP] of this step
    float *next_scales;
    float factors[STEP];          // scales, times that of the scores to the base 2
};

enum { NOTHING_COPIED = 0 };  // position 0 begins a task, and nothing is copied before

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += ck_blocks(bytes, 64) * 64;
    return at;
}

static struct shape make_shape(const struct ck_latent_attention *a)
{
    size_t width = a->latent + a->rope;
    int is_int8 = a->cache_kind == CK_INT8_DYNAMIC;
    return (struct shape){
        .heads = a->heads,
        .latent = a->latent,
        .width = width,
        .block_size = a->block_size,
        .entry_bytes = ck_latent_entry_bytes(a->cache_kind, a->latent, a->rope),
        .depth = ck_blocks(width, 32) * 32,
        .columns = ck_blocks(a->latent, 32) * 2,
        .is_int8 = is_int8,
        .direct = !is_int8 && width % 32 == 0 && a->block_size % CK_TILE_SIDE == 0,
    };
}

static size_t state_bytes(const struct shape *shape, size_t tiles)
{
    return tiles * (shape->columns * SUMS + 2 * CK_TILE_SIDE) * sizeof(float);
}

static struct state state_at(uint8_t *base, const struct shape *shape, size_t tiles)
{
    float *sums = (float *)base, *largest = sums + tiles * shape->columns * SUMS;
    return (struct state){sums, largest, largest + tiles * CK_TILE_SIDE};
}

static size_t lay_out(const struct shape *shape, uint8_t *_Nullable base, struct scratch *s)
{
    size_t used = 0, depth = shape->depth;
    size_t rows = take(&used, CK_PANEL * depth * 2);
    size_t queries = take(&used, TASK_ROWS * depth * 2);
    size_t copies = take(&used, shape->direct ? 0 : STEP * depth * (shape->is_int8 ? 4 : 2));
    size_t scales = take(&used, shape->is_int8 ? 2 * STEP * 4 : 0);
    size_t scores = take(&used, 2 * STEP * CK_TILE_SIDE * 4);
    size_t pairs = take(&used, STEP / 4 * CK_TILE_SIDE * 4);
    size_t weights = take(&used, TASK_ROWS * STEP * 2);
    size_t blocks = take(&used, 2 * BLOCK * 2);
    size_t limits = take(&used, TASK_ROWS * 4);
    size_t state = take(&used, state_bytes(shape, TASK_TILES));
    size_t joined = take(&used, state_bytes(shape, TASK_TILES));
    if (base) {
        *s = (struct scratch){
            .rows = (uint16_t *)(base + rows),
            .queries = (uint32_t *)(base + queries),
            .copies = (uint16_t *)(base + copies),
            .scales = (float *)(base + scales),
            .scores = (float *)(base + scores),
            .pairs = (uint32_t *)(base + pairs),
            .weights = (uint16_t *)(base + weights),
            .blocks = (uint16_t *)(base + blocks),
            .limits = (int32_t *)(base + limits),
            .state = state_at(base + state, shape, TASK_TILES),
            .joined = state_at(base + joined, shape, TASK_TILES),
        };
    }
    return used;
}

static size_t scratch_bytes(const struct ck_latent_attention *a)
{
    struct shape shape = make_shape(a);
    struct scratch none;
    return lay_out(&shape, NULL, &none);
}

static size_t tile_count(const struct task *task) { return ck_blocks(task->rows, CK_TILE_SIDE); }

// ---- The cache -------------------------------------------------------------------------------

// Positions `first` + 0 ..< STEP as they lie in the cache, NULL from `end` on.
static void find_entries(const struct attend_job *t, const int32_t *table, size_t first,
                         size_t end, const uint8_t *_Nullable entries[STEP])
{
    const struct shape *shape = &t->shape;
    const uint8_t *cache = t->job->a->cache, *entry = NULL;
    size_t block = first / shape->block_size, at = first % shape->block_size;
    for (size_t i = 0; i < STEP; i++, at++) {
        if (first + i >= end) {
            entries[i] = NULL;
            continue;
        }
        if (at == shape->block_size) {
            block++;
            at = 0;
        }
        if (i == 0 || at == 0) {
            size_t slot = (size_t)table[block] * shape->block_size + at;
            entry = cache + slot * shape->entry_bytes;
        }
        entries[i] = entry;
        entry += shape->entry_bytes;
    }
}

// The position of a step that is asked for as number `i`: in several streams, which memory serves
// faster than one.
static size_t in_streams(size_t i) { return i % STREAMS * (STEP / STREAMS) + i / STREAMS; }

// Copies one position of an int8 cache as BF16 codes, with zeros behind its width. Returns what
// they are multiplied by.
INLINE float copy_codes(uint16_t *copy, const uint8_t *entry, const struct shape *shape)
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

// The step's positions of an int8 cache: copied by the step before, or here if there was none.
// Steps up to `end` may follow; what lies behind, up to `length`, is worth asking for.
TARGET static void find_codes(const struct attend_job *t, const struct scratch *s,
                              const int32_t *table, struct step *step, size_t end,
                              size_t length)
{
    const struct shape *shape = &t->shape;
    int was_copied = step->copied != NOTHING_COPIED && step->copied == step->first;
    size_t half = STEP * shape->depth;
    int second = was_copied && step->next_copies != s->copies;
    uint16_t *copies = second ? s->copies + half : s->copies;
    float *scales = second ? s->scales + STEP : s->scales;
    step->next_copies = second ? s->copies : s->copies + half;
    step->next_scales = second ? s->scales : s->scales + STEP;
    step->scales = scales;
    if (!was_copied) {
        find_entries(t, table, step->first, end, step->ahead);
        for (size_t i = 0; i < step->count; i++) {
            scales[i] = copy_codes(copies + i * shape->depth, step->ahead[i], shape);
        }
    }
    find_entries(t, table, step->first + STEP, end, step->ahead);
    find_entries(t, table, step->first + 2 * STEP, length, step->beyond);
    for (size_t i = step->count; i < ck_blocks(step->count, CHUNK) * CHUNK; i++) {
        memset(copies + i * shape->depth, 0, shape->depth * 2);
        scales[i] = 1;
    }
    for (size_t i = 0; i < STEP; i++) {
        step->rows[i] = i < step->count ? copies + i * shape->depth : NULL;
        step->factors[i] = i < step->count ? scales[i] * (t->job->a->scale * LOG2_E) : 0;
    }
    step->ahead_count = step->first + STEP < length ? STEP : 0;
    step->copied = step->first + STEP < end ? step->first + STEP : NOTHING_COPIED;
}

// Copies the positions of a step, with zeros behind their width and up to a multiple of 16.
static void copy_rows(const struct shape *shape, const struct scratch *s, const struct step *step)
{
    for (size_t i = 0; i < ck_blocks(step->count, CK_TILE_SIDE) * CK_TILE_SIDE; i++) {
        uint16_t *copy = s->copies + i * shape->depth;
        size_t width = step->rows[i] ? shape->width : 0;
        if (width) memcpy(copy, step->rows[i], width * 2);
        memset(copy + width, 0, (shape->depth - width) * 2);
    }
}

// The same of a cache of BF16 numbers, which are read where they lie if the shape allows it.
static void find_floats(const struct attend_job *t, const struct scratch *s,
                        const int32_t *table, struct step *step, size_t length)
{
    const struct shape *shape = &t->shape;
    const uint8_t *entries[STEP];
    find_entries(t, table, step->first, length, entries);
    for (size_t i = 0; i < STEP; i++) step->rows[i] = (const uint16_t *)entries[i];
    if (!shape->direct) copy_rows(shape, s, step);
    find_entries(t, table, step->first + STEP, length, entries);
    step->ahead_count = 0;
    for (size_t i = 0; i < STEP; i++) {
        const uint8_t *entry = entries[in_streams(i)];
        if (entry) step->ahead[step->ahead_count++] = entry;
    }
}

static void find_rows(const struct attend_job *t, const struct task *task,
                      const struct scratch *s, struct step *step, size_t first, size_t end)
{
    const struct shape *shape = &t->shape;
    const int32_t *table =
        t->job->a->tables + t->job->a->table_starts[t->job->first_row + task->query];
    step->first = first;
    step->count = ck_min(STEP, task->length - first);
    step->stride = (shape->direct ? shape->width : shape->depth) * 2;
    step->ahead_next = 0;
    const uint16_t *copies = s->copies;
    if (shape->is_int8) {
        find_codes(t, s, table, step, end, task->length);
        copies = step->rows[0];
    } else {
        find_floats(t, s, table, step, task->length);
    }
    for (size_t group = 0; group < GROUPS; group++) {
        // Scores of groups behind the last are never looked at.
        size_t from = ck_min(group, (step->count - 1) / CK_TILE_SIDE) * CK_TILE_SIDE;
        step->groups[group] = shape->direct ? step->rows[from] : copies + from * shape->depth;
    }
}

// Asks for one position of the next step; of an int8 cache copies it, and asks for one of the step
// behind that.
INLINE void look_ahead(struct step *step, const struct shape *shape)
{
    if (step->ahead_next == step->ahead_count) return;
    size_t at = step->ahead_next++;
    const uint8_t *row = step->ahead[at];
    if (shape->is_int8) {
        if (row) {
            step->next_scales[at] =
                copy_codes(step->next_copies + at * shape->depth, row, shape);
        }
        row = step->beyond[in_streams(at)];
        if (!row) return;
    }
    for (size_t byte = 0; byte < shape->entry_bytes; byte += 64) {
        _mm_prefetch((const char *)row + byte, _MM_HINT_T1);
    }
}

// ---- Scores ----------------------------------------------------------------------------------

// Groups group, group + 1 for two tiles of rows.
TARGET static void score_pair(struct step *step, const struct shape *shape,
                              const uint32_t *queries, float *scores, size_t group)
{
    const uint16_t *a = step->groups[group], *b = step->groups[group + 1];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t i = 0; i < shape->depth; i += 32) {
        _tile_loadd(4, a + i, step->stride);
        _tile_loadd(6, queries, CK_PANEL * 4);
        _tile_loadd(7, queries + CK_TILE_SIDE, CK_PANEL * 4);
        _tile_loadd(5, b + i, step->stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        queries += CK_TILE_UNITS * CK_PANEL;
        look_ahead(step, shape);
    }
    float *y = scores + group * SUMS;
    _tile_stored(0, y, CK_TILE_BYTES);
    _tile_stored(2, y + SUMS, CK_TILE_BYTES);
    _tile_stored(1, y + STEP * CK_TILE_SIDE, CK_TILE_BYTES);
    _tile_stored(3, y + STEP * CK_TILE_SIDE + SUMS, CK_TILE_BYTES);
}

// Groups group ... group + 3 for one tile of rows: there are a few times fewer of these than
// positions to copy.
TARGET static void score_single(struct step *step, const struct shape *shape,
                                const uint32_t *queries, float *scores, size_t group)
{
    const uint16_t *const *groups = step->groups + group;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t i = 0; i < shape->depth; i += 32) {
        _tile_loadd(6, queries, CK_PANEL * 4);
        _tile_loadd(4, groups[0] + i, step->stride);
        _tile_loadd(5, groups[1] + i, step->stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        _tile_loadd(4, groups[2] + i, step->stride);
        _tile_loadd(5, groups[3] + i, step->stride);
        _tile_dpbf16ps(2, 4, 6);
        _tile_dpbf16ps(3, 5, 6);
        queries += CK_TILE_UNITS * CK_PANEL;
        for (int n = 0; n < (shape->is_int8 ? 3 : 1); n++) look_ahead(step, shape);
    }
    float *y = scores + group * SUMS;
    _tile_stored(0, y, CK_TILE_BYTES);
    _tile_stored(1, y + SUMS, CK_TILE_BYTES);
    _tile_stored(2, y + 2 * SUMS, CK_TILE_BYTES);
    _tile_stored(3, y + 3 * SUMS, CK_TILE_BYTES);
}

// ---- Softmax ---------------------------------------------------------------------------------

// 2^x for x <= 0, with an error below 2^-22: a polynomial of degree 6 in the fraction (the
// coefficients of Cephes' exp2f, S. L. Moshier). 1 for 0, 0 far below and for what is no number.
INLINE __m512 power_of_two(__m512 x)
{
    x = _mm512_max_ps(x, _mm512_set1_ps(-200.0f));
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(x, n), p = _mm512_set1_ps(1.535336188319500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.339887440266574e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.618437357674640e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550332471162809e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402264791363012e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931472028550421e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

// One step for 16 rows: weights of `count` positions, a multiple of CHUNK. `seen` of them count
// for a row. With `step`, which is of an int8 cache, its factors and scales take part. Returns what
// earlier sums are multiplied by.
INLINE __m512 weigh_scores(const struct ck_panel_kernels *k, const struct scratch *s,
                           uint16_t *weights, const float *scores, const struct step *step,
                           float scale, size_t count, __m512i seen, float *largest,
                           float *totals)
{
    __m512 factor = _mm512_set1_ps(scale * LOG2_E);
    __m512 old = _mm512_loadu_ps(largest), best[4], sum[4];
    for (int i = 0; i < 4; i++) {
        best[i] = old;
        sum[i] = _mm512_setzero_ps();
    }
    for (size_t p = 0; p < count; p += 4) {
        UNROLL for (size_t i = 0; i < 4; i++) {
            __mmask16 mask = _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32((int)(p + i)));
            if (step) factor = _mm512_set1_ps(step->factors[p + i]);
            __m512 v = _mm512_mul_ps(_mm512_loadu_ps(scores + (p + i) * CK_TILE_SIDE), factor);
            best[i] = _mm512_mask_max_ps(best[i], mask, v, best[i]);
        }
    }
    __m512 top = _mm512_max_ps(_mm512_max_ps(best[0], best[1]), _mm512_max_ps(best[2], best[3]));
    // Words of two BF16 numbers, the first position in the low half.
    uint16_t lanes[32];
    for (int i = 0; i < 16; i++) {
        lanes[2 * i] = (uint16_t)i;
        lanes[2 * i + 1] = (uint16_t)(16 + i);
    }
    const __m512i interleave = _mm512_loadu_si512(lanes);
    const void *rows[CK_PANEL];
    for (int i = 0; i < CK_PANEL; i++) rows[i] = s->pairs + i * CK_TILE_SIDE;
    for (size_t first = 0; first < count; first += STEP / 2) {
        size_t pairs = ck_min(count - first, STEP / 2) / 2;
        for (size_t pair = 0; pair < pairs; pair += 2) {
            UNROLL for (size_t i = 0; i < 2; i++) {
                size_t p = first + 2 * (pair + i);
                __m512 e[2];
                UNROLL for (size_t j = 0; j < 2; j++) {
                    if (step) factor = _mm512_set1_ps(step->factors[p + j]);
                    __m512 v = _mm512_loadu_ps(scores + (p + j) * CK_TILE_SIDE);
                    __mmask16 mask =
                        _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32((int)(p + j)));
                    e[j] = power_of_two(_mm512_sub_ps(_mm512_mul_ps(v, factor), top));
                    e[j] = _mm512_maskz_mov_ps(mask, e[j]);
                    sum[2 * i + j] = _mm512_add_ps(sum[2 * i + j], e[j]);
                    if (!step) continue;
                    e[j] = _mm512_maskz_mul_ps(mask, e[j], _mm512_set1_ps(step->scales[p + j]));
                }
                __m512i both = (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]);
                both = _mm512_permutexvar_epi16(interleave, both);
                _mm512_storeu_si512(s->pairs + (pair + i) * CK_TILE_SIDE, both);
            }
        }
        for (size_t i = pairs; i < CK_PANEL; i++) rows[i] = NULL;
        k->transpose((uint32_t *)weights + first / 2 * CK_TILE_SIDE, rows, CK_TILE_SIDE);
    }
    __m512 correction = power_of_two(_mm512_sub_ps(old, top));
    __m512 total = _mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3]));
    total = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(totals), correction), total);
    _mm512_storeu_ps(totals, total);
    _mm512_storeu_ps(largest, top);
    return correction;
}

TARGET static __m512 weigh(const struct ck_panel_kernels *k, const struct scratch *s,
                           uint16_t *weights, const float *scores, float scale, size_t count,
                           __m512i seen, float *largest, float *totals)
{
    return weigh_scores(k, s, weights, scores, NULL, scale, count, seen, largest, totals);
}

TARGET static __m512 weigh_codes(const struct ck_panel_kernels *k, const struct scratch *s,
                                 uint16_t *weights, const float *scores,
                                 const struct step *step, size_t count, __m512i seen,
                                 float *largest, float *totals)
{
    return weigh_scores(k, s, weights, scores, step, 1, count, seen, largest, totals);
}

// sums *= factors, by row.
TARGET static void scale_rows(float *sums, size_t columns, __m512 factors)
{
    float by[CK_TILE_SIDE];
    _mm512_storeu_ps(by, factors);
    for (size_t row = 0; row < CK_TILE_SIDE; row++) {
        if (by[row] == 1.0f) continue;
        __m512 factor = _mm512_set1_ps(by[row]);
        for (size_t column = 0; column < columns; column++) {
            float *y = sums + column * SUMS + row * CK_TILE_SIDE;
            _mm512_storeu_ps(y, _mm512_mul_ps(_mm512_loadu_ps(y), factor));
        }
    }
}

// ---- Values ----------------------------------------------------------------------------------

// 32 columns of all positions of a step, in pairs of positions.
TARGET static void load_block(const struct step *step, const struct shape *shape,
                              uint16_t *block, size_t column)
{
    size_t left = shape->latent - column;
    __mmask32 mask = left < 32 ? (__mmask32)((1ull << left) - 1) : (__mmask32)~0u;
    for (size_t p = 0; p < ck_blocks(step->count, CHUNK) * CHUNK; p += 2, block += 64) {
        const uint16_t *first = step->rows[p], *second = step->rows[p + 1];
        __m512i a = first ? _mm512_maskz_loadu_epi16(mask, first + column)
                          : _mm512_setzero_si512();
        __m512i b = second ? _mm512_maskz_loadu_epi16(mask, second + column)
                           : _mm512_setzero_si512();
        _mm512_storeu_si512(block, _mm512_unpacklo_epi16(a, b));
        _mm512_storeu_si512(block + 32, _mm512_unpackhi_epi16(a, b));
    }
}

INLINE void load_sums(const float *sums, const float *more, int fresh, const int four)
{
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        if (four) {
            _tile_zero(2);
            _tile_zero(3);
        }
    } else {
        _tile_loadd(0, sums, CK_TILE_BYTES);
        _tile_loadd(1, sums + SUMS, CK_TILE_BYTES);
        if (four) {
            _tile_loadd(2, more, CK_TILE_BYTES);
            _tile_loadd(3, more + SUMS, CK_TILE_BYTES);
        }
    }
}

INLINE void store_sums(float *sums, float *more, const int four)
{
    _tile_stored(0, sums, CK_TILE_BYTES);
    _tile_stored(1, sums + SUMS, CK_TILE_BYTES);
    if (four) {
        _tile_stored(2, more, CK_TILE_BYTES);
        _tile_stored(3, more + SUMS, CK_TILE_BYTES);
    }
}

static const uint16_t *weights_of(const uint16_t *weights, size_t chunk)
{
    return weights + chunk / 2 * CK_TILE_SIDE * STEP / 2 + chunk % 2 * CHUNK;
}

// Adds a block to the sums of two tiles of rows, which are `next` apart.
TARGET static void add_pair(float *sums, size_t next, const uint16_t *weights,
                            const uint16_t *block, size_t chunks, int fresh)
{
    load_sums(sums, sums + next, fresh, 1);
    for (size_t chunk = 0; chunk < chunks; chunk++, block += CHUNK * 32) {
        const uint16_t *from = weights_of(weights, chunk);
        _tile_loadd(4, from, WEIGHT_BYTES);
        _tile_loadd(6, block, CK_PANEL * 4);
        _tile_loadd(7, block + 32, CK_PANEL * 4);
        _tile_loadd(5, from + CK_TILE_SIDE * STEP, WEIGHT_BYTES);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    store_sums(sums, sums + next, 1);
}

// Adds one block, or two (`both`), to the sums of one tile of rows.
INLINE void add_single(float *sums, const uint16_t *weights, const uint16_t *block, size_t chunks,
                       int fresh, const int both)
{
    load_sums(sums, sums + 2 * SUMS, fresh, both);
    for (size_t chunk = 0; chunk < chunks; chunk++, block += CHUNK * 32) {
        _tile_loadd(4, weights_of(weights, chunk), WEIGHT_BYTES);
        _tile_loadd(6, block, CK_PANEL * 4);
        _tile_loadd(7, block + 32, CK_PANEL * 4);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (both) {
            _tile_loadd(6, block + BLOCK, CK_PANEL * 4);
            _tile_loadd(7, block + BLOCK + 32, CK_PANEL * 4);
            _tile_dpbf16ps(2, 4, 6);
            _tile_dpbf16ps(3, 4, 7);
        }
    }
    store_sums(sums, sums + 2 * SUMS, both);
}

// Two blocks of columns, or one, for all rows of a task.
TARGET static void add_values(const struct shape *shape, const struct scratch *s, size_t tiles,
                              size_t column, int both, const size_t *chunks, int fresh)
{
    size_t next = shape->columns * SUMS;
    for (size_t tile = 0; tile < tiles; tile += 2) {
        if (chunks[tile] == 0) continue;
        float *sums = s->state.sums + tile * next + column * SUMS;
        const uint16_t *weights = s->weights + tile * CK_TILE_SIDE * STEP;
        if (tile + 1 < tiles) {
            add_pair(sums, next, weights, s->blocks, chunks[tile], fresh);
            if (!both) continue;
            add_pair(sums + 2 * SUMS, next, weights, s->blocks + BLOCK, chunks[tile], fresh);
        } else if (both) {
            add_single(sums, weights, s->blocks, chunks[tile], fresh, 1);
        } else {
            add_single(sums, weights, s->blocks, chunks[tile], fresh, 0);
        }
    }
}

// ---- Tasks -----------------------------------------------------------------------------------

// Positions of a step that the last row of some tiles sees.
static size_t seen_by(const struct scratch *s, const struct step *step, size_t end_row)
{
    size_t limit = (size_t)s->limits[end_row - 1];
    return limit <= step->first ? 0 : ck_min(STEP, limit - step->first);
}

// Scores and weights of tiles `tile` and, with `two`, the next. Returns chunks of positions.
TARGET static size_t weigh_tiles(const struct attend_job *t, const struct scratch *s,
                                 struct step *step, size_t tile, int two, size_t rows, int fresh)
{
    const struct shape *shape = &t->shape;
    size_t end = ck_min(rows, (tile + 1 + (size_t)two) * CK_TILE_SIDE);
    size_t seen = seen_by(s, step, end), chunks = ck_blocks(seen, CHUNK);
    if (chunks == 0) return 0;
    const uint32_t *queries = s->queries + tile / 2 * (shape->depth / 2) * CK_PANEL;
    for (size_t group = 0; group < 2 * chunks; group += two ? 2 : 4) {
        if (two) score_pair(step, shape, queries, s->scores, group);
        else score_single(step, shape, queries, s->scores, group);
    }
    for (size_t i = 0; i <= (size_t)two; i++) {
        size_t at = (tile + i) * CK_TILE_SIDE;
        __m512i limits = _mm512_loadu_si512(s->limits + at);
        limits = _mm512_sub_epi32(limits, _mm512_set1_epi32((int)step->first));
        const struct ck_panel_kernels *k = t->job->kernels->panel;
        uint16_t *weights = s->weights + at * STEP;
        const float *scores = s->scores + i * STEP * CK_TILE_SIDE;
        float *largest = s->state.largest + at, *totals = s->state.totals + at;
        size_t count = chunks * CHUNK;
        __m512 correction =
            shape->is_int8
                ? weigh_codes(k, s, weights, scores, step, count, limits, largest, totals)
                : weigh(k, s, weights, scores, t->job->a->scale, count, limits, largest, totals);
        if (fresh) continue;
        scale_rows(s->state.sums + (tile + i) * shape->columns * SUMS, shape->columns, correction);
    }
    return chunks;
}

// Positions first ..< last of one partition, into s->state. With the same `step`, the one up to
// `end` may follow.
TARGET static void attend_partition(const struct attend_job *t, const struct task *task,
                                    const struct scratch *s, struct step *step, size_t first,
                                    size_t last, size_t end)
{
    const struct shape *shape = &t->shape;
    size_t tiles = tile_count(task);
    for (size_t row = 0; row < tiles * CK_TILE_SIDE; row++) {
        s->state.largest[row] = -INFINITY;
        s->state.totals[row] = 0;
    }
    for (size_t at = first; at < last; at += STEP) {
        int fresh = at == first;
        size_t chunks[TASK_TILES];
        find_rows(t, task, s, step, at, end);
        for (size_t tile = 0; tile < tiles; tile += 2) {
            chunks[tile] = weigh_tiles(t, s, step, tile, tile + 1 < tiles, task->rows, fresh);
        }
        for (size_t column = 0; column < shape->columns; column += 4) {
            int both = column + 2 < shape->columns;
            load_block(step, shape, s->blocks, column * CK_TILE_SIDE);
            if (both) load_block(step, shape, s->blocks + BLOCK, (column + 2) * CK_TILE_SIDE);
            for (int i = 0; i < 4; i++) look_ahead(step, shape);
            add_values(shape, s, tiles, column, both, chunks, fresh);
            for (int i = 0; i < 4; i++) look_ahead(step, shape);
        }
        while (step->ahead_next < step->ahead_count) look_ahead(step, shape);
    }
}

TARGET static void load_queries(const struct attend_job *t, const struct task *task,
                                const struct scratch *s)
{
    const struct ck_attention_job *job = t->job;
    const struct shape *shape = &t->shape;
    size_t padded = tile_count(task) * CK_TILE_SIDE;
    for (size_t row = 0; row < padded; row++) {
        size_t query = (task->first + row) / shape->heads;
        s->limits[row] = row < task->rows ? job->a->positions[job->first_row + query] + 1 : 0;
    }
    for (size_t first = 0; first < task->rows; first += CK_PANEL) {
        const void *rows[CK_PANEL] = {0};
        for (size_t i = 0; i < CK_PANEL && first + i < task->rows; i++) {
            uint16_t *row = s->rows + i * shape->depth;
            const float *query = job->queries + (task->first + first + i) * shape->width;
            memset(row + shape->depth - 32, 0, 64);
            job->kernels->panel->narrow_bf16(row, query, shape->width);
            rows[i] = row;
        }
        job->kernels->panel->transpose(s->queries + first * (shape->depth / 2), rows,
                                       shape->depth / 2);
    }
}

// Adds a later partition to 16 rows; some columns of them. A row that saw nothing of it stays.
TARGET static void join(float *sums, __m512 *largest, __m512 *total, const float *more,
                        __m512 more_largest, __m512 more_total, size_t columns)
{
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __mmask16 seen = _mm512_cmp_ps_mask(more_largest, none, _CMP_NEQ_UQ);
    __m512 top = _mm512_max_ps(*largest, more_largest);
    __m512 factor = power_of_two(_mm512_sub_ps(*largest, top));
    __m512 more_factor = power_of_two(_mm512_sub_ps(more_largest, top));
    __m512 joined = _mm512_fmadd_ps(more_total, more_factor, _mm512_mul_ps(*total, factor));
    *total = _mm512_mask_mov_ps(*total, seen, joined);
    *largest = _mm512_mask_mov_ps(*largest, seen, top);
    float by[CK_TILE_SIDE], more_by[CK_TILE_SIDE];
    _mm512_storeu_ps(by, factor);
    _mm512_storeu_ps(more_by, more_factor);
    for (size_t column = 0; column < columns; column++) {
        for (size_t row = 0; row < CK_TILE_SIDE; row++) {
            if (!(seen >> row & 1)) continue;
            size_t at = column * SUMS + row * CK_TILE_SIDE;
            __m512 y = _mm512_mul_ps(_mm512_loadu_ps(sums + at), _mm512_set1_ps(by[row]));
            y = _mm512_fmadd_ps(_mm512_loadu_ps(more + at), _mm512_set1_ps(more_by[row]), y);
            _mm512_storeu_ps(sums + at, y);
        }
    }
}

// Writes sums / totals of columns first ..< last, an even number of tiles, of a tile of rows.
TARGET static void finish(const struct attend_job *t, const struct task *task, size_t tile,
                          const float *sums, __m512 total, size_t first, size_t last)
{
    const struct shape *shape = &t->shape;
    int32_t lanes[2][16];
    for (int i = 0; i < 32; i++) {
        // Of each eight columns, four are in the first tile and four in the second.
        lanes[i / 16][i % 16] = i / 8 * 4 + i % 4 + (i / 4 % 2) * 16;
    }
    const __m512i low = _mm512_loadu_si512(lanes[0]), high = _mm512_loadu_si512(lanes[1]);
    float by[CK_TILE_SIDE];
    _mm512_storeu_ps(by, _mm512_div_ps(_mm512_set1_ps(1.0f), total));
    size_t rows = ck_min(CK_TILE_SIDE, task->rows - tile * CK_TILE_SIDE);
    for (size_t row = 0; row < rows; row++) {
        float *output = t->job->latents +
                        (task->first + tile * CK_TILE_SIDE + row) * shape->latent;
        const __m512 factor = _mm512_set1_ps(by[row]), zero = _mm512_setzero_ps();
        for (size_t column = first; column < last; column += 2) {
            const float *from = sums + column * SUMS + row * CK_TILE_SIDE;
            __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + SUMS);
            size_t at = column * CK_TILE_SIDE, left = shape->latent - at;
            uint32_t mask = left < 32 ? (1u << left) - 1 : ~0u;
            // Adding 0 makes one of the two zeros, whatever weights of 0 were added.
            __m512 y = _mm512_mul_ps(_mm512_permutex2var_ps(a, low, b), factor);
            _mm512_mask_storeu_ps(output + at, (__mmask16)mask, _mm512_add_ps(y, zero));
            y = _mm512_mul_ps(_mm512_permutex2var_ps(a, high, b), factor);
            _mm512_mask_storeu_ps(output + at + 16, (__mmask16)(mask >> 16),
                                  _mm512_add_ps(y, zero));
        }
    }
}

// All partitions of a task.
TARGET static void attend_whole(void *context, size_t item, size_t thread)
{
    const struct attend_job *t = context;
    const struct task *task = &t->tasks[item];
    const struct shape *shape = &t->shape;
    struct scratch s;
    lay_out(shape, t->job->scratch + thread * t->job->scratch_bytes, &s);
    ck_shape_tiles();
    load_queries(t, task, &s);
    struct step step = {.copied = NOTHING_COPIED};
    size_t next = shape->columns * SUMS;
    for (size_t first = 0; first < task->length; first += PARTITION) {
        attend_partition(t, task, &s, &step, first, ck_min(first + PARTITION, task->length),
                         task->length);
        if (first == 0) {
            struct state swap = s.joined;
            s.joined = s.state;
            s.state = swap;
            continue;
        }
        for (size_t tile = 0; tile < tile_count(task); tile++) {
            size_t at = tile * CK_TILE_SIDE;
            __m512 largest = _mm512_loadu_ps(s.joined.largest + at);
            __m512 total = _mm512_loadu_ps(s.joined.totals + at);
            join(s.joined.sums + tile * next, &largest, &total, s.state.sums + tile * next,
                 _mm512_loadu_ps(s.state.largest + at), _mm512_loadu_ps(s.state.totals + at),
                 shape->columns);
            _mm512_storeu_ps(s.joined.largest + at, largest);
            _mm512_storeu_ps(s.joined.totals + at, total);
        }
    }
    for (size_t tile = 0; tile < tile_count(task); tile++) {
        finish(t, task, tile, s.joined.sums + tile * next,
               _mm512_loadu_ps(s.joined.totals + tile * CK_TILE_SIDE), 0, shape->columns);
    }
}

static struct state partial(const struct attend_job *t, const struct task *task, size_t index)
{
    size_t tiles = tile_count(task);
    size_t at = task->partials + index * state_bytes(&t->shape, tiles);
    return state_at(t->partials + at, &t->shape, tiles);
}

// One partition of a task.
TARGET static void attend_part(void *context, size_t item, size_t thread)
{
    const struct attend_job *t = context;
    const struct task *task = &t->tasks[t->items[item]];
    size_t index = item - task->first_item;
    struct scratch s;
    lay_out(&t->shape, t->job->scratch + thread * t->job->scratch_bytes, &s);
    s.state = partial(t, task, index);
    ck_shape_tiles();
    load_queries(t, task, &s);
    size_t first = index * PARTITION, last = ck_min(first + PARTITION, task->length);
    struct step step = {.copied = NOTHING_COPIED};
    attend_partition(t, task, &s, &step, first, last, last);
}

// Joins a task's partitions: some columns of one tile of rows.
TARGET static void join_parts(void *context, size_t item, size_t thread)
{
    (void)thread;
    const struct attend_job *t = context;
    size_t part = item % COLUMN_PARTS, tile = item / COLUMN_PARTS % TASK_TILES;
    const struct task *task = &t->tasks[t->first_task + item / COLUMN_PARTS / TASK_TILES];
    if (tile >= tile_count(task)) return;
    size_t columns = t->shape.columns, at = tile * CK_TILE_SIDE;
    size_t first = columns / 2 * part / COLUMN_PARTS * 2;
    size_t last = columns / 2 * (part + 1) / COLUMN_PARTS * 2;
    struct state all = partial(t, task, 0);
    __m512 largest = _mm512_loadu_ps(all.largest + at), total = _mm512_loadu_ps(all.totals + at);
    float *sums = all.sums + tile * columns * SUMS;
    for (size_t index = 1; index < task->partitions; index++) {
        struct state more = partial(t, task, index);
        join(sums + first * SUMS, &largest, &total,
             more.sums + (tile * columns + first) * SUMS, _mm512_loadu_ps(more.largest + at),
             _mm512_loadu_ps(more.totals + at), last - first);
    }
    finish(t, task, tile, sums, total, first, last);
}

// Cuts the job's rows into tasks: runs of neighbouring positions of one sequence, and these into
// TASK_ROWS.
static size_t cut_tasks(const struct ck_attention_job *job, struct task *tasks)
{
    const struct ck_latent_attention *a = job->a;
    size_t count = 0, end;
    for (size_t query = 0; query < job->rows; query = end) {
        size_t at = job->first_row + query;
        for (end = query + 1; end < job->rows; end++) {
            size_t next = job->first_row + end;
            if (a->table_starts[next] != a->table_starts[at]) break;
            if (a->positions[next] != a->positions[next - 1] + 1) break;
        }
        for (size_t row = query * a->heads; row < end * a->heads; row += TASK_ROWS) {
            size_t rows = ck_min(TASK_ROWS, end * a->heads - row);
            size_t last = job->first_row + (row + rows - 1) / a->heads;
            size_t length = (size_t)a->positions[last] + 1;
            tasks[count++] = (struct task){
                .first = (uint32_t)row, .rows = (uint32_t)rows,
                .query = (uint32_t)(row / a->heads), .length = (uint32_t)length,
                .partitions = (uint32_t)ck_blocks(length, PARTITION),
            };
        }
    }
    return count;
}

// Every partition by itself, in rounds of as many tasks as the memory for them allows.
static void attend_apart(struct ck_engine *engine, struct attend_job *t, struct task *tasks,
                         size_t count, size_t work)
{
    for (size_t first = 0, end; first < count; first = end) {
        size_t items = 0, bytes = 0;
        for (end = first; end < count; end++) {
            struct task *task = &tasks[end];
            size_t more = task->partitions * state_bytes(&t->shape, tile_count(task));
            if (end > first && bytes + more > PARTIAL_BYTES) break;
            task->first_item = (uint32_t)items;
            task->partials = bytes;
            items += task->partitions;
            bytes += more;
        }
        uint32_t *owners = ck_scratch(engine, CK_SCRATCH_GROUPS, items * sizeof *owners);
        for (size_t task = first, item = 0; task < end; task++) {
            for (size_t i = 0; i < tasks[task].partitions; i++) owners[item++] = (uint32_t)task;
        }
        t->items = owners;
        t->first_task = first;
        t->partials = ck_scratch(engine, CK_SCRATCH_INNER, bytes);
        ck_run(engine, items, work, attend_part, t);
        ck_run(engine, (end - first) * TASK_TILES * COLUMN_PARTS, work, join_parts, t);
    }
}

static void attend(struct ck_engine *engine, struct ck_attention_job *job, size_t row_work)
{
    const struct ck_latent_attention *a = job->a;
    size_t most = job->rows + ck_blocks(job->rows * a->heads, TASK_ROWS);
    struct task *tasks = ck_scratch(engine, CK_SCRATCH_CUTS, most * sizeof *tasks);
    size_t count = cut_tasks(job, tasks), partitions = 0, threads = ck_pool_threads(engine->pool);
    for (size_t task = 0; task < count; task++) partitions += tasks[task].partitions;
    struct attend_job t = {.job = job, .shape = make_shape(a), .tasks = tasks};
    size_t work = row_work * ck_blocks(a->heads, CK_HEAD_TILE) * job->rows / count + 1;
    if (threads > 1 && count < threads * TASKS_A_THREAD && partitions > count) {
        attend_apart(engine, &t, tasks, count, work * count / partitions + 1);
    } else {
        ck_run(engine, count, work, attend_whole, &t);
    }
}

const struct ck_attention_form ck_amx_attention = {
    .scratch = scratch_bytes,
    .attend = attend,
};
#endif
