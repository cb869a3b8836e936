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
// thread. A position that a row must not see has weight 0, which adds nothing where it is finite.
#if defined(__x86_64__)
#include <float.h>
#include <math.h>

#include "ck_amx_attention.h"

#pragma STDC FP_CONTRACT OFF

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += ck_blocks(bytes, 64) * 64;
    return at;
}

struct shape ck_amx_shape(const struct ck_latent_attention *a)
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
        .operand = ck_blocks((a->nope > a->latent ? a->nope : a->latent) * 2, 64) * 64 + 64,
        .is_int8 = is_int8,
        .direct = !is_int8 && width % 32 == 0 && a->block_size % CK_TILE_SIDE == 0,
    };
}

size_t ck_amx_lay_out(const struct shape *shape, uint8_t *_Nullable base, struct scratch *s)
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
    size_t state = take(&used, ck_amx_state_bytes(shape, TASK_TILES));
    size_t joined = take(&used, ck_amx_state_bytes(shape, TASK_TILES));
    size_t staged = take(&used, TASK_ROWS * depth * 2);
    size_t attended = take(&used, (TASK_ROWS + CK_AMX_ROWS) * (shape->latent * 2 + shape->operand));
    size_t operands = take(&used, CK_AMX_ROWS * shape->operand);
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
            .state = ck_amx_state_at(base + state, shape, TASK_TILES),
            .joined = ck_amx_state_at(base + joined, shape, TASK_TILES),
            .staged = (uint16_t *)(base + staged),
            .attended = base + attended,
            .operands = base + operands,
        };
    }
    return used;
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
        ck_amx_look_ahead(step, shape);
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
        for (int n = 0; n < (shape->is_int8 ? 3 : 1); n++) ck_amx_look_ahead(step, shape);
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
    // A row that saw something has more than -infinity, even if all of it was no number: partitions
    // of rows that saw nothing are left out.
    __mmask16 any = _mm512_cmpgt_epi32_mask(seen, _mm512_setzero_si512());
    top = _mm512_mask_max_ps(top, any, top, _mm512_set1_ps(-FLT_MAX));
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

// 32 columns of two positions, from `column` on; NULL: zeros.
INLINE void load_pair(uint16_t *block, const uint16_t *first, const uint16_t *second,
                      size_t column, __mmask32 mask)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i a = first ? _mm512_maskz_loadu_epi16(mask, first + column) : zero;
    __m512i b = second ? _mm512_maskz_loadu_epi16(mask, second + column) : zero;
    _mm512_storeu_si512(block, _mm512_unpacklo_epi16(a, b));
    _mm512_storeu_si512(block + 32, _mm512_unpackhi_epi16(a, b));
}

