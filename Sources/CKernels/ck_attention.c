// Latent attention in the absorbed form (DeepSeek-V2, arXiv 2405.04434, appendix C): queries are
// taken into the latent space, so that keys and values are the cached latents themselves. Decode
// and prefill run the same code for every query row, which is what makes them agree bit by bit.
#include <math.h>

#include "ck_attention.h"

#pragma STDC FP_CONTRACT OFF

enum {
    ROW_CHUNK = 128,   // query rows whose latent queries are in scratch at a time
    RUN_QUERIES = 32,  // of a run that is long enough to be computed head by head
    RUN_POSITIONS = 1024,  // up to so many positions it is, however many threads there are
};

// Adds positions first ..< last, which lie in one tile, to the running softmax of each head.
static void attend_tile(const struct ck_kernels *k, const struct ck_attention *a, size_t first,
                        size_t last)
{
    size_t count = last - first, width = a->width;
    float *scores = a->scratch;
    float *largest = scores + a->heads * CK_POSITION_TILE;
    float *sums = largest + a->heads;
    for (size_t position = first, end; position < last; position = end) {
        size_t in_block = position % a->block_size;
        end = ck_min(last, position - in_block + a->block_size);
        size_t block = (size_t)a->table[position / a->block_size];
        const float *rows = a->cache + (block * a->block_size + in_block) * width;
        k->matmul_f32(scores + (position - first), CK_POSITION_TILE, a->queries, width, rows, width,
                      a->heads, end - position, width);
    }
    for (size_t head = 0; head < a->heads; head++) {
        float *row = scores + head * CK_POSITION_TILE;
        k->scale(row, a->scale, count);
        float best = k->maximum(row, count);
        if (best > largest[head]) {
            float correction = first == 0 ? 0.0f : expf(largest[head] - best);
            if (first > 0) k->scale(a->output + head * a->latent, correction, a->latent);
            sums[head] *= correction;
            largest[head] = best;
        }
        sums[head] += k->exponentials(row, largest[head], count);
    }
    for (size_t position = first, end; position < last; position = end) {
        size_t in_block = position % a->block_size;
        end = ck_min(last, position - in_block + a->block_size);
        size_t block = (size_t)a->table[position / a->block_size];
        const float *rows = a->cache + (block * a->block_size + in_block) * width;
        k->accumulate_f32(a->output, a->latent, scores + (position - first), CK_POSITION_TILE, rows,
                          width, a->heads, a->latent, end - position);
    }
}

void ck_attention_tiled(const struct ck_kernels *kernels, const struct ck_attention *a)
{
    float *largest = a->scratch + a->heads * CK_POSITION_TILE;
    for (size_t head = 0; head < a->heads; head++) {
        largest[head] = -INFINITY;
        largest[a->heads + head] = 0;
    }
    memset(a->output, 0, a->heads * a->latent * sizeof(float));
    for (size_t first = 0; first < a->length; first += CK_POSITION_TILE) {
        attend_tile(kernels, a, first, ck_min(first + CK_POSITION_TILE, a->length));
    }
    for (size_t head = 0; head < a->heads; head++) {
        kernels->scale(a->output + head * a->latent, 1.0f / largest[a->heads + head], a->latent);
    }
}

// ---- The stage -------------------------------------------------------------------------------

