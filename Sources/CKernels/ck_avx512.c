// AVX-512 versions. Every (row, output) pair has one accumulator of 16 lanes: lane l adds the
// products of inputs l, l + 16, l + 32, ... in this order, and the lanes are added in one fixed
// tree at the end. Tiles only change how many such accumulators are in flight.
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

INLINE __mmask16 tail_mask(size_t count) { return (__mmask16)((1u << count) - 1); }
INLINE __m512 load_f32(const float *p, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, p); }
INLINE void matmul_f32_tile(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *w, size_t w_stride, size_t inputs, const int R,
                        const int O)
{
    __m512 sum[4][8];
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int o = 0; o < O; o++) sum[r][o] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < inputs; i += 16) {
        __mmask16 mask = inputs - i < 16 ? tail_mask(inputs - i) : (__mmask16)0xffff;
        __m512 xs[4];
        UNROLL for (int r = 0; r < R; r++) xs[r] = load_f32(x + r * x_stride + i, mask);
        UNROLL for (int o = 0; o < O; o++) {
            __m512 ws = load_f32(w + o * w_stride + i, mask);
            UNROLL for (int r = 0; r < R; r++) {
                sum[r][o] = _mm512_fmadd_ps(xs[r], ws, sum[r][o]);
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int o = 0; o < O; o++) {
            y[r * y_stride + o] = _mm512_reduce_add_ps(sum[r][o]);
        }
    }
}
INLINE void matmul_f32_rows(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *w, size_t w_stride, size_t outputs, size_t inputs,
                        const int R, const int O)
{
    size_t o = 0;
    for (; o + O <= outputs; o += O) {
        matmul_f32_tile(y + o, y_stride, x, x_stride, w + o * w_stride, w_stride, inputs, R, O);
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
    for (; r + 4 <= rows; r += 4) {
        matmul_f32_rows(y + r * y_stride, y_stride, x + r * x_stride, x_stride, w, w_stride,
                    outputs, inputs, 4, 4);
    }
    for (; r + 2 <= rows; r += 2) {
        matmul_f32_rows(y + r * y_stride, y_stride, x + r * x_stride, x_stride, w, w_stride,
                    outputs, inputs, 2, 8);
    }
    for (; r < rows; r++) {
        matmul_f32_rows(y + r * y_stride, y_stride, x + r * x_stride, x_stride, w, w_stride,
                    outputs, inputs, 1, 8);
    }
}

INLINE void accumulate_f32_tile(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *b, size_t b_stride, size_t depth, __mmask16 mask,
                        const int R)
{
    __m512 sum[8];
    UNROLL for (int r = 0; r < R; r++) sum[r] = load_f32(y + r * y_stride, mask);
    for (size_t k = 0; k < depth; k++) {
        __m512 bs = load_f32(b + k * b_stride, mask);
        UNROLL for (int r = 0; r < R; r++) {
            sum[r] = _mm512_fmadd_ps(_mm512_set1_ps(x[r * x_stride + k]), bs, sum[r]);
        }
    }
    UNROLL for (int r = 0; r < R; r++) {
        _mm512_mask_storeu_ps(y + r * y_stride, mask, sum[r]);
    }
}
TARGET static void accumulate_f32(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const float *b, size_t b_stride, size_t rows, size_t columns,
                        size_t depth)
{
    for (size_t n = 0; n < columns; n += 16) {
        __mmask16 mask = columns - n < 16 ? tail_mask(columns - n) : (__mmask16)0xffff;
        size_t r = 0;
        for (; r + 8 <= rows; r += 8) {
            accumulate_f32_tile(y + r * y_stride + n, y_stride, x + r * x_stride, x_stride, b + n,
                        b_stride, depth, mask, 8);
        }
        for (; r < rows; r++) {
            accumulate_f32_tile(y + r * y_stride + n, y_stride, x + r * x_stride, x_stride, b + n,
                        b_stride, depth, mask, 1);
        }
    }
}

#define FOR_LANES(COUNT)                                                                         \
    for (size_t i = 0; i < (COUNT); i += 16)                                                     \
        for (__mmask16 mask = (COUNT)-i < 16 ? tail_mask((COUNT)-i) : (__mmask16)0xffff, once = 1; \
             once; once = 0)

// exp with an error below 2 units in the last place: x = n ln 2 + r, |r| <= ln(2)/2, then a
// polynomial of degree 6 in r (the coefficients of Cephes' expf, S. L. Moshier).
INLINE __m512 exponential(__m512 x)
{
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-104.0f)), _mm512_set1_ps(89.0f));
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

