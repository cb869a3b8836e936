// Products with packed panels, AVX2: a tile of R rows by 32 outputs in 4R registers, R up to 2.
#if defined(__x86_64__)
#include <immintrin.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum { LANES = 8, VECTORS = CK_PANEL / LANES };

// Without VNNI: codes widen to 16 bits, the even and the odd ones apart, and VPMADDWD adds pairs.
INLINE void i8_rows(const struct ck_product *p, size_t row, const int R)
{
    __m256i sum[2][VECTORS];
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int v = 0; v < VECTORS; v++) {
            sum[r][v] = _mm256_set1_epi32(p->starts[row + (size_t)r]);
        }
    }
    const int32_t *x = (const int32_t *)p->x + row;
    const __m256i *w = p->w;
    const __m256i bytes = _mm256_set1_epi16(0xff);
    for (size_t unit = 0; unit < p->units; unit++, x += p->rows, w += VECTORS) {
        __m256i even[2], odd[2];
        UNROLL for (int r = 0; r < R; r++) {
            __m256i codes = _mm256_set1_epi32(x[r]);
            even[r] = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8);
            odd[r] = _mm256_srai_epi16(codes, 8);
        }
        UNROLL for (int v = 0; v < VECTORS; v++) {
            __m256i weights = _mm256_loadu_si256(w + v);
            __m256i first = _mm256_and_si256(weights, bytes);
            __m256i second = _mm256_srli_epi16(weights, 8);
            UNROLL for (int r = 0; r < R; r++) {
                __m256i products = _mm256_add_epi32(_mm256_madd_epi16(first, even[r]),
                                                    _mm256_madd_epi16(second, odd[r]));
                sum[r][v] = _mm256_add_epi32(sum[r][v], products);
            }
        }
    }
    UNROLL for (int v = 0; v < VECTORS; v++) {
        __m256 scale = _mm256_loadu_ps(p->scale + v * LANES);
        __m256i bias = _mm256_setzero_si256();
        if (p->bias) bias = _mm256_loadu_si256((const __m256i *)(p->bias + v * LANES));
        UNROLL for (int r = 0; r < R; r++) {
            __m256 y = _mm256_cvtepi32_ps(_mm256_add_epi32(sum[r][v], bias));
            y = _mm256_mul_ps(y, scale);
            if (p->token_scales) {
                y = _mm256_mul_ps(y, _mm256_set1_ps(p->token_scales[row + (size_t)r]));
            }
            _mm256_storeu_ps(p->y + (row + (size_t)r) * p->y_stride + v * LANES, y);
        }
    }
}

enum { X_F32, X_WIDE, X_BF16 };

INLINE __m256 first_of(__m256i pairs) { return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)); }
INLINE __m256 second_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000)));
}

INLINE void float_rows(const struct ck_product *p, size_t row, const int R, const int kind)
{
    __m256 sum[2][VECTORS];
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int v = 0; v < VECTORS; v++) {
            const float *y = p->y + (row + (size_t)r) * p->y_stride + v * LANES;
            sum[r][v] = p->accumulate ? _mm256_loadu_ps(y) : _mm256_setzero_ps();
        }
    }
    const int32_t *x = (const int32_t *)p->x + row;
    const __m256i *w = p->w;
    for (size_t unit = 0; unit < p->units; unit++, w += VECTORS) {
        __m256 first[2], second[2];
        UNROLL for (int r = 0; r < R; r++) {
            __m256i value = _mm256_set1_epi32(x[r]);
            first[r] = kind == X_BF16 ? first_of(value) : _mm256_castsi256_ps(value);
            second[r] = kind == X_BF16 ? second_of(value) : first[r];
            if (kind == X_WIDE) {
                second[r] = _mm256_castsi256_ps(_mm256_set1_epi32(x[p->rows + (size_t)r]));
            }
        }
        x += kind == X_WIDE ? 2 * p->rows : p->rows;
        UNROLL for (int v = 0; v < VECTORS; v++) {
            __m256i weights = _mm256_loadu_si256(w + v);
            UNROLL for (int r = 0; r < R; r++) {
                if (kind == X_F32) {
                    sum[r][v] = _mm256_fmadd_ps(first[r], _mm256_castsi256_ps(weights), sum[r][v]);
                } else {
                    sum[r][v] = _mm256_fmadd_ps(first[r], first_of(weights), sum[r][v]);
                    sum[r][v] = _mm256_fmadd_ps(second[r], second_of(weights), sum[r][v]);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int v = 0; v < VECTORS; v++) {
            _mm256_storeu_ps(p->y + (row + (size_t)r) * p->y_stride + v * LANES, sum[r][v]);
        }
    }
}

#define DEFINE_PRODUCT(NAME, TWO, ONE)                                                           \
    TARGET static void NAME(const struct ck_product *p)                                          \
    {                                                                                            \
        size_t row = 0;                                                                          \
        for (; row + 2 <= p->rows; row += 2) TWO;                                                \
        for (; row < p->rows; row++) ONE;                                                        \
    }

DEFINE_PRODUCT(product_i8, i8_rows(p, row, 2), i8_rows(p, row, 1))
DEFINE_PRODUCT(product_f32, float_rows(p, row, 2, X_F32), float_rows(p, row, 1, X_F32))
DEFINE_PRODUCT(product_wide, float_rows(p, row, 2, X_WIDE), float_rows(p, row, 1, X_WIDE))
DEFINE_PRODUCT(product_bf16, float_rows(p, row, 2, X_BF16), float_rows(p, row, 1, X_BF16))

TARGET static void widen_codes(uint16_t *y, const int8_t *x, size_t count)
{
    const __m256i top = _mm256_set1_epi32((int)0xffff0000);
    for (size_t i = 0; i < count; i += 16) {
        int8_t block[16] = {0};
        size_t left = ck_min(count - i, 16);
        memcpy(block, x + i, left);
        __m128i codes = _mm_loadu_si128((const __m128i *)block);
        // The even codes and the odd ones apart: their upper halves make the pairs.
        __m256i wide = _mm256_cvtepi8_epi16(codes);
        __m256 even = _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(wide, 16), 16));
        __m256 odd = _mm256_cvtepi32_ps(_mm256_srai_epi32(wide, 16));
        __m256i low = _mm256_srli_epi32(_mm256_castps_si256(even), 16);
        __m256i pairs = _mm256_or_si256(low, _mm256_and_si256(_mm256_castps_si256(odd), top));
        uint16_t numbers[16];
        _mm256_storeu_si256((__m256i *)numbers, pairs);
        memcpy(y + i, numbers, left * sizeof *y);
    }
}

const struct ck_panel_kernels ck_avx2_panel = {
    .product_i8 = product_i8,
    .product_bf16 = product_bf16,
    .product_wide = product_wide,
    .product_f32 = product_f32,
    .transpose = ck_plain_transpose,
    .pair_rows = ck_plain_pair_rows,
    .narrow_bf16 = ck_plain_narrow_bf16,
    .widen_codes = widen_codes,
};
#endif
