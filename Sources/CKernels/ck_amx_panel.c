// Products with packed panels by tiles: up to 32 rows by 32 outputs at a time. Rows of activations
// are row-major with zeros behind the depth, up to a whole tile.
//
// Every (row, output) pair has one accumulator that takes the depth in rising order. For BF16 one
// instruction adds the even and the odd products of 32 inputs apart, in rising order, then both
// to the accumulator; so tiles compute every number of rows. For int8 sums are exact, and a single
// row is VNNI's: it takes half the time.
#if defined(__x86_64__)
#include "ck_amx.h"

#pragma STDC FP_CONTRACT OFF

// The next panel is asked for in several streams, which memory serves faster than one, but each
// in pages of its own: two in one page come slower than one, as the hardware's own prefetcher
// follows one stream a page.
enum { STREAMS_MAX = 8, STREAM_BYTES = 4096 };

// What is asked for while one product is computed: `lines` of every stream a step.
struct ahead {
    const char *at;
    size_t streams, stream, lines;
};

// Every part of a panel's products has a piece of each stream.
static struct ahead look_ahead(const struct ck_product *p)
{
    if (p->parts == 0 || !p->next) return (struct ahead){0};
    size_t panel = p->units * CK_PANEL * 4, steps = ck_blocks(p->units, CK_TILE_UNITS);
    size_t streams = ck_min(STREAMS_MAX, ck_blocks(panel, STREAM_BYTES));
    size_t length = ck_blocks(panel / 64, streams), lines = ck_blocks(length, p->parts);
    const char *next = (const char *)p->next + p->part * lines * 64;
    return (struct ahead){next, streams, length * 64, ck_blocks(lines, steps)};
}

INLINE void prefetch_weights(struct ahead *ahead)
{
    for (size_t line = 0; line < ahead->lines; line++, ahead->at += 64) {
        const char *at = ahead->at;
        for (size_t stream = 0; stream < ahead->streams; stream++, at += ahead->stream) {
            _mm_prefetch(at, _MM_HINT_T1);
        }
    }
}

const struct ck_tile_shapes ck_tile_shapes = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};
_Thread_local int ck_tiles_are_shaped;

// What lies behind the last whole tile of weights, with zeros up to a whole one: garbage times a
// zero of the activations could be NaN.
INLINE void copy_tail(uint8_t *tail, const uint8_t *w, size_t units)
{
    memset(tail, 0, CK_TILE_UNITS * CK_PANEL * 4);
    memcpy(tail, w, units * CK_PANEL * 4);
}

#define LOAD_WEIGHTS(FROM)                                                                       \
    _tile_loadd(6, (FROM), CK_PANEL * 4);                                                        \
    _tile_loadd(7, (FROM) + CK_TILE_BYTES, CK_PANEL * 4);

// One step of depth for up to 16 rows, or up to 32 (`two`).
#define STEP(DOT, FROM)                                                                          \
    LOAD_WEIGHTS(FROM)                                                                           \
    _tile_loadd(4, x, x_stride);                                                                 \
    DOT(0, 4, 6);                                                                                \
    DOT(1, 4, 7);                                                                                \
    if (two) {                                                                                   \
        _tile_loadd(5, x + CK_TILE_SIDE * x_stride, x_stride);                                   \
        DOT(2, 5, 6);                                                                            \
        DOT(3, 5, 7);                                                                            \
    }                                                                                            \
    x += CK_TILE_BYTES;

#define DEPTH(DOT)                                                                               \
    const uint8_t *x = p->x, *w = p->w;                                                          \
    const size_t x_stride = p->x_stride;                                                         \
    size_t units = p->units;                                                                     \
    struct ahead ahead = look_ahead(p);                                                          \
    for (; units >= CK_TILE_UNITS; units -= CK_TILE_UNITS) {                                     \
        prefetch_weights(&ahead);                                                                \
        STEP(DOT, w)                                                                             \
        w += CK_TILE_UNITS * CK_PANEL * 4;                                                       \
    }                                                                                            \
    if (units > 0) {                                                                             \
        _Alignas(64) uint8_t tail[CK_TILE_UNITS * CK_PANEL * 4];                                 \
        copy_tail(tail, w, units);                                                               \
        STEP(DOT, tail)                                                                          \
    }

INLINE void zero_sums(const int two)
{
    _tile_zero(0);
    _tile_zero(1);
    if (two) {
        _tile_zero(2);
        _tile_zero(3);
    }
}

// Sums of `stride` elements a row.
#define LOAD_SUMS(FROM, STRIDE)                                                                  \
    _tile_loadd(0, (FROM), (STRIDE) * 4);                                                        \
    _tile_loadd(1, (FROM) + CK_TILE_SIDE, (STRIDE) * 4);                                         \
    if (two) {                                                                                   \
        _tile_loadd(2, (FROM) + CK_TILE_SIDE * (STRIDE), (STRIDE) * 4);                          \
        _tile_loadd(3, (FROM) + CK_TILE_SIDE * (STRIDE) + CK_TILE_SIDE, (STRIDE) * 4);           \
    }