// Linear layers of one head over rows that are `stride` apart, alone on this thread. `after`: what
// is read next.
static void multiply_rows(const struct ck_kernels *k, const struct ck_linear *linear, float *y,
                          size_t y_stride, const float *x, size_t x_stride, size_t rows,
                          uint8_t *scratch, const void *_Nullable after)
{
    size_t bytes = ck_operand_bytes(k, linear), most = ck_tile_rows(k, linear);
    int row_major = ck_is_row_major(k, linear);
    uint8_t *tile = scratch + (row_major ? 0 : most * bytes);
    for (size_t first = 0, count; first < rows; first += count) {
        count = ck_min(most, rows - first);
        int32_t starts[CK_TILE_ROWS_MAX];
        float token_scales[CK_TILE_ROWS_MAX];
        for (size_t r = 0; r < count; r++) {
            ck_operand_row(k, linear, scratch + r * bytes, x + (first + r) * x_stride, starts + r,
                           token_scales + r);
        }
        if (!row_major) ck_interleave(tile, scratch, bytes, count);
        for (size_t output = 0; output < linear->outputs; output += CK_PANEL) {
            float block[CK_TILE_ROWS_MAX * CK_PANEL];
            size_t outputs = ck_min(CK_PANEL, linear->outputs - output);
            int direct = outputs == CK_PANEL;
            struct ck_product product = {
                .y = direct ? y + first * y_stride + output : block,
                .y_stride = direct ? y_stride : CK_PANEL,
                .x = tile, .x_stride = bytes, .rows = count, .parts = first == 0, .next = after,
                .starts = starts, .token_scales = token_scales,
            };
            ck_panel_product(k, linear, output / CK_PANEL, &product);
            if (direct) continue;
            for (size_t r = 0; r < count; r++) {
                memcpy(y + (first + r) * y_stride + output, block + r * CK_PANEL,
                       outputs * sizeof *y);
            }
        }
    }
}

static const void *_Nullable next_head(const struct ck_linear *linears, size_t heads, size_t head)
{
    return head + 1 < heads ? linears[head + 1].weight : NULL;
}

// One head: the latent part of its queries is its key matrix times the query.
static void absorb_queries(void *context, size_t head, size_t thread)
{
    const struct ck_attention_job *job = context;
    const struct ck_latent_attention *a = job->a;
    size_t width = a->latent + a->rope, query = a->nope + a->rope;
    size_t y_stride = a->heads * width, x_stride = a->heads * query;
    float *y = job->queries + head * width;
    const float *x = a->queries + job->first_row * x_stride + head * query;
    for (size_t row = 0; row < job->rows; row++) {
        memcpy(y + row * y_stride + a->latent, x + row * x_stride + a->nope,
               a->rope * sizeof(float));
    }
    multiply_rows(job->kernels, &a->keys[head], y, y_stride, x, x_stride, job->rows,
                  job->scratch + thread * job->scratch_bytes, next_head(a->keys, a->heads, head));
}

// One head: output = its value matrix times the attended latent.
static void project_values(void *context, size_t head, size_t thread)
{
    const struct ck_attention_job *job = context;
    const struct ck_latent_attention *a = job->a;
    size_t y_stride = a->heads * a->value, x_stride = a->heads * a->latent;
    multiply_rows(job->kernels, &a->values[head],
                  a->output + job->first_row * y_stride + head * a->value, y_stride,
                  job->latents + head * a->latent, x_stride, job->rows,
                  job->scratch + thread * job->scratch_bytes,
                  next_head(a->values, a->heads, head));
}

static void attend_row(void *context, size_t item, size_t thread)
{
    const struct ck_attention_job *job = context;
    const struct ck_latent_attention *a = job->a;
    size_t head_tiles = ck_blocks(a->heads, CK_HEAD_TILE);
    size_t row = item / head_tiles, head = item % head_tiles * CK_HEAD_TILE;
    size_t width = a->latent + a->rope, at = row * a->heads + head;
    struct ck_attention attention = {
        .output = job->latents + at * a->latent,
        .queries = job->queries + at * width,
        .cache = a->cache,
        .table = a->tables + a->table_starts[job->first_row + row],
        .scratch = (float *)(job->scratch + thread * job->scratch_bytes),
        .heads = ck_min(CK_HEAD_TILE, a->heads - head),
        .length = (size_t)a->positions[job->first_row + row] + 1,
        .block_size = a->block_size,
        .latent = a->latent,
        .width = width,
        .scale = a->scale,
    };
    job->kernels->attention(job->kernels, &attention);
}

static size_t longest_row(const struct ck_attention_job *job)
{
    size_t longest = 0;
    for (size_t row = job->first_row; row < job->first_row + job->rows; row++) {
        size_t length = (size_t)job->a->positions[row] + 1;
        longest = length > longest ? length : longest;
    }
    return longest;
}

