// The specification of every primitive: the shortest C that computes it, in plain order.
#include <math.h>
#include <string.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

static void matmul_f32(float *y, size_t y_stride, const float *x, size_t x_stride,
                       const float *w, size_t w_stride, size_t rows, size_t outputs,
                       size_t inputs)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < outputs; o++) {
            float sum = 0;
            for (size_t i = 0; i < inputs; i++) sum += x[r * x_stride + i] * w[o * w_stride + i];
            y[r * y_stride + o] = sum;
        }
    }
}

static void accumulate_f32(float *y, size_t y_stride, const float *x, size_t x_stride,
                           const float *b, size_t b_stride, size_t rows, size_t columns,
                           size_t depth)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t k = 0; k < depth; k++) {
            for (size_t n = 0; n < columns; n++) {
                y[r * y_stride + n] += x[r * x_stride + k] * b[k * b_stride + n];
            }
        }
    }
}

static void rms_norm(float *y, const float *x, const float *weight, const float *bias,
                     float epsilon, size_t count)
{
    float squares = 0;
    for (size_t i = 0; i < count; i++) squares += x[i] * x[i];
    float root = sqrtf(squares / (float)count + epsilon);
    for (size_t i = 0; i < count; i++) {
        y[i] = x[i] / root * weight[i] + (bias ? bias[i] : 0.0f);
    }
}

static int8_t clamp(float value)
{
    float low = value > -128.0f ? value : -128.0f;  // NaN becomes -128 here
    return (int8_t)(low < 127.0f ? low : 127.0f);
}

static void quantize_static(int8_t *y, int32_t *sum, const float *x, float scale, float offset,
                            size_t count)
{
    *sum = 0;
    for (size_t i = 0; i < count; i++) *sum += y[i] = clamp(rintf(x[i] / scale + offset));
}

static float quantize_dynamic(int8_t *y, int32_t *sum, const float *x, size_t count)
{
    *sum = 0;
    float largest = 0;
    for (size_t i = 0; i < count; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    float scale = largest / 127.0f;
    float divisor = scale == 0 ? 1.0f : scale;
    for (size_t i = 0; i < count; i++) *sum += y[i] = clamp(rintf(x[i] / divisor));
    return scale;
}

static void silu_multiply(float *gate, const float *up, size_t count)
{
    for (size_t i = 0; i < count; i++) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static float exponentials(float *x, float maximum, size_t count)
{
    float sum = 0;
    for (size_t i = 0; i < count; i++) {
        x[i] = expf(x[i] - maximum);
        sum += x[i];
    }
    return sum;
}

static float maximum(const float *x, size_t count)
{
    float largest = x[0];
    for (size_t i = 1; i < count; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

static void scale(float *x, float factor, size_t count)
{
    for (size_t i = 0; i < count; i++) x[i] *= factor;
}

static void multiply_add(float *y, const float *x, float factor, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] += x[i] * factor;
}

static const float *cache_row(const struct ck_attention *a, size_t position)
{
    size_t block = (size_t)a->table[position / a->block_size];
    return a->cache + (block * a->block_size + position % a->block_size) * a->width;
}

static float score(const struct ck_attention *a, size_t head, size_t position)
{
    const float *key = cache_row(a, position);
    float sum = 0;
    for (size_t i = 0; i < a->width; i++) sum += a->queries[head * a->width + i] * key[i];
    return sum * a->scale;
}

static void attention(const struct ck_kernels *kernels, const struct ck_attention *a)
{
    (void)kernels;
    for (size_t head = 0; head < a->heads; head++) {
        float *output = a->output + head * a->latent;
        float largest = -INFINITY;
        for (size_t p = 0; p < a->length; p++) largest = fmaxf(largest, score(a, head, p));
        float sum = 0;
        memset(output, 0, a->latent * sizeof(float));
        for (size_t p = 0; p < a->length; p++) {
            float weight = expf(score(a, head, p) - largest);
            sum += weight;
            multiply_add(output, cache_row(a, p), weight, a->latent);
        }
        scale(output, 1.0f / sum, a->latent);
    }
}

static float weigh(uint16_t *weights, const float *scores, const float *scales, float scale,
                   size_t count, float *largest, float *total)
{
    float best = *largest, row[CK_POSITION_TILE] = {0};
    for (size_t i = 0; i < count; i++) row[i] = scores[i] * scale;
    for (size_t i = 0; scales && i < count; i++) row[i] *= scales[i];
    for (size_t i = 0; i < count; i++) best = fmaxf(best, row[i]);
    float correction = expf(*largest - best);
    *total *= correction;
    for (size_t i = 0; i < count; i++) *total += row[i] = expf(row[i] - best);
    for (size_t i = 0; scales && i < count; i++) row[i] *= scales[i];
    ck_plain_narrow_bf16(weights, row, CK_POSITION_TILE);
    *largest = best;
    return correction;
}

const struct ck_kernels ck_reference_kernels = {
    .level = CK_REFERENCE,
    .panel = &ck_reference_panel,
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
    .attention = attention,
    .weigh = weigh,
};
