// Linear layers, dense and int8, alone and in groups (the experts of a layer). Work is cut into
// blocks of rows and outputs; the cut changes no result, because a row's sum never crosses one.
#include <stdlib.h>

#include "ck_internal.h"

enum {
    ROW_BLOCK = 64,
    OUTPUT_BLOCK = 32,
    SUM_ROWS = 16,  // int8 rows whose sums are on the stack at a time
    MLP_ROWS = 512, // rows whose inner activations are in scratch at a time
};

// `rows` rows from `first` on go through `linear`.
struct group {
    const struct ck_linear *linear;
    size_t first, rows;
    size_t first_item;
};

struct job {
    const struct ck_kernels *kernels;
    struct group *groups;
    size_t group_count;
    float *y;
    size_t y_stride;
    const float *x;
    size_t x_stride;
    int8_t *codes;       // [rows, inputs]
    float *token_scales; // [rows]
};

void *ck_scratch(struct ck_engine *engine, int slot, size_t bytes)
{
    if (engine->scratch_bytes[slot] < bytes) {
        size_t doubled = engine->scratch_bytes[slot] * 2;
        size_t size = ck_blocks(bytes > doubled ? bytes : doubled, 64) * 64;
        free(engine->scratch[slot]);
        engine->scratch[slot] = aligned_alloc(64, size);
        engine->scratch_bytes[slot] = size;
        // Sizes follow from the engine's limits; without this memory nothing can be computed.
        if (!engine->scratch[slot]) abort();
    }
    static char none;
    return engine->scratch[slot] ? engine->scratch[slot] : &none;
}

struct ck_engine *ck_engine_create(int level, size_t threads)
{
    const struct ck_kernels *kernels = ck_kernels_select(level);
    struct ck_engine *engine = calloc(1, sizeof *engine);
    struct ck_pool *pool = kernels && engine ? ck_pool_create(threads) : NULL;
    if (!pool) {
        free(engine);
        return NULL;
    }
    engine->kernels = kernels;
    engine->pool = pool;
    return engine;
}

void ck_engine_destroy(struct ck_engine *engine)
{
    ck_pool_destroy(engine->pool);
    for (int slot = 0; slot < CK_SCRATCH_COUNT; slot++) free(engine->scratch[slot]);
    free(engine);
}

static const struct group *find_group(const struct job *job, size_t value, int by_item)
{
    size_t low = 0, high = job->group_count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        const struct group *group = &job->groups[middle];
        if ((by_item ? group->first_item : group->first) <= value) low = middle;
        else high = middle;
    }
    return &job->groups[low];
}

static void quantize_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct job *job = context;
    const struct ck_linear *linear = find_group(job, row, 0)->linear;
    const float *x = job->x + row * job->x_stride;
    int8_t *codes = job->codes + row * linear->inputs;
    if (linear->kind == CK_INT8_STATIC) {
        job->kernels->quantize_static(codes, x, linear->input_scale, linear->input_offset,
                                      linear->inputs);
    } else if (linear->kind == CK_INT8_DYNAMIC) {
        job->token_scales[row] = job->kernels->quantize_dynamic(codes, x, linear->inputs);
    }
}

static void multiply_int8(const struct job *job, const struct ck_linear *linear, size_t row,
                          size_t rows, size_t output, size_t outputs)
{
    const struct ck_kernels *k = job->kernels;
    int32_t sums[SUM_ROWS * OUTPUT_BLOCK];
    const int8_t *weight = (const int8_t *)linear->weight + output * linear->inputs;
    for (size_t first = row; first < row + rows; first += SUM_ROWS) {
        size_t count = ck_min(SUM_ROWS, row + rows - first);
        k->matmul_i8(sums, OUTPUT_BLOCK, job->codes + first * linear->inputs, linear->inputs,
                     weight, linear->inputs, count, outputs, linear->inputs);
        for (size_t r = 0; r < count; r++) {
            float *y = job->y + (first + r) * job->y_stride + output;
            if (linear->kind == CK_INT8_STATIC) {
                k->dequantize_static(y, sums + r * OUTPUT_BLOCK, linear->bias + output,
                                     linear->scale + output, outputs);
            } else {
                k->dequantize_dynamic(y, sums + r * OUTPUT_BLOCK, linear->scale + output,
                                      job->token_scales[first + r], outputs);
            }
        }
    }
}

