// Latent attention over a BF16 cache by tiles of AMX. A task takes neighbouring queries of one
// sequence, all heads of each as far as there is room: one row a query and head. Positions come in
// steps of STEP, with a running softmax over steps, in F32 and to the base 2; weights are rounded
// to BF16 for the second product.
//
// Scores: 16 cached positions as they lie in memory, times the queries of 16 rows, which are packed
// once a task. They come out [position, row], so that the softmax works on 16 rows at a time.
// Values: weights [row, position], times pairs of positions interleaved, 32 columns at a time.
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
    size_t depth;    // width padded to whole tiles
    size_t columns;  // tiles of latent columns, even
    size_t operand;  // bytes of one row of activations, at most
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
    uint16_t *copies;    // [STEP, depth] cached positions
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
    const uint16_t *rows[STEP];      // NULL beyond the sequence
    const uint16_t *groups[GROUPS];  // 16 rows, `stride` bytes apart
    size_t stride;
    const uint8_t *ahead[STEP];
    size_t ahead_count, ahead_next;
};

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += ck_blocks(bytes, 64) * 64;
    return at;
}

static struct shape make_shape(const struct ck_latent_attention *a)
{
    size_t width = a->latent + a->rope;
    return (struct shape){
        .heads = a->heads,
        .latent = a->latent,
        .width = width,
        .block_size = a->block_size,
        .depth = ck_blocks(width, 32) * 32,
        .columns = ck_blocks(a->latent, 32) * 2,
        .operand = ck_blocks((a->nope > a->latent ? a->nope : a->latent) * 2, 64) * 64 + 64,
        .direct = width % 32 == 0 && a->block_size % CK_TILE_SIDE == 0,
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
    size_t copies = take(&used, shape->direct ? 0 : STEP * depth * 2);
    size_t scores = take(&used, 2 * STEP * CK_TILE_SIDE * 4);
    size_t pairs = take(&used, STEP / 4 * CK_TILE_SIDE * 4);
    size_t weights = take(&used, TASK_ROWS * STEP * 2);
    size_t blocks = take(&used, 2 * BLOCK * 2);
    size_t limits = take(&used, TASK_ROWS * 4);
    size_t state = take(&used, state_bytes(shape, TASK_TILES));
    size_t joined = take(&used, state_bytes(shape, TASK_TILES));
    size_t staged = take(&used, TASK_ROWS * depth * 2);
    size_t attended = take(&used, (TASK_ROWS + CK_AMX_ROWS) * (shape->latent * 2 + shape->operand));
    size_t operands = take(&used, CK_AMX_ROWS * shape->operand);
    if (base) {
        *s = (struct scratch){
            .rows = (uint16_t *)(base + rows),
            .queries = (uint32_t *)(base + queries),
            .copies = (uint16_t *)(base + copies),
            .scores = (float *)(base + scores),
            .pairs = (uint32_t *)(base + pairs),
            .weights = (uint16_t *)(base + weights),
            .blocks = (uint16_t *)(base + blocks),
            .limits = (int32_t *)(base + limits),
            .state = state_at(base + state, shape, TASK_TILES),
            .joined = state_at(base + joined, shape, TASK_TILES),
            .staged = (uint16_t *)(base + staged),
            .attended = base + attended,
            .operands = base + operands,
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

static const uint16_t *cached(const struct attend_job *t, const int32_t *table, size_t position)
{
    const struct shape *shape = &t->shape;
    size_t block = (size_t)table[position / shape->block_size];
    return (const uint16_t *)t->job->a->cache +
           (block * shape->block_size + position % shape->block_size) * shape->width;
}

static void find_rows(const struct attend_job *t, const struct task *task,
                      const struct scratch *s, struct step *step, size_t first)
{
    const struct shape *shape = &t->shape;
    const int32_t *table =
        t->job->a->tables + t->job->a->table_starts[t->job->first_row + task->query];
    step->first = first;
    step->count = ck_min(STEP, task->length - first);
    step->stride = (shape->direct ? shape->width : shape->depth) * 2;
    for (size_t i = 0; i < STEP; i++) {
        step->rows[i] = i < step->count ? cached(t, table, first + i) : NULL;
    }
    for (size_t group = 0; group < GROUPS; group++) {
        // Scores of groups behind the last are never looked at.
        size_t from = ck_min(group, (step->count - 1) / CK_TILE_SIDE) * CK_TILE_SIDE;
        step->groups[group] = shape->direct ? step->rows[from] : s->copies + from * shape->depth;
    }
    if (!shape->direct) {
        for (size_t i = 0; i < ck_blocks(step->count, CK_TILE_SIDE) * CK_TILE_SIDE; i++) {
            uint16_t *copy = s->copies + i * shape->depth;
            size_t width = step->rows[i] ? shape->width : 0;
            if (width) memcpy(copy, step->rows[i], width * 2);
            memset(copy + width, 0, (shape->depth - width) * 2);
        }
    }
    step->ahead_next = 0;
    step->ahead_count = 0;
    // In several streams, which memory serves faster than one.
    for (size_t i = 0; i < STEP; i++) {
        size_t next = first + STEP + i % STREAMS * (STEP / STREAMS) + i / STREAMS;
        if (next >= task->length) continue;
        step->ahead[step->ahead_count++] = (const uint8_t *)cached(t, table, next);
    }
}

// Asks for one position of the next step.
INLINE void look_ahead(struct step *step, size_t width)
{
    if (step->ahead_next == step->ahead_count) return;
    const uint8_t *row = step->ahead[step->ahead_next++];
    for (size_t byte = 0; byte < width * 2; byte += 64) {
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
        look_ahead(step, shape->width);
    }
    float *y = scores + group * SUMS;
    _tile_stored(0, y, CK_TILE_BYTES);
    _tile_stored(2, y + SUMS, CK_TILE_BYTES);
    _tile_stored(1, y + STEP * CK_TILE_SIDE, CK_TILE_BYTES);
    _tile_stored(3, y + STEP * CK_TILE_SIDE + SUMS, CK_TILE_BYTES);
}

// Groups group ... group + 3 for one tile of rows.
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
        look_ahead(step, shape->width);
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
// for a row. Returns what earlier sums are multiplied by.
TARGET static __m512 weigh(const struct ck_panel_kernels *k, const struct scratch *s,
                           uint16_t *weights, const float *scores, float scale, size_t count,
                           __m512i seen, float *largest, float *totals)
{
    const __m512 factor = _mm512_set1_ps(scale * 1.44269504088896341f);
    __m512 old = _mm512_loadu_ps(largest), best[4], sum[4];
    for (int i = 0; i < 4; i++) {
        best[i] = old;
        sum[i] = _mm512_setzero_ps();
    }
    for (size_t p = 0; p < count; p += 4) {
        UNROLL for (size_t i = 0; i < 4; i++) {
            __mmask16 mask = _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32((int)(p + i)));
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
                    __m512 v = _mm512_loadu_ps(scores + (p + j) * CK_TILE_SIDE);
                    __mmask16 mask =
                        _mm512_cmpgt_epi32_mask(seen, _mm512_set1_epi32((int)(p + j)));
                    e[j] = power_of_two(_mm512_sub_ps(_mm512_mul_ps(v, factor), top));
                    e[j] = _mm512_maskz_mov_ps(mask, e[j]);
                    sum[2 * i + j] = _mm512_add_ps(sum[2 * i + j], e[j]);
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

// Positions of a step that the rows of some tiles see.
static size_t seen_by(const struct scratch *s, const struct step *step, size_t row, size_t end)
{
    int32_t most = 0;
    for (; row < end; row++) most = s->limits[row] > most ? s->limits[row] : most;
    size_t limit = (size_t)most;
    return limit <= step->first ? 0 : ck_min(STEP, limit - step->first);
}

// Scores and weights of tiles `tile` and, with `two`, the next. Returns chunks of positions.
TARGET static size_t weigh_tiles(const struct attend_job *t, const struct scratch *s,
                                 struct step *step, size_t tile, int two, size_t rows, int fresh)
{
    const struct shape *shape = &t->shape;
    size_t end = ck_min(rows, (tile + 1 + (size_t)two) * CK_TILE_SIDE);
    size_t seen = seen_by(s, step, tile * CK_TILE_SIDE, end), chunks = ck_blocks(seen, CHUNK);
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
        __m512 correction =
            weigh(t->job->kernels->panel, s, s->weights + at * STEP,
                  s->scores + i * STEP * CK_TILE_SIDE, t->job->a->scale, chunks * CHUNK, limits,
                  s->state.largest + at, s->state.totals + at);
        if (fresh) continue;
        scale_rows(s->state.sums + (tile + i) * shape->columns * SUMS, shape->columns, correction);
    }
    return chunks;
}

// Positions first ..< last of one partition, into s->state.
TARGET static void attend_partition(const struct attend_job *t, const struct task *task,
                                    const struct scratch *s, size_t first, size_t last)
{
    const struct shape *shape = &t->shape;
    size_t tiles = tile_count(task);
    for (size_t row = 0; row < tiles * CK_TILE_SIDE; row++) {
        s->state.largest[row] = -INFINITY;
        s->state.totals[row] = 0;
    }
    struct step step;
    for (size_t at = first; at < last; at += STEP) {
        int fresh = at == first;
        size_t chunks[TASK_TILES];
        find_rows(t, task, s, &step, at);
        for (size_t tile = 0; tile < tiles; tile += 2) {
            chunks[tile] = weigh_tiles(t, s, &step, tile, tile + 1 < tiles, task->rows, fresh);
        }
        for (size_t column = 0; column < shape->columns; column += 4) {
            int both = column + 2 < shape->columns;
            load_block(&step, shape, s->blocks, column * CK_TILE_SIDE);
            if (both) load_block(&step, shape, s->blocks + BLOCK, (column + 2) * CK_TILE_SIDE);
            for (int i = 0; i < 4; i++) look_ahead(&step, shape->width);
            add_values(shape, s, tiles, column, both, chunks, fresh);
            for (int i = 0; i < 4; i++) look_ahead(&step, shape->width);
        }
        while (step.ahead_next < step.ahead_count) look_ahead(&step, shape->width);
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

// Where attended latents go: rows of F32 numbers, or of BF16 ones with zeros up to whole CHUNKs.
struct target {
    uint8_t *rows;  // the first of a tile
    size_t stride;  // bytes from row to row
    int narrow;
};

// Writes sums / totals of columns first ..< last, an even number of tiles, of a tile of rows.
TARGET static void finish(const struct shape *shape, const struct task *task, size_t tile,
                          const float *sums, __m512 total, size_t first, size_t last,
                          struct target target)
{
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
        uint8_t *output = target.rows + row * target.stride;
        const __m512 factor = _mm512_set1_ps(by[row]), zero = _mm512_setzero_ps();
        for (size_t column = first; column < last; column += 2) {
            const float *from = sums + column * SUMS + row * CK_TILE_SIDE;
            __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + SUMS);
            size_t at = column * CK_TILE_SIDE, left = shape->latent - at;
            uint32_t mask = left < 32 ? (1u << left) - 1 : ~0u;
            // Adding 0 makes one of the two zeros, whatever weights of 0 were added.
            __m512 y = _mm512_mul_ps(_mm512_permutex2var_ps(a, low, b), factor);
            __m512 z = _mm512_mul_ps(_mm512_permutex2var_ps(a, high, b), factor);
            y = _mm512_add_ps(y, zero);
            z = _mm512_add_ps(z, zero);
            if (target.narrow) {
                __m512i both = (__m512i)_mm512_cvtne2ps_pbh(z, y);
                _mm512_storeu_si512(output + at * 2, _mm512_maskz_mov_epi16(mask, both));
            } else {
                _mm512_mask_storeu_ps(output + at * 4, (__mmask16)mask, y);
                _mm512_mask_storeu_ps(output + at * 4 + 64, (__mmask16)(mask >> 16), z);
            }
        }
    }
}

// Where the attended latents of a tile of rows belong.
static struct target attended(const struct attend_job *t, const struct task *task, size_t tile)
{
    size_t latent = t->shape.latent, row = task->first + tile * CK_TILE_SIDE;
    return (struct target){(uint8_t *)(t->job->latents + row * latent), latent * 4, 0};
}

// All partitions of a task, joined, into s->joined.
TARGET static void attend_all(const struct attend_job *t, const struct task *task,
                              struct scratch *s)
{
    size_t next = t->shape.columns * SUMS;
    for (size_t first = 0; first < task->length; first += PARTITION) {
        attend_partition(t, task, s, first, ck_min(first + PARTITION, task->length));
        if (first == 0) {
            struct state swap = s->joined;
            s->joined = s->state;
            s->state = swap;
            continue;
        }
        for (size_t tile = 0; tile < tile_count(task); tile++) {
            size_t at = tile * CK_TILE_SIDE;
            __m512 largest = _mm512_loadu_ps(s->joined.largest + at);
            __m512 total = _mm512_loadu_ps(s->joined.totals + at);
            join(s->joined.sums + tile * next, &largest, &total, s->state.sums + tile * next,
                 _mm512_loadu_ps(s->state.largest + at), _mm512_loadu_ps(s->state.totals + at),
                 t->shape.columns);
            _mm512_storeu_ps(s->joined.largest + at, largest);
            _mm512_storeu_ps(s->joined.totals + at, total);
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
    attend_all(t, task, &s);
    size_t next = shape->columns * SUMS;
    for (size_t tile = 0; tile < tile_count(task); tile++) {
        finish(shape, task, tile, s.joined.sums + tile * next,
               _mm512_loadu_ps(s.joined.totals + tile * CK_TILE_SIDE), 0, shape->columns,
               attended(t, task, tile));
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
    size_t first = index * PARTITION;
    attend_partition(t, task, &s, first, ck_min(first + PARTITION, task->length));
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
    finish(&t->shape, task, tile, sums, total, first, last, attended(t, task, tile));
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

// ---- Runs ------------------------------------------------------------------------------------
//
// Many neighbouring queries: a task takes some heads of up to TASK_ROWS of them from the queries to
// the output, so that nothing of it leaves the core and nobody waits between the stages. Its rows
// are [heads, queries].

struct run_task {
    struct task task;
    uint32_t head, heads, queries;
};

struct run_job {
    struct attend_job attend;
    const struct run_task *tasks;
};

// Queries of the task's heads in the latent space, BF16, then packed.
TARGET static void absorb(const struct attend_job *t, const struct run_task *run,
                          const struct scratch *s)
{
    const struct ck_latent_attention *a = t->job->a;
    const struct ck_kernels *k = t->job->kernels;
    const struct shape *shape = &t->shape;
    size_t query = a->nope + a->rope, bytes = ck_operand_bytes(k, &a->keys[0]);
    int32_t starts[CK_AMX_ROWS];
    float token_scales[CK_AMX_ROWS];
    _Alignas(64) float y[CK_AMX_ROWS * CK_PANEL];
    for (size_t head = 0; head < run->heads; head++) {
        const struct ck_linear *keys = &a->keys[run->head + head];
        for (size_t first = 0, count; first < run->queries; first += count) {
            count = ck_min(CK_AMX_ROWS, run->queries - first);
            size_t at = t->job->first_row + run->task.query + first;
            const float *x = a->queries + (at * a->heads + run->head + head) * query;
            uint16_t *rows = s->staged + (head * run->queries + first) * shape->depth;
            for (size_t r = 0; r < count; r++, x += a->heads * query) {
                ck_operand_row(k, keys, s->operands + r * bytes, x, starts + r, token_scales + r);
                uint16_t *row = rows + r * shape->depth;
                memset(row + shape->depth - 32, 0, 64);
                k->panel->narrow_bf16(row + a->latent, x + a->nope, a->rope);
            }
            struct ck_product product = {
                .y = y, .y_stride = CK_PANEL, .x = s->operands, .x_stride = bytes, .rows = count,
                .parts = first == 0, .starts = starts, .token_scales = token_scales,
            };
            for (size_t output = 0; output < a->latent; output += CK_PANEL) {
                ck_panel_product(k, keys, output / CK_PANEL, &product);
                uint32_t mask = a->latent - output < 32 ? (1u << (a->latent - output)) - 1 : ~0u;
                for (size_t r = 0; r < count; r++) {
                    __m512 low = _mm512_load_ps(y + r * CK_PANEL);
                    __m512 high = _mm512_load_ps(y + r * CK_PANEL + 16);
                    _mm512_mask_storeu_epi16(rows + r * shape->depth + output, mask,
                                             (__m512i)_mm512_cvtne2ps_pbh(high, low));
                }
            }
        }
    }
    for (size_t first = 0; first < run->task.rows; first += CK_PANEL) {
        const void *rows[CK_PANEL] = {0};
        for (size_t i = 0; i < CK_PANEL && first + i < run->task.rows; i++) {
            rows[i] = s->staged + (first + i) * shape->depth;
        }
        k->panel->transpose(s->queries + first * (shape->depth / 2), rows, shape->depth / 2);
    }
    for (size_t row = 0; row < tile_count(&run->task) * CK_TILE_SIDE; row++) {
        size_t at = t->job->first_row + run->task.query + row % run->queries;
        s->limits[row] = row < run->task.rows ? a->positions[at] + 1 : 0;
    }
}

// Attended latents of the task's heads through the values' matrices.
TARGET static void project(const struct attend_job *t, const struct run_task *run,
                           const struct scratch *s)
{
    const struct ck_latent_attention *a = t->job->a;
    const struct ck_kernels *k = t->job->kernels;
    size_t next = t->shape.columns * SUMS, bytes = ck_operand_bytes(k, &a->values[0]);
    int32_t starts[CK_AMX_ROWS];
    float token_scales[CK_AMX_ROWS];
    // Where products take BF16 rows, they are written as such at once.
    const int narrow = a->values[0].kind == CK_BF16;
    const size_t stride = narrow ? bytes : a->latent * 4;
    for (size_t tile = 0; tile < tile_count(&run->task); tile++) {
        struct target target = {s->attended + tile * CK_TILE_SIDE * stride, stride, narrow};
        finish(&t->shape, &run->task, tile, s->joined.sums + tile * next,
               _mm512_loadu_ps(s->joined.totals + tile * CK_TILE_SIDE), 0, t->shape.columns,
               target);
    }
    for (size_t head = 0; head < run->heads; head++) {
        const struct ck_linear *values = &a->values[run->head + head];
        for (size_t first = 0, count; first < run->queries; first += count) {
            count = ck_min(CK_AMX_ROWS, run->queries - first);
            const uint8_t *x = s->attended + (head * run->queries + first) * stride;
            for (size_t r = 0; r < count && !narrow; r++) {
                ck_operand_row(k, values, s->operands + r * bytes,
                               (const float *)(x + r * stride), starts + r, token_scales + r);
            }
            size_t at = t->job->first_row + run->task.query + first;
            float *output = a->output + (at * a->heads + run->head + head) * a->value;
            float y[CK_AMX_ROWS * CK_PANEL];
            struct ck_product product = {
                .y = y, .y_stride = CK_PANEL, .x = narrow ? x : s->operands, .x_stride = bytes,
                .rows = count, .parts = first == 0, .starts = starts,
                .token_scales = token_scales,
            };
            for (size_t column = 0; column < a->value; column += CK_PANEL) {
                ck_panel_product(k, values, column / CK_PANEL, &product);
                size_t columns = ck_min(CK_PANEL, a->value - column);
                for (size_t r = 0; r < count; r++) {
                    memcpy(output + r * a->heads * a->value + column, y + r * CK_PANEL,
                           columns * sizeof *y);
                }
            }
        }
    }
}

TARGET static void attend_heads(void *context, size_t item, size_t thread)
{
    const struct run_job *job = context;
    const struct attend_job *t = &job->attend;
    const struct run_task *run = &job->tasks[item];
    struct scratch s;
    lay_out(&t->shape, t->job->scratch + thread * t->job->scratch_bytes, &s);
    ck_shape_tiles();
    absorb(t, run, &s);
    attend_all(t, &run->task, &s);
    project(t, run, &s);
}

static void attend_runs(struct ck_engine *engine, struct ck_attention_job *job,
                        const struct ck_attention_run *runs, size_t count)
{
    const struct ck_latent_attention *a = job->a;
    size_t most = 0, used = 0;
    for (size_t run = 0; run < count; run++) {
        most += (ck_blocks(runs[run].queries, TASK_ROWS) + 1) * a->heads;
    }
    struct run_task *tasks = ck_scratch(engine, CK_SCRATCH_CUTS, most * sizeof *tasks);
    for (size_t run = 0; run < count; run++) {
        size_t parts = ck_blocks(runs[run].queries, TASK_ROWS);
        // The last part, which has the longest rows, comes first.
        for (size_t part = parts; part-- > 0;) {
            size_t first = part * TASK_ROWS;
            size_t queries = ck_min(TASK_ROWS, runs[run].queries - first);
            size_t last = runs[run].first + first + queries - 1;
            size_t heads = ck_min(a->heads, TASK_ROWS / queries);
            for (size_t head = 0; head < a->heads; head += heads) {
                size_t own = ck_min(heads, a->heads - head);
                tasks[used++] = (struct run_task){
                    .task = {.rows = (uint32_t)(own * queries),
                             .query = (uint32_t)(runs[run].first + first),
                             .length = (uint32_t)a->positions[last] + 1},
                    .head = (uint32_t)head, .heads = (uint32_t)own, .queries = (uint32_t)queries,
                };
            }
        }
    }
    job->first_row = 0;
    struct run_job all = {{.job = job, .shape = make_shape(a)}, tasks};
    ck_run(engine, used, SIZE_MAX / used, attend_heads, &all);
}

const struct ck_attention_form ck_amx_attention = {
    .scratch = scratch_bytes,
    .attend = attend,
    .attend_runs = attend_runs,
};
#endif
