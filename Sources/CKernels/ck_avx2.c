// AVX2 versions: as in ck_avx512.c, with 8 lanes. Tails are copied to a zeroed block of 8.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

// `count` is what is left: lanes beyond it read as 0 and are not stored.
INLINE __m256 load_f32(const float *p, size_t count)
{
    if (count >= 8) return _mm256_loadu_ps(p);
    float block[8] = {0};
    memcpy(block, p, count * sizeof *p);
    return _mm256_loadu_ps(block);
}

INLINE void store_f32(float *p, __m256 value, size_t count)
{
    if (count >= 8) {
        _mm256_storeu_ps(p, value);
        return;
    }
    float block[8];
    _mm256_storeu_ps(block, value);
    memcpy(p, block, count * sizeof *p);
}

INLINE float sum_lanes(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

INLINE float max_lanes(__m256 v)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

INLINE void matmul_f32_tile(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *w, size_t w_stride, size_t inputs, const int R,
                        const int O)
{
    __m256 sum[2][4];
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int o = 0; o < O; o++) sum[r][o] = _mm256_setzero_ps();
    }
    for (size_t i = 0; i < inputs; i += 8) {
        size_t left = inputs - i;
        __m256 xs[2];
        UNROLL for (int r = 0; r < R; r++) xs[r] = load_f32(x + r * x_stride + i, left);
        UNROLL for (int o = 0; o < O; o++) {
            __m256 ws = load_f32(w + o * w_stride + i, left);
            UNROLL for (int r = 0; r < R; r++) {
                sum[r][o] = _mm256_fmadd_ps(xs[r], ws, sum[r][o]);
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int o = 0; o < O; o++) y[r * y_stride + o] = sum_lanes(sum[r][o]);
    }
}
INLINE void matmul_f32_rows(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *w, size_t w_stride, size_t outputs, size_t inputs,
                        const int R)
{
    size_t o = 0;
    for (; o + 4 <= outputs; o += 4) {
        matmul_f32_tile(y + o, y_stride, x, x_stride, w + o * w_stride, w_stride, inputs, R, 4);
    }
    for (; o < outputs; o++) {
        matmul_f32_tile(y + o, y_stride, x, x_stride, w + o * w_stride, w_stride, inputs, R, 1);
    }
}
TARGET static void matmul_f32(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *w, size_t w_stride, size_t rows, size_t outputs,
                        size_t inputs)
{
    size_t r = 0;
    for (; r + 2 <= rows; r += 2) {
        matmul_f32_rows(y + r * y_stride, y_stride, x + r * x_stride, x_stride, w, w_stride,
                    outputs, inputs, 2);
    }
    for (; r < rows; r++) {
        matmul_f32_rows(y + r * y_stride, y_stride, x + r * x_stride, x_stride, w, w_stride,
                    outputs, inputs, 1);
    }
}

INLINE void accumulate_f32_tile(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *b, size_t b_stride, size_t depth, size_t left,
                        const int R)
{
    __m256 sum[4];
    UNROLL for (int r = 0; r < R; r++) sum[r] = load_f32(y + r * y_stride, left);
    for (size_t k = 0; k < depth; k++) {
        __m256 bs = load_f32(b + k * b_stride, left);
        UNROLL for (int r = 0; r < R; r++) {
            sum[r] = _mm256_fmadd_ps(_mm256_set1_ps(x[r * x_stride + k]), bs, sum[r]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) store_f32(y + r * y_stride, sum[r], left);
}
TARGET static void accumulate_f32(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *b, size_t b_stride, size_t rows, size_t columns,
                        size_t depth)
{
    for (size_t n = 0; n < columns; n += 8) {
        size_t r = 0;
        for (; r + 4 <= rows; r += 4) {
            accumulate_f32_tile(y + r * y_stride + n, y_stride, x + r * x_stride, x_stride, b + n,
                        b_stride, depth, columns - n, 4);
        }
        for (; r < rows; r++) {
            accumulate_f32_tile(y + r * y_stride + n, y_stride, x + r * x_stride, x_stride, b + n,
                        b_stride, depth, columns - n, 1);
        }
    }
}

// The same polynomial as in ck_avx512.c; the factor 2^n is built in two halves, so that results
// below the smallest normal number are rounded once and overflow gives infinity.
INLINE __m256 exponential(__m256 x)
{
    x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-104.0f)), _mm256_set1_ps(89.0f));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, _mm256_set1_ps(1.0f)));
    __m256i exponent = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(exponent, 1);
    __m256i rest = _mm256_sub_epi32(exponent, half);
    const __m256i bias = _mm256_set1_epi32(127);
    __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, a), b);
}

TARGET static void rms_norm(float *y, const float *x, const float *weight, const float *bias,
                            float epsilon, size_t count)
{
    __m256 squares = _mm256_setzero_ps();
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = load_f32(x + i, count - i);
        squares = _mm256_fmadd_ps(v, v, squares);
    }
    __m256 divisor = _mm256_set1_ps(sqrtf(sum_lanes(squares) / (float)count + epsilon));
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = _mm256_div_ps(load_f32(x + i, count - i), divisor);
        v = _mm256_mul_ps(v, load_f32(weight + i, count - i));
        if (bias) v = _mm256_add_ps(v, load_f32(bias + i, count - i));
        store_f32(y + i, v, count - i);
    }
}

