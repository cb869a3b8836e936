// Weights into the layout that the products read: panels of CK_PANEL outputs, each cut along its
// inputs into units of 4 bytes, so that one unit of a whole panel is two vector registers.
#include <math.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

size_t ck_unit_count(int kind, size_t inputs)
{
    size_t in_unit = kind == CK_F32 ? 1 : kind == CK_BF16 ? 2 : 4;
    return ck_blocks(inputs, in_unit);
}

size_t ck_panel_bytes(int kind, size_t inputs)
{
    return ck_unit_count(kind, inputs) * 4 * CK_PANEL;
}

size_t ck_packed_bytes(int kind, size_t outputs, size_t inputs)
{
    return ck_blocks(outputs, CK_PANEL) * ck_panel_bytes(kind, inputs);
}

// Units that a panel of int8 is transposed by.
enum { SIGN_UNITS = 64 };

struct job {
    const struct ck_panel_kernels *kernels;
    const struct ck_weights *source;
    int kind;
    size_t outputs, inputs;
    uint8_t *packed;
    float *scales;
    uint8_t *rows;  // [threads, CK_PANEL, row_bytes] and then floats [threads, inputs]
    size_t row_bytes;
    float *wide;
};

static float element(const struct ck_weights *source, size_t output, size_t input)
{
    // A checkpoint's tensors may lie at any address.
    size_t at = output * source->output_stride + input * source->input_stride;
    uint16_t bits;
    float value;
    if (source->kind == CK_BF16) {
        memcpy(&bits, (const uint8_t *)source->data + 2 * at, sizeof bits);
        return ck_bf16(bits);
    }
    memcpy(&value, (const uint8_t *)source->data + 4 * at, sizeof value);
    return value;
}

// Codes of one row with a scale of its own: the weights' half of W8A8.
static float quantize_row(int8_t *codes, const float *x, size_t count)
{
    float largest = 0;
    for (size_t i = 0; i < count; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    float scale = largest / 127.0f, factor = scale > 0 ? 1.0f / scale : 0.0f;
    for (size_t i = 0; i < count; i++) {
        float code = rintf(x[i] * factor);
        codes[i] = (int8_t)(code > 127.0f ? 127.0f : code > -127.0f ? code : -127.0f);
    }
    return scale;
}

// One row as the packed kind holds it, padded with zeros to whole units.
static void convert_row(const struct job *job, uint8_t *row, size_t output, float *wide)
{
    const struct ck_weights *source = job->source;
    memset(row + job->row_bytes - 4, 0, 4);
    if (source->kind == CK_INT8_DYNAMIC) {
        const int8_t *codes = (const int8_t *)source->data + output * source->output_stride;
        for (size_t i = 0; i < job->inputs; i++) row[i] = (uint8_t)codes[i * source->input_stride];
    } else if (source->kind == CK_BF16 && job->kind == CK_BF16) {
        const uint8_t *values = (const uint8_t *)source->data + 2 * output * source->output_stride;
        for (size_t i = 0; i < job->inputs; i++) {
            memcpy(row + 2 * i, values + 2 * i * source->input_stride, 2);
        }
    } else {
        for (size_t i = 0; i < job->inputs; i++) wide[i] = element(source, output, i);
        size_t inputs = job->inputs;
        if (job->kind == CK_F32) memcpy(row, wide, inputs * 4);
        else if (job->kind == CK_BF16) job->kernels->narrow_bf16((uint16_t *)row, wide, inputs);
        else job->scales[output] = quantize_row((int8_t *)row, wide, inputs);
    }
}

static void pack_panel(void *context, size_t panel, size_t thread)
{
    const struct job *job = context;
    const struct ck_weights *source = job->source;
    size_t size = source->kind == CK_F32 ? 4 : source->kind == CK_BF16 ? 2 : 1;
    size_t stored = job->kind >= CK_INT8_STATIC ? CK_INT8_DYNAMIC : job->kind;
    int direct = source->input_stride == 1 && (size_t)source->kind == stored &&
                 job->inputs * size == job->row_bytes;
    const void *rows[CK_PANEL];
    for (size_t o = 0; o < CK_PANEL; o++) {
        size_t output = panel * CK_PANEL + o;
        rows[o] = NULL;
        if (output >= job->outputs) continue;
        if (direct) {
            rows[o] = (const uint8_t *)source->data + output * source->output_stride * size;
        } else {
            uint8_t *row = job->rows + (thread * CK_PANEL + o) * job->row_bytes;
            convert_row(job, row, output, job->wide + thread * job->inputs);
            rows[o] = row;
        }
    }
    uint8_t *packed = job->packed + panel * job->row_bytes * CK_PANEL;
    size_t units = job->row_bytes / 4;
    if (job->kind < CK_INT8_STATIC) {
        job->kernels->transpose((uint32_t *)packed, rows, units);
        return;
    }
    // Signs are turned over while the codes are still in the first cache.
    for (size_t unit = 0; unit < units; unit += SIGN_UNITS) {
        size_t count = ck_min(SIGN_UNITS, units - unit);
        uint32_t *to = (uint32_t *)packed + unit * CK_PANEL;
        job->kernels->transpose(to, rows, count);
        for (size_t i = 0; i < count * CK_PANEL; i++) to[i] ^= 0x80808080;
        for (size_t o = 0; o < CK_PANEL; o++) {
            if (rows[o]) rows[o] = (const uint8_t *)rows[o] + count * 4;
        }
    }
}

void ck_pack(struct ck_engine *engine, void *packed, float *scales, int kind, size_t outputs,
             size_t inputs, const struct ck_weights *source)
{
    size_t threads = ck_pool_threads(engine->pool);
    size_t row_bytes = ck_unit_count(kind, inputs) * 4;
    struct job job = {
        .kernels = engine->kernels->panel,
        .source = source,
        .kind = kind,
        .outputs = outputs,
        .inputs = inputs,
        .packed = packed,
        .scales = scales,
        .rows = ck_scratch(engine, CK_SCRATCH_TILES, threads * CK_PANEL * row_bytes),
        .row_bytes = row_bytes,
        .wide = ck_scratch(engine, CK_SCRATCH_INNER, threads * inputs * sizeof(float)),
    };
    ck_run(engine, ck_blocks(outputs, CK_PANEL), CK_PANEL * inputs, pack_panel, &job);
}
