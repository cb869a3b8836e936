// Products with packed panels, AVX-512. A tile of R rows by 32 outputs lives in 2R registers; one
// step takes one unit of depth: two loads of weights, R broadcasts of activations. Every (row,
// output) pair has one accumulator that takes the depth in rising order, whatever R is.
#if defined(__x86_64__)
#include <immintrin.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#define TARGET_BF16                                                                              \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma")))
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

// One function a row count, chosen by a table: R is a constant in each.
#define DEFINE_ROWS(NAME, ATTRIBUTE)                                                             \
    ATTRIBUTE static void NAME##_1(const struct ck_product *p) { NAME##_tile(p, 1); }            \
    ATTRIBUTE static void NAME##_2(const struct ck_product *p) { NAME##_tile(p, 2); }            \
    ATTRIBUTE static void NAME##_3(const struct ck_product *p) { NAME##_tile(p, 3); }            \
    ATTRIBUTE static void NAME##_4(const struct ck_product *p) { NAME##_tile(p, 4); }            \
    ATTRIBUTE static void NAME##_5(const struct ck_product *p) { NAME##_tile(p, 5); }            \
    ATTRIBUTE static void NAME##_6(const struct ck_product *p) { NAME##_tile(p, 6); }            \
    ATTRIBUTE static void NAME##_7(const struct ck_product *p) { NAME##_tile(p, 7); }            \
    ATTRIBUTE static void NAME##_8(const struct ck_product *p) { NAME##_tile(p, 8); }            \
    ATTRIBUTE static void NAME##_9(const struct ck_product *p) { NAME##_tile(p, 9); }            \
    ATTRIBUTE static void NAME##_10(const struct ck_product *p) { NAME##_tile(p, 10); }          \
    ATTRIBUTE static void NAME##_11(const struct ck_product *p) { NAME##_tile(p, 11); }          \
    ATTRIBUTE static void NAME##_12(const struct ck_product *p) { NAME##_tile(p, 12); }          \
    static void NAME(const struct ck_product *p)                                                 \
    {                                                                                            \
        static void (*const by_rows[CK_TILE_ROWS + 1])(const struct ck_product *) = {            \
            NULL,      NAME##_1, NAME##_2, NAME##_3, NAME##_4,  NAME##_5,  NAME##_6,             \
            NAME##_7,  NAME##_8, NAME##_9, NAME##_10, NAME##_11, NAME##_12,                      \
        };                                                                                       \
        by_rows[p->rows](p);                                                                     \
    }

TARGET INLINE void product_i8_tile(const struct ck_product *p, const int R)
{
    __m512i a[CK_TILE_ROWS], b[CK_TILE_ROWS];
    UNROLL for (int r = 0; r < R; r++) a[r] = b[r] = _mm512_set1_epi32(p->starts[r]);
    const int32_t *x = p->x;
    const uint8_t *w = p->w;
    for (size_t unit = 0; unit < p->units; unit++) {
        __m512i low = _mm512_loadu_si512(w), high = _mm512_loadu_si512(w + 64);
        UNROLL for (int r = 0; r < R; r++) {
            __m512i code = _mm512_set1_epi32(x[r]);
            a[r] = _mm512_dpbusd_epi32(a[r], low, code);
            b[r] = _mm512_dpbusd_epi32(b[r], high, code);
        }
        x += R;
        w += 128;
    }
    if (p->bias) {
        __m512i low = _mm512_loadu_si512(p->bias), high = _mm512_loadu_si512(p->bias + 16);
        UNROLL for (int r = 0; r < R; r++) {
            a[r] = _mm512_add_epi32(a[r], low);
            b[r] = _mm512_add_epi32(b[r], high);
        }
    }
    __m512 low = _mm512_loadu_ps(p->scale), high = _mm512_loadu_ps(p->scale + 16);
    UNROLL for (int r = 0; r < R; r++) {
        __m512 left = _mm512_mul_ps(_mm512_cvtepi32_ps(a[r]), low);
        __m512 right = _mm512_mul_ps(_mm512_cvtepi32_ps(b[r]), high);
        if (p->token_scales) {
            __m512 token = _mm512_set1_ps(p->token_scales[r]);
            left = _mm512_mul_ps(left, token);
            right = _mm512_mul_ps(right, token);
        }
        _mm512_storeu_ps(p->y + r * p->y_stride, left);
        _mm512_storeu_ps(p->y + r * p->y_stride + 16, right);
    }
}
DEFINE_ROWS(product_i8, TARGET)

#define LOAD_SUMS                                                                                \
    __m512 a[CK_TILE_ROWS], b[CK_TILE_ROWS];                                                     \
    UNROLL for (int r = 0; r < R; r++)                                                           \
    {                                                                                            \
        a[r] = p->accumulate ? _mm512_loadu_ps(p->y + r * p->y_stride) : _mm512_setzero_ps();    \
        b[r] = p->accumulate ? _mm512_loadu_ps(p->y + r * p->y_stride + 16)                      \
                             : _mm512_setzero_ps();                                              \
    }