// Returns the sum of the codes.
INLINE int32_t store_codes(int8_t *y, __m256 value, size_t count)
{
    // The constant is the second operand: it is what a NaN becomes.
    value = _mm256_min_ps(_mm256_max_ps(value, _mm256_set1_ps(-128.0f)), _mm256_set1_ps(127.0f));
    int32_t codes[8];
    _mm256_storeu_si256((__m256i *)codes, _mm256_cvtps_epi32(value));
    int32_t sum = 0;
    for (size_t i = 0; i < ck_min(count, 8); i++) sum += y[i] = (int8_t)codes[i];
    return sum;
}

TARGET static void quantize_static(int8_t *y, int32_t *sum, const float *x, float scale,
                                   float offset, size_t count)
{
    *sum = 0;
    __m256 divisor = _mm256_set1_ps(scale), shift = _mm256_set1_ps(offset);
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = _mm256_div_ps(load_f32(x + i, count - i), divisor);
        *sum += store_codes(y + i, _mm256_add_ps(v, shift), count - i);
    }
}

TARGET static float quantize_dynamic(int8_t *y, int32_t *sum, const float *x, size_t count)
{
    *sum = 0;
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 largest = _mm256_setzero_ps();
    for (size_t i = 0; i < count; i += 8) {
        // Operands in this order drop a NaN, as the comparison of the reference does.
        largest = _mm256_max_ps(_mm256_andnot_ps(sign, load_f32(x + i, count - i)), largest);
    }
    float scale = max_lanes(largest) / 127.0f;
    __m256 divisor = _mm256_set1_ps(scale == 0 ? 1.0f : scale);
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = _mm256_div_ps(load_f32(x + i, count - i), divisor);
        *sum += store_codes(y + i, v, count - i);
    }
    return scale;
}

TARGET static void silu_multiply(float *gate, const float *up, size_t count)
{
    for (size_t i = 0; i < count; i += 8) {
        __m256 g = load_f32(gate + i, count - i);
        __m256 e = exponential(_mm256_sub_ps(_mm256_setzero_ps(), g));
        __m256 v = _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
        store_f32(gate + i, _mm256_mul_ps(v, load_f32(up + i, count - i)), count - i);
    }
}

TARGET static float exponentials(float *x, float maximum, size_t count)
{
    __m256 sum = _mm256_setzero_ps();
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = load_f32(x + i, count - i);
        store_f32(x + i, exponential(_mm256_sub_ps(v, _mm256_set1_ps(maximum))), count - i);
        sum = _mm256_add_ps(sum, load_f32(x + i, count - i));
    }
    return sum_lanes(sum);
}

TARGET static float maximum(const float *x, size_t count)
{
    float largest = x[0];
    size_t i = 0;
    if (count >= 8) {
        __m256 lanes = _mm256_loadu_ps(x);
        for (; i + 8 <= count; i += 8) lanes = _mm256_max_ps(_mm256_loadu_ps(x + i), lanes);
        largest = max_lanes(lanes);
    }
    for (; i < count; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

TARGET static void scale(float *x, float factor, size_t count)
{
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = _mm256_mul_ps(load_f32(x + i, count - i), _mm256_set1_ps(factor));
        store_f32(x + i, v, count - i);
    }
}

TARGET static void multiply_add(float *y, const float *x, float factor, size_t count)
{
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = _mm256_fmadd_ps(load_f32(x + i, count - i), _mm256_set1_ps(factor),
                                   load_f32(y + i, count - i));
        store_f32(y + i, v, count - i);
    }
}

TARGET static void multiply(float *x, const float *factors, size_t count)
{
    for (size_t i = 0; i < count; i += 8) {
        __m256 v = _mm256_mul_ps(load_f32(x + i, count - i), load_f32(factors + i, count - i));
        store_f32(x + i, v, count - i);
    }
}

TARGET static float weigh(uint16_t *weights, const float *scores, const float *scales,
                          float factor, size_t count, float *largest, float *total)
{
    float row[CK_POSITION_TILE] = {0};
    memcpy(row, scores, count * sizeof *row);
    scale(row, factor, count);
    if (scales) multiply(row, scales, count);
    float best = maximum(row, count);
    best = best > *largest ? best : *largest;
    float correction = expf(*largest - best);
    *total = *total * correction + exponentials(row, best, count);
    *largest = best;
    if (scales) multiply(row, scales, count);
    ck_plain_narrow_bf16(weights, row, CK_POSITION_TILE);
    return correction;
}

const struct ck_kernels ck_avx2_kernels = {
    .level = CK_AVX2,
    .panel = &ck_avx2_panel,
    .attention_bf16 = &ck_panel_attention,
    .matmul_f32 = matmul_f32,
    .accumulate_f32 = accumulate_f32,
    .rms_norm = rms_norm,
    .quantize_static = quantize_static,
    .quantize_dynamic = quantize_dynamic,
    .silu_multiply = silu_multiply,
    .exponentials = exponentials,
    .maximum = maximum,
    .scale = scale,
    .multiply_add = multiply_add,
    .attention = ck_attention_tiled,
    .weigh = weigh,
};
#endif