// Scratch of one thread, enough for each of the three tasks.
static size_t scratch_bytes(const struct ck_kernels *k, const struct ck_latent_attention *a)
{
    size_t operands = ck_operand_bytes(k, &a->keys[0]);
    size_t values = ck_operand_bytes(k, &a->values[0]);
    operands = 2 * CK_TILE_ROWS_MAX * (operands > values ? operands : values);
    size_t attention = a->cache_kind == CK_F32 ? CK_HEAD_TILE * (CK_POSITION_TILE + 2) * 4
                                               : k->attention_bf16->scratch(a);
    return ck_blocks(operands > attention ? operands : attention, 64) * 64;
}

// Queries first ..< last, which no run covers, stage by stage.
static void attend_queries(struct ck_engine *engine, struct ck_attention_job *job, size_t first,
                           size_t last)
{
    const struct ck_latent_attention *a = job->a;
    size_t width = a->latent + a->rope, chunk = ck_min(ROW_CHUNK, last - first);
    job->queries = ck_scratch(engine, CK_SCRATCH_QUERIES, chunk * a->heads * width * 4);
    job->latents = ck_scratch(engine, CK_SCRATCH_LATENTS, chunk * a->heads * a->latent * 4);
    for (; first < last; first += ROW_CHUNK) {
        job->first_row = first;
        job->rows = ck_min(ROW_CHUNK, last - first);
        size_t work = ck_min(a->heads, CK_HEAD_TILE) * width * longest_row(job) * 2;
        ck_run(engine, a->heads, job->rows * a->nope * a->latent, absorb_queries, job);
        if (a->cache_kind == CK_F32) {
            ck_run(engine, job->rows * ck_blocks(a->heads, CK_HEAD_TILE), work, attend_row, job);
        } else {
            engine->kernels->attention_bf16->attend(engine, job, work);
        }
        ck_run(engine, a->heads, job->rows * a->value * a->latent, project_values, job);
    }
}

static int has_runs(const struct ck_kernels *k, const struct ck_latent_attention *a)
{
    return a->cache_kind != CK_F32 && k->attention_bf16->attend_runs &&
           ck_is_row_major(k, &a->keys[0]) && ck_is_row_major(k, &a->values[0]);
}

// Whether so many neighbouring queries, the last of which is row `last`, go through the stage head
// by head. A head's task takes its positions one after the other: where they are many and tasks are
// fewer than threads, pieces of positions are better work to share.
static int is_run(const struct ck_latent_attention *a, size_t queries, size_t last, size_t threads)
{
    if (queries < RUN_QUERIES) return 0;
    size_t heads = ck_min(a->heads, RUN_ROWS / ck_min(queries, RUN_ROWS));
    size_t tasks = ck_blocks(queries, RUN_ROWS) * ck_blocks(a->heads, heads);
    return tasks >= threads || (size_t)a->positions[last] < RUN_POSITIONS;
}

// Behind the last of the neighbouring queries of one sequence that begin at `row`.
static size_t run_end(const struct ck_latent_attention *a, size_t row)
{
    do row++;
    while (row < a->rows && a->table_starts[row] == a->table_starts[row - 1] &&
           a->positions[row] == a->positions[row - 1] + 1);
    return row;
}

void ck_latent_attention_apply(struct ck_engine *engine, const struct ck_latent_attention *a)
{
    const struct ck_kernels *kernels = engine->kernels;
    size_t threads = ck_pool_threads(engine->pool), bytes = scratch_bytes(kernels, a);
    struct ck_attention_job job = {
        .kernels = kernels,
        .a = a,
        .scratch = ck_scratch(engine, CK_SCRATCH_ATTENTION, threads * bytes),
        .scratch_bytes = bytes,
    };
    if (!has_runs(kernels, a)) {
        attend_queries(engine, &job, 0, a->rows);
        return;
    }
    struct ck_attention_run *runs =
        ck_scratch(engine, CK_SCRATCH_RUNS, (a->rows / RUN_QUERIES + 1) * sizeof *runs);
    size_t count = 0, left = 0;
    for (size_t row = 0, end; row < a->rows; row = end) {
        end = run_end(a, row);
        if (!is_run(a, end - row, end - 1, threads)) continue;
        attend_queries(engine, &job, left, row);
        runs[count++] = (struct ck_attention_run){row, end - row};
        left = end;
    }
    attend_queries(engine, &job, left, a->rows);
    if (count > 0) kernels->attention_bf16->attend_runs(engine, &job, runs, count);
}