#define STORE_SUMS                                                                               \
    UNROLL for (int r = 0; r < R; r++)                                                           \
    {                                                                                            \
        _mm512_storeu_ps(p->y + r * p->y_stride, a[r]);                                          \
        _mm512_storeu_ps(p->y + r * p->y_stride + 16, b[r]);                                     \
    }

// VDPBF16PS: products of pairs, added to the sum with one rounding a product.
TARGET_BF16 INLINE void dot_bf16_tile(const struct ck_product *p, const int R)
{
    LOAD_SUMS
    const int32_t *x = p->x;
    const uint8_t *w = p->w;
    for (size_t unit = 0; unit < p->units; unit++) {
        __m512bh low = (__m512bh)_mm512_loadu_si512(w);
        __m512bh high = (__m512bh)_mm512_loadu_si512(w + 64);
        UNROLL for (int r = 0; r < R; r++) {
            __m512bh pair = (__m512bh)_mm512_set1_epi32(x[r]);
            a[r] = _mm512_dpbf16_ps(a[r], low, pair);
            b[r] = _mm512_dpbf16_ps(b[r], high, pair);
        }
        x += R;
        w += 128;
    }
    STORE_SUMS
}
DEFINE_ROWS(dot_bf16, TARGET_BF16)

// A pair of BF16 numbers in 32 bits: the first is the low half.
TARGET INLINE __m512 first_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
TARGET INLINE __m512 second_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}
INLINE float first_of_one(uint32_t pair) { return ck_bf16((uint16_t)pair); }
INLINE float second_of_one(uint32_t pair) { return ck_bf16((uint16_t)(pair >> 16)); }

// F32 activations (`wide`) or BF16 pairs, BF16 weights, F32 products.
TARGET INLINE void widened(const struct ck_product *p, const int R, const int wide)
{
    LOAD_SUMS
    const float *x = p->x;
    const uint32_t *pairs = p->x;
    const uint8_t *w = p->w;
    for (size_t unit = 0; unit < p->units; unit++) {
        __m512i low = _mm512_loadu_si512(w), high = _mm512_loadu_si512(w + 64);
        __m512 low_first = first_of(low), low_second = second_of(low);
        __m512 high_first = first_of(high), high_second = second_of(high);
        UNROLL for (int r = 0; r < R; r++) {
            __m512 first = _mm512_set1_ps(wide ? x[r] : first_of_one(pairs[r]));
            a[r] = _mm512_fmadd_ps(first, low_first, a[r]);
            b[r] = _mm512_fmadd_ps(first, high_first, b[r]);
        }
        UNROLL for (int r = 0; r < R; r++) {
            __m512 second = _mm512_set1_ps(wide ? x[R + r] : second_of_one(pairs[r]));
            a[r] = _mm512_fmadd_ps(second, low_second, a[r]);
            b[r] = _mm512_fmadd_ps(second, high_second, b[r]);
        }
        x += 2 * R;
        pairs += R;
        w += 128;
    }
    STORE_SUMS
}
TARGET INLINE void product_wide_tile(const struct ck_product *p, const int R)
{
    widened(p, R, 1);
}
DEFINE_ROWS(product_wide, TARGET)
TARGET INLINE void product_bf16_tile(const struct ck_product *p, const int R)
{
    widened(p, R, 0);
}
DEFINE_ROWS(product_bf16, TARGET)

TARGET INLINE void product_f32_tile(const struct ck_product *p, const int R)
{
    LOAD_SUMS
    const float *x = p->x;
    const float *w = p->w;
    for (size_t unit = 0; unit < p->units; unit++) {
        __m512 low = _mm512_loadu_ps(w), high = _mm512_loadu_ps(w + 16);
        UNROLL for (int r = 0; r < R; r++) {
            __m512 value = _mm512_set1_ps(x[r]);
            a[r] = _mm512_fmadd_ps(value, low, a[r]);
            b[r] = _mm512_fmadd_ps(value, high, b[r]);
        }
        x += R;
        w += 32;
    }
    STORE_SUMS
}
DEFINE_ROWS(product_f32, TARGET)

// ---- Layouts ---------------------------------------------------------------------------------

// 16 rows of 16 units become 16 units of 16 rows.
TARGET INLINE void transpose_16(uint32_t *y, size_t y_stride, const void *const *rows,
                                size_t unit, __mmask16 mask)
{
    __m512i r[16], t[16];
    UNROLL for (int i = 0; i < 16; i++) {
        r[i] = _mm512_setzero_si512();
        if (rows[i]) r[i] = _mm512_maskz_loadu_epi32(mask, (const uint8_t *)rows[i] + unit * 4);
    }
    UNROLL for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
    UNROLL for (int i = 0; i < 16; i++) {
        if (mask >> i & 1) _mm512_storeu_si512(y + (unit + (size_t)i) * y_stride, r[i]);
    }
}