TARGET static void rms_norm(float *y, const float *x, const float *weight, const float *bias,
                            float epsilon, size_t count)
{
    __m512 squares = _mm512_setzero_ps();
    FOR_LANES(count) {
        __m512 v = load_f32(x + i, mask);
        squares = _mm512_fmadd_ps(v, v, squares);
    }
    float root = sqrtf(_mm512_reduce_add_ps(squares) / (float)count + epsilon);
    __m512 divisor = _mm512_set1_ps(root);
    FOR_LANES(count) {
        __m512 v = _mm512_div_ps(load_f32(x + i, mask), divisor);
        v = _mm512_mul_ps(v, load_f32(weight + i, mask));
        if (bias) v = _mm512_add_ps(v, load_f32(bias + i, mask));
        _mm512_mask_storeu_ps(y + i, mask, v);
    }
}

// Returns the codes, 0 where the mask is.
INLINE __m512i store_codes(int8_t *y, __m512 value, __mmask16 mask)
{
    // The constant is the second operand: it is what a NaN becomes.
    value = _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(-128.0f)), _mm512_set1_ps(127.0f));
    __m512i codes = _mm512_maskz_cvtps_epi32(mask, value);
    _mm_mask_storeu_epi8(y, mask, _mm512_cvtepi32_epi8(codes));
    return codes;
}

TARGET static void quantize_static(int8_t *y, int32_t *sum, const float *x, float scale,
                                   float offset, size_t count)
{
    __m512i sums = _mm512_setzero_si512();
    __m512 divisor = _mm512_set1_ps(scale), shift = _mm512_set1_ps(offset);
    FOR_LANES(count) {
        __m512 v = _mm512_add_ps(_mm512_div_ps(load_f32(x + i, mask), divisor), shift);
        sums = _mm512_add_epi32(sums, store_codes(y + i, v, mask));
    }
    *sum = _mm512_reduce_add_epi32(sums);
}

TARGET static float quantize_dynamic(int8_t *y, int32_t *sum, const float *x, size_t count)
{
    __m512i sums = _mm512_setzero_si512();
    __m512 largest = _mm512_setzero_ps();
    FOR_LANES(count) {
        // Operands in this order drop a NaN, as the comparison of the reference does.
        largest = _mm512_max_ps(_mm512_abs_ps(load_f32(x + i, mask)), largest);
    }
    float scale = _mm512_reduce_max_ps(largest) / 127.0f;
    __m512 divisor = _mm512_set1_ps(scale == 0 ? 1.0f : scale);
    FOR_LANES(count) {
        __m512 v = _mm512_div_ps(load_f32(x + i, mask), divisor);
        sums = _mm512_add_epi32(sums, store_codes(y + i, v, mask));
    }
    *sum = _mm512_reduce_add_epi32(sums);
    return scale;
}

TARGET static void silu_multiply(float *gate, const float *up, size_t count)
{
    FOR_LANES(count) {
        __m512 g = load_f32(gate + i, mask);
        __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), g));
        __m512 v = _mm512_div_ps(g, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
        _mm512_mask_storeu_ps(gate + i, mask, _mm512_mul_ps(v, load_f32(up + i, mask)));
    }
}

TARGET static float exponentials(float *x, float maximum, size_t count)
{
    __m512 sum = _mm512_setzero_ps();
    FOR_LANES(count) {
        __m512 e = exponential(_mm512_sub_ps(load_f32(x + i, mask), _mm512_set1_ps(maximum)));
        _mm512_mask_storeu_ps(x + i, mask, e);
        sum = _mm512_mask_add_ps(sum, mask, sum, e);
    }
    return _mm512_reduce_add_ps(sum);
}