#define STORE_SUMS(TO, STRIDE)                                                                   \
    _tile_stored(0, (TO), (STRIDE) * 4);                                                         \
    _tile_stored(1, (TO) + CK_TILE_SIDE, (STRIDE) * 4);                                          \
    if (two) {                                                                                   \
        _tile_stored(2, (TO) + CK_TILE_SIDE * (STRIDE), (STRIDE) * 4);                           \
        _tile_stored(3, (TO) + CK_TILE_SIDE * (STRIDE) + CK_TILE_SIDE, (STRIDE) * 4);            \
    }

INLINE void sum_i8(const struct ck_product *p, int32_t *sums, const int two)
{
    zero_sums(two);
    DEPTH(_tile_dpbsud)
    STORE_SUMS(sums, (size_t)CK_PANEL)
}

// Outputs from sums; `scaled`: by tokens, too. What the compiler cannot know to stay the same while
// outputs are written is read before.
INLINE void scale_sums(const struct ck_product *p, const int32_t *sums, const int scaled)
{
    const __m512 scale[2] = {_mm512_loadu_ps(p->scale), _mm512_loadu_ps(p->scale + 16)};
    __m512i bias[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    if (p->bias) {
        bias[0] = _mm512_loadu_si512(p->bias);
        bias[1] = _mm512_loadu_si512(p->bias + 16);
    }
    const int32_t *starts = p->starts;
    const float *token_scales = p->token_scales;
    float *y = p->y;
    const size_t rows = p->rows, stride = p->y_stride;
    for (size_t r = 0; r < rows; r++, y += stride, sums += CK_PANEL) {
        const __m512i start = _mm512_set1_epi32(starts[r]);
        const __m512 token = _mm512_set1_ps(scaled ? token_scales[r] : 1.0f);
        UNROLL for (size_t half = 0; half < 2; half++) {
            __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums + half * 16), start);
            __m512 v = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, bias[half]));
            v = _mm512_mul_ps(v, scale[half]);
            if (scaled) v = _mm512_mul_ps(v, token);
            _mm512_storeu_ps(y + half * 16, v);
        }
    }
}

// One row, by VNNI.
TARGET static void row_i8(const struct ck_product *p)
{
    __m512i a = _mm512_set1_epi32(p->starts[0]), b = a;
    const int32_t *x = p->x;
    const uint8_t *w = p->w;
    struct ahead ahead = look_ahead(p);
    for (size_t unit = 0; unit < p->units;) {
        size_t end = ck_min(unit + CK_TILE_UNITS, p->units);
        prefetch_weights(&ahead);
        for (; unit < end; unit++, w += CK_PANEL * 4) {
            __m512i code = _mm512_set1_epi32(x[unit]);
            a = _mm512_dpbusd_epi32(a, _mm512_loadu_si512(w), code);
            b = _mm512_dpbusd_epi32(b, _mm512_loadu_si512(w + 64), code);
        }
    }
    _Alignas(64) int32_t sums[CK_PANEL];
    _mm512_store_si512(sums, a);
    _mm512_store_si512(sums + 16, b);
    const int32_t none = 0;
    struct ck_product scaled = *p;
    scaled.starts = &none;
    if (p->token_scales) scale_sums(&scaled, sums, 1);
    else scale_sums(&scaled, sums, 0);
}

TARGET void ck_amx_product_i8(const struct ck_product *p)
{
    if (p->rows == 1) {
        row_i8(p);
        return;
    }
    _Alignas(64) int32_t sums[CK_AMX_ROWS * CK_PANEL];
    ck_shape_tiles();
    if (p->rows > CK_TILE_SIDE) sum_i8(p, sums, 1);
    else sum_i8(p, sums, 0);
    if (p->token_scales) scale_sums(p, sums, 1);
    else scale_sums(p, sums, 0);
}

INLINE void sum_bf16(const struct ck_product *p, float *y, size_t y_stride, const int two)
{
    if (p->accumulate) {
        LOAD_SUMS(y, y_stride)
    } else {
        zero_sums(two);
    }
    DEPTH(_tile_dpbf16ps)
    STORE_SUMS(y, y_stride)
}

TARGET void ck_amx_product_bf16(const struct ck_product *p)
{
    ck_shape_tiles();
    if (p->rows == 2 * CK_TILE_SIDE) {
        sum_bf16(p, p->y, p->y_stride, 1);
        return;
    }
    if (p->rows == CK_TILE_SIDE) {
        sum_bf16(p, p->y, p->y_stride, 0);
        return;
    }
    // Sums of whole tiles, of which only some rows are wanted.
    _Alignas(64) float sums[CK_AMX_ROWS * CK_PANEL];
    if (p->accumulate) {
        memset(sums, 0, sizeof sums);
        for (size_t r = 0; r < p->rows; r++) {
            memcpy(sums + r * CK_PANEL, p->y + r * p->y_stride, CK_PANEL * sizeof *sums);
        }
    }
    if (p->rows > CK_TILE_SIDE) sum_bf16(p, sums, CK_PANEL, 1);
    else sum_bf16(p, sums, CK_PANEL, 0);
    for (size_t r = 0; r < p->rows; r++) {
        memcpy(p->y + r * p->y_stride, sums + r * CK_PANEL, CK_PANEL * sizeof *sums);
    }
}
#endif