TARGET static void transpose(uint32_t *panel, const void *const *rows,
                                size_t units)
{
    for (size_t unit = 0; unit < units; unit += 16) {
        size_t left = units - unit;
        __mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
        transpose_16(panel, CK_PANEL, rows, unit, mask);
        transpose_16(panel + 16, CK_PANEL, rows + 16, unit, mask);
    }
}

TARGET static void pair_rows(uint16_t *panels, const uint16_t *const *rows, size_t count,
                                size_t columns)
{
    __m512i low_index, high_index;
    uint16_t low_lanes[32], high_lanes[32];
    for (int i = 0; i < 16; i++) {
        low_lanes[2 * i] = (uint16_t)i;
        low_lanes[2 * i + 1] = (uint16_t)(32 + i);
        high_lanes[2 * i] = (uint16_t)(16 + i);
        high_lanes[2 * i + 1] = (uint16_t)(48 + i);
    }
    low_index = _mm512_loadu_si512(low_lanes);
    high_index = _mm512_loadu_si512(high_lanes);
    size_t panel_size = count / 2 * CK_PANEL * 2;
    for (size_t pair = 0; pair < count / 2; pair++) {
        const uint16_t *a = rows[2 * pair], *b = rows[2 * pair + 1];
        uint16_t *y = panels + pair * CK_PANEL * 2;
        for (size_t column = 0; column < columns; column += CK_PANEL, y += panel_size) {
            size_t left = columns - column;
            __mmask32 mask = left < 32 ? (__mmask32)((1ull << left) - 1) : (__mmask32)~0u;
            __m512i first = a ? _mm512_maskz_loadu_epi16(mask, a + column)
                              : _mm512_setzero_si512();
            __m512i second = b ? _mm512_maskz_loadu_epi16(mask, b + column)
                               : _mm512_setzero_si512();
            _mm512_storeu_si512(y, _mm512_permutex2var_epi16(first, low_index, second));
            _mm512_storeu_si512(y + 32, _mm512_permutex2var_epi16(first, high_index, second));
        }
    }
}

// Round to nearest even, in integers; a NaN stays one.
TARGET static void narrow_bf16(uint16_t *y, const float *x, size_t count)
{
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff);
    for (size_t i = 0; i < count; i += 16) {
        size_t left = count - i;
        __mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
        __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
        __m512i bits = _mm512_castps_si512(v), top = _mm512_srli_epi32(bits, 16);
        __m512i rounded = _mm512_add_epi32(_mm512_and_si512(top, one), half);
        rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, rounded), 16);
        __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        rounded = _mm512_mask_or_epi32(rounded, nan, top, _mm512_set1_epi32(0x40));
        _mm256_mask_storeu_epi16(y + i, mask, _mm512_cvtepi32_epi16(rounded));
    }
}

// The same by one instruction, which takes numbers below the smallest normal one for 0.
TARGET_BF16 static void convert_bf16(uint16_t *y, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i += 16) {
        size_t left = count - i;
        __mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
        __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
        _mm256_mask_storeu_epi16(y + i, mask, (__m256i)half);
    }
}

TARGET static void widen_codes(uint16_t *y, const int8_t *x, size_t count)
{
    const __m512i top = _mm512_set1_epi32((int)0xffff0000);
    for (size_t i = 0; i < count; i += 32) {
        size_t left = count - i;
        __mmask32 mask = left < 32 ? (__mmask32)((1u << left) - 1) : (__mmask32)~0u;
        __m512i wide = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, x + i));
        // The even codes and the odd ones apart: their upper halves make the pairs.
        __m512 even = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(wide, 16), 16));
        __m512 odd = _mm512_cvtepi32_ps(_mm512_srai_epi32(wide, 16));
        __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even), 16);
        __m512i high = _mm512_and_si512(_mm512_castps_si512(odd), top);
        _mm512_mask_storeu_epi16(y + i, mask, _mm512_or_si512(low, high));
    }
}

const struct ck_panel_kernels ck_avx512_panel = {
    .product_i8 = product_i8,
    .product_bf16 = product_bf16,
    .product_wide = product_wide,
    .product_f32 = product_f32,
    .transpose = transpose,
    .pair_rows = pair_rows,
    .narrow_bf16 = narrow_bf16,
    .widen_codes = widen_codes,
};

const struct ck_panel_kernels ck_avx512_bf16_panel = {
    .product_i8 = product_i8,
    .product_bf16 = dot_bf16,
    .product_wide = product_wide,
    .product_f32 = product_f32,
    .transpose = transpose,
    .pair_rows = pair_rows,
    .narrow_bf16 = convert_bf16,
    .widen_codes = widen_codes,
};

const struct ck_panel_kernels ck_amx_panel = {
    .row_major_rows = CK_AMX_ROWS,
    .product_i8 = ck_amx_product_i8,
    .product_bf16 = ck_amx_product_bf16,
    .product_wide = product_wide,
    .product_f32 = product_f32,
    .transpose = transpose,
    .pair_rows = pair_rows,
    .narrow_bf16 = convert_bf16,
    .widen_codes = widen_codes,
};
#endif