// One block of 32 columns, or two, of all positions of a step, in pairs of positions. Two are
// neighbouring lines of memory, read together.
INLINE void load_blocks(const struct step *step, const struct shape *shape, uint16_t *block,
                        size_t column, const int blocks)
{
    size_t left = shape->latent - column, last = left - (size_t)(blocks - 1) * 32;
    __mmask32 whole = (__mmask32)~0u;
    __mmask32 tail = last < 32 ? (__mmask32)((1ull << last) - 1) : whole;
    size_t p = 0, end = ck_blocks(step->count, CHUNK) * CHUNK;
    if (last >= 32) {
        for (; p + 2 <= step->count; p += 2, block += 64) {
            const uint16_t *first = step->rows[p] + column, *second = step->rows[p + 1] + column;
            UNROLL for (int i = 0; i < blocks; i++) {
                __m512i a = _mm512_loadu_si512(first + i * 32);
                __m512i b = _mm512_loadu_si512(second + i * 32);
                _mm512_storeu_si512(block + i * BLOCK, _mm512_unpacklo_epi16(a, b));
                _mm512_storeu_si512(block + i * BLOCK + 32, _mm512_unpackhi_epi16(a, b));
            }
        }
    }
    for (; p < end; p += 2, block += 64) {
        UNROLL for (int i = 0; i < blocks; i++) {
            load_pair(block + i * BLOCK, step->rows[p], step->rows[p + 1], column + (size_t)i * 32,
                      i + 1 == blocks ? tail : whole);
        }
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

// ---- A partition -----------------------------------------------------------------------------

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
TARGET void ck_amx_attend_partition(const struct attend_job *t, const struct task *task,
                                    const struct scratch *s, struct step *step, size_t first,
                                    size_t last, size_t end)
{
    const struct shape *shape = &t->shape;
    size_t tiles = ck_amx_tile_count(task);
    for (size_t row = 0; row < tiles * CK_TILE_SIDE; row++) {
        s->state.largest[row] = -INFINITY;
        s->state.totals[row] = 0;
    }
    for (size_t at = first; at < last; at += STEP) {
        int fresh = at == first;
        size_t chunks[TASK_TILES];
        ck_amx_find_rows(t, task, s, step, at, end);
        for (size_t tile = 0; tile < tiles; tile += 2) {
            chunks[tile] = weigh_tiles(t, s, step, tile, tile + 1 < tiles, task->rows, fresh);
        }
        for (size_t column = 0; column < shape->columns; column += 4) {
            int both = column + 2 < shape->columns;
            if (both) load_blocks(step, shape, s->blocks, column * CK_TILE_SIDE, 2);
            else load_blocks(step, shape, s->blocks, column * CK_TILE_SIDE, 1);
            for (int i = 0; i < 4; i++) ck_amx_look_ahead(step, shape);
            add_values(shape, s, tiles, column, both, chunks, fresh);
            for (int i = 0; i < 4; i++) ck_amx_look_ahead(step, shape);
        }
        while (step->ahead_next < step->ahead_count) ck_amx_look_ahead(step, shape);
    }
}

// ---- Partitions together ---------------------------------------------------------------------

// Adds a later partition to 16 rows; some columns of them. A row that saw nothing of it stays.
TARGET void ck_amx_join(float *sums, float *largest, float *totals, const float *more,
                        const float *more_largest, const float *more_totals, size_t columns)
{
    const __m512 none = _mm512_set1_ps(-INFINITY);
    __m512 old = _mm512_loadu_ps(largest), new = _mm512_loadu_ps(more_largest);
    __mmask16 seen = _mm512_cmp_ps_mask(new, none, _CMP_NEQ_UQ);
    __m512 top = _mm512_max_ps(old, new);
    __m512 factor = power_of_two(_mm512_sub_ps(old, top));
    __m512 more_factor = power_of_two(_mm512_sub_ps(new, top));
    __m512 total = _mm512_loadu_ps(totals), more_total = _mm512_loadu_ps(more_totals);
    __m512 joined = _mm512_fmadd_ps(more_total, more_factor, _mm512_mul_ps(total, factor));
    _mm512_storeu_ps(totals, _mm512_mask_mov_ps(total, seen, joined));
    _mm512_storeu_ps(largest, _mm512_mask_mov_ps(old, seen, top));
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
TARGET void ck_amx_finish(const struct shape *shape, const struct task *task, size_t tile,
                          const float *sums, const float *totals, size_t first, size_t last,
                          struct target target)
{
    int32_t lanes[2][16];
    for (int i = 0; i < 32; i++) {
        // Of each eight columns, four are in the first tile and four in the second.
        lanes[i / 16][i % 16] = i / 8 * 4 + i % 4 + (i / 4 % 2) * 16;
    }
    const __m512i low = _mm512_loadu_si512(lanes[0]), high = _mm512_loadu_si512(lanes[1]);
    float by[CK_TILE_SIDE];
    _mm512_storeu_ps(by, _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_loadu_ps(totals)));
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
// All partitions of a task, joined, into s->joined.
TARGET void ck_amx_attend_all(const struct attend_job *t, const struct task *task,
                              struct scratch *s)
{
    struct step step = {.copied = NOTHING_COPIED};
    size_t next = t->shape.columns * SUMS;
    for (size_t first = 0; first < task->length; first += PARTITION) {
        size_t last = ck_min(first + PARTITION, task->length);
        ck_amx_attend_partition(t, task, s, &step, first, last, task->length);
        if (first == 0) {
            struct state swap = s->joined;
            s->joined = s->state;
            s->state = swap;
            continue;
        }
        for (size_t tile = 0; tile < ck_amx_tile_count(task); tile++) {
            size_t at = tile * CK_TILE_SIDE;
            ck_amx_join(s->joined.sums + tile * next, s->joined.largest + at,
                        s->joined.totals + at, s->state.sums + tile * next,
                        s->state.largest + at, s->state.totals + at, t->shape.columns);
        }
    }
}
#endif