static void multiply_block(void *context, size_t item, size_t thread)
{
    (void)thread;
    const struct job *job = context;
    const struct group *group = find_group(job, item, 1);
    const struct ck_linear *linear = group->linear;
    size_t blocks = ck_blocks(linear->outputs, OUTPUT_BLOCK), at = item - group->first_item;
    size_t output = at % blocks * OUTPUT_BLOCK, row = at / blocks * ROW_BLOCK;
    size_t outputs = ck_min(OUTPUT_BLOCK, linear->outputs - output);
    size_t rows = ck_min(ROW_BLOCK, group->rows - row);
    row += group->first;
    float *y = job->y + row * job->y_stride + output;
    const float *x = job->x + row * job->x_stride;
    size_t inputs = linear->inputs;
    if (linear->kind == CK_BF16) {
        job->kernels->matmul_bf16(y, job->y_stride, x, job->x_stride,
                                  (const uint16_t *)linear->weight + output * inputs, inputs, rows,
                                  outputs, inputs);
    } else if (linear->kind == CK_F32) {
        job->kernels->matmul_f32(y, job->y_stride, x, job->x_stride,
                                 (const float *)linear->weight + output * inputs, inputs, rows,
                                 outputs, inputs);
    } else {
        multiply_int8(job, linear, row, rows, output, outputs);
    }
}

// Every group's rows through its linear; all linears have the same shape. `has_codes`: the call
// before this one left the int8 codes of the same rows.
static void apply_groups(struct ck_engine *engine, struct group *groups, size_t group_count,
                         size_t total_rows, float *y, size_t y_stride, const float *x,
                         size_t x_stride, int has_codes)
{
    const struct ck_linear *any = groups[0].linear;
    struct job job = {
        .kernels = engine->kernels,
        .groups = groups,
        .group_count = group_count,
        .y = y, .y_stride = y_stride, .x = x, .x_stride = x_stride,
        .codes = ck_scratch(engine, CK_SCRATCH_QUANTIZED, total_rows * any->inputs),
        .token_scales = ck_scratch(engine, CK_SCRATCH_TOKEN_SCALES, total_rows * sizeof(float)),
    };
    size_t items = 0;
    int quantized = 0;
    for (size_t g = 0; g < group_count; g++) {
        groups[g].first_item = items;
        items += ck_blocks(groups[g].linear->outputs, OUTPUT_BLOCK) *
                 ck_blocks(groups[g].rows, ROW_BLOCK);
        quantized |= groups[g].linear->kind >= CK_INT8_STATIC;
    }
    if (quantized && !has_codes) ck_run(engine, total_rows, any->inputs * 4, quantize_row, &job);
    size_t work = items ? total_rows * any->outputs * any->inputs / items + 1 : 0;
    ck_run(engine, items, work, multiply_block, &job);
}

void ck_linear_apply(struct ck_engine *engine, const struct ck_linear *linear, float *y,
                     size_t y_stride, const float *x, size_t x_stride, size_t rows)
{
    if (rows == 0) return;
    struct group group = {.linear = linear, .first = 0, .rows = rows};
    apply_groups(engine, &group, 1, rows, y, y_stride, x, x_stride, 0);
}

struct activation {
    const struct ck_kernels *kernels;
    float *gate;
    const float *up;
    size_t inner;
};

static void activate_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct activation *a = context;
    a->kernels->silu_multiply(a->gate + row * a->inner, a->up + row * a->inner, a->inner);
}