TARGET static float maximum(const float *x, size_t count)
{
    __m512 largest = _mm512_set1_ps(x[0]);
    FOR_LANES(count) {
        largest = _mm512_mask_max_ps(largest, mask, load_f32(x + i, mask), largest);
    }
    return _mm512_reduce_max_ps(largest);
}

TARGET static void scale(float *x, float factor, size_t count)
{
    FOR_LANES(count) {
        __m512 v = _mm512_mul_ps(load_f32(x + i, mask), _mm512_set1_ps(factor));
        _mm512_mask_storeu_ps(x + i, mask, v);
    }
}

TARGET static void multiply_add(float *y, const float *x, float factor, size_t count)
{
    FOR_LANES(count) {
        __m512 v = _mm512_fmadd_ps(load_f32(x + i, mask), _mm512_set1_ps(factor),
                                   load_f32(y + i, mask));
        _mm512_mask_storeu_ps(y + i, mask, v);
    }
}

TARGET static float weigh(uint16_t *weights, const float *scores, const float *scales,
                          float factor, size_t count, float *largest, float *total)
{
    enum { VECTORS = CK_POSITION_TILE / 16 };
    const __m512 none = _mm512_set1_ps(-INFINITY), by = _mm512_set1_ps(factor);
    __m512 row[VECTORS], best = _mm512_set1_ps(*largest), sum = _mm512_setzero_ps();
    __mmask16 masks[VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) {
        size_t first = 16 * (size_t)v, left = count > first ? count - first : 0;
        masks[v] = left < 16 ? tail_mask(left) : (__mmask16)0xffff;
        row[v] = _mm512_mask_mul_ps(none, masks[v], _mm512_loadu_ps(scores + first), by);
        if (scales) {
            __m512 own = _mm512_maskz_loadu_ps(masks[v], scales + first);
            row[v] = _mm512_mask_mul_ps(none, masks[v], row[v], own);
        }
        best = _mm512_max_ps(best, row[v]);
    }
    float top = _mm512_reduce_max_ps(best), correction = 1.0f;
    if (top > *largest) correction = expf(*largest - top);
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff);
    UNROLL for (int v = 0; v < VECTORS; v++) {
        __m512 e = exponential(_mm512_sub_ps(row[v], _mm512_set1_ps(top)));
        e = _mm512_maskz_mov_ps(masks[v], e);
        sum = _mm512_add_ps(sum, e);
        if (scales) e = _mm512_maskz_mul_ps(masks[v], e, _mm512_loadu_ps(scales + 16 * v));
        // To nearest even; none of these is NaN but in a row that is lost anyway.
        __m512i bits = _mm512_castps_si512(e);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        bits = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, half)), 16);
        _mm256_storeu_si256((__m256i *)(weights + 16 * v), _mm512_cvtepi32_epi16(bits));
    }
    *total = *total * correction + _mm512_reduce_add_ps(sum);
    *largest = top;
    return correction;
}

#define STAGES                                                                                   \
    .matmul_f32 = matmul_f32,                                                                    \
    .accumulate_f32 = accumulate_f32,                                                            \
    .rms_norm = rms_norm,                                                                        \
    .quantize_static = quantize_static,                                                          \
    .quantize_dynamic = quantize_dynamic,                                                        \
    .silu_multiply = silu_multiply,                                                              \
    .exponentials = exponentials,                                                                \
    .maximum = maximum,                                                                          \
    .scale = scale,                                                                              \
    .multiply_add = multiply_add,                                                                \
    .attention = ck_attention_tiled,                                                             \
    .weigh = weigh

const struct ck_kernels ck_avx512_kernels = {
    .level = CK_AVX512,
    .panel = &ck_avx512_panel,
    .attention_bf16 = &ck_panel_attention,
    STAGES,
};

const struct ck_kernels ck_avx512_bf16_kernels = {
    .level = CK_AVX512_BF16,
    .panel = &ck_avx512_bf16_panel,
    .attention_bf16 = &ck_panel_attention,
    STAGES,
};

const struct ck_kernels ck_amx_kernels = {
    .level = CK_AMX,
    .panel = &ck_amx_panel,
    .attention_bf16 = &ck_amx_attention,
    STAGES,
};
#endif