// `mlps[g]` serves groups[g]; the groups' `linear` is set here.
static void apply_mlps(struct ck_engine *engine, const struct ck_mlp **mlps, struct group *groups,
                       size_t group_count, size_t rows, float *y, const float *x)
{
    size_t inner = mlps[0]->gate.outputs, hidden = mlps[0]->gate.inputs;
    float *gate = ck_scratch(engine, CK_SCRATCH_GATE, rows * inner * sizeof(float));
    float *up = ck_scratch(engine, CK_SCRATCH_UP, rows * inner * sizeof(float));
    // Codes with a scale for each token are the same for both.
    int shared = 1;
    for (size_t g = 0; g < group_count; g++) {
        groups[g].linear = &mlps[g]->gate;
        shared &= mlps[g]->gate.kind == CK_INT8_DYNAMIC && mlps[g]->up.kind == CK_INT8_DYNAMIC;
    }
    apply_groups(engine, groups, group_count, rows, gate, inner, x, hidden, 0);
    for (size_t g = 0; g < group_count; g++) groups[g].linear = &mlps[g]->up;
    apply_groups(engine, groups, group_count, rows, up, inner, x, hidden, shared);
    struct activation activation = {engine->kernels, gate, up, inner};
    ck_run(engine, rows, inner * 16, activate_row, &activation);
    for (size_t g = 0; g < group_count; g++) groups[g].linear = &mlps[g]->down;
    apply_groups(engine, groups, group_count, rows, y, hidden, gate, inner, 0);
}

void ck_mlp_apply(struct ck_engine *engine, const struct ck_mlp *mlp, float *y, const float *x,
                  size_t rows)
{
    size_t hidden = mlp->gate.inputs;
    for (size_t first = 0; first < rows; first += MLP_ROWS) {
        struct group group = {.first = 0, .rows = ck_min(MLP_ROWS, rows - first)};
        apply_mlps(engine, &mlp, &group, 1, group.rows, y + first * hidden, x + first * hidden);
    }
}

struct rows_copy {
    size_t count;
    float *contiguous;
    const float *_Nonnull const *sources;
    float *_Nonnull const *targets;
};

static void gather_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct rows_copy *c = context;
    memcpy(c->contiguous + row * c->count, c->sources[row], c->count * sizeof(float));
}

static void scatter_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct rows_copy *c = context;
    memcpy(c->targets[row], c->contiguous + row * c->count, c->count * sizeof(float));
}

void ck_experts_apply(struct ck_engine *engine, const struct ck_mlp *experts, const size_t *starts,
                      size_t count, const float *const *inputs, float *const *outputs)
{
    size_t total = starts[count];
    if (total == 0) return;
    size_t hidden = experts[0].gate.inputs, window = ck_min(total, MLP_ROWS);
    size_t row_bytes = window * hidden * sizeof(float);
    float *x = ck_scratch(engine, CK_SCRATCH_GATHERED, row_bytes);
    float *y = ck_scratch(engine, CK_SCRATCH_SCATTERED, row_bytes);
    size_t entry = sizeof(struct group) + sizeof(struct ck_mlp *);
    struct group *groups = ck_scratch(engine, CK_SCRATCH_GROUPS, count * entry);
    const struct ck_mlp **mlps = (const struct ck_mlp **)(groups + count);
    size_t expert = 0;
    for (size_t first = 0; first < total; first += MLP_ROWS) {
        size_t last = ck_min(first + MLP_ROWS, total), used = 0;
        while (starts[expert + 1] <= first) expert++;
        for (size_t e = expert; e < count && starts[e] < last; e++) {
            size_t from = starts[e] > first ? starts[e] : first, to = ck_min(starts[e + 1], last);
            if (from >= to) continue;
            groups[used] = (struct group){.first = from - first, .rows = to - from};
            mlps[used++] = &experts[e];
        }
        struct rows_copy copy = {hidden, x, inputs + first, outputs + first};
        ck_run(engine, last - first, hidden, gather_row, &copy);
        apply_mlps(engine, mlps, groups, used, last - first, y, x);
        copy.contiguous = y;
        ck_run(engine, last - first, hidden, scatter_row, &copy);
    }
}
