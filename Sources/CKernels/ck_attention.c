// Latent attention in the absorbed form (DeepSeek-V2, arXiv 2405.04434, appendix C): queries are
// taken into the latent space, so that keys and values are the cached latents themselves. Decode
// and prefill run the same code for every query row, which is what makes them agree bit by bit.
#include <math.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

enum { ROW_CHUNK = 128 };  // query rows whose latent queries are in scratch at a time

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

struct job {
    const struct ck_engine *engine;
    const struct ck_latent_attention *a;
    size_t first_row, rows;
    size_t head_tiles;
    float *queries;  // [rows, heads, latent + rope]
    float *latents;  // [rows, heads, latent]
    float *scores;   // [threads, CK_HEAD_TILE, CK_POSITION_TILE + 2]
};

// One head: queries[.., latent part] = its key half of `key_value`, transposed, times the query.
static void absorb_queries(void *context, size_t head, size_t thread)
{
    (void)thread;
    const struct job *job = context;
    const struct ck_latent_attention *a = job->a;
    const struct ck_kernels *k = job->engine->kernels;
    size_t width = a->latent + a->rope, query = a->nope + a->rope;
    size_t y_stride = a->heads * width, x_stride = a->heads * query;
    size_t weights = head * (a->nope + a->value) * a->latent;
    float *y = job->queries + head * width;
    const float *x = a->queries + job->first_row * x_stride + head * query;
    for (size_t row = 0; row < job->rows; row++) {
        memset(y + row * y_stride, 0, a->latent * sizeof(float));
        memcpy(y + row * y_stride + a->latent, x + row * x_stride + a->nope,
               a->rope * sizeof(float));
    }
    if (a->key_value.kind == CK_BF16) {
        k->accumulate_bf16(y, y_stride, x, x_stride,
                           (const uint16_t *)a->key_value.weight + weights, a->latent, job->rows,
                           a->latent, a->nope);
    } else {
        k->accumulate_f32(y, y_stride, x, x_stride, (const float *)a->key_value.weight + weights,
                          a->latent, job->rows, a->latent, a->nope);
    }
}

static void attend(void *context, size_t item, size_t thread)
{
    const struct job *job = context;
    const struct ck_latent_attention *a = job->a;
    size_t row = item / job->head_tiles, head = item % job->head_tiles * CK_HEAD_TILE;
    size_t width = a->latent + a->rope, at = row * a->heads + head;
    struct ck_attention attention = {
        .output = job->latents + at * a->latent,
        .queries = job->queries + at * width,
        .cache = a->cache,
        .table = a->tables + a->table_starts[job->first_row + row],
        .scratch = job->scores + thread * CK_HEAD_TILE * (CK_POSITION_TILE + 2),
        .heads = ck_min(CK_HEAD_TILE, a->heads - head),
        .length = (size_t)a->positions[job->first_row + row] + 1,
        .block_size = a->block_size,
        .latent = a->latent,
        .width = width,
        .scale = a->scale,
    };
    job->engine->kernels->attention(job->engine->kernels, &attention);
}

// One head: output = its value half of `key_value` times the attended latent.
static void project_values(void *context, size_t head, size_t thread)
{
    (void)thread;
    const struct job *job = context;
    const struct ck_latent_attention *a = job->a;
    const struct ck_kernels *k = job->engine->kernels;
    size_t weights = (head * (a->nope + a->value) + a->nope) * a->latent;
    size_t y_stride = a->heads * a->value, x_stride = a->heads * a->latent;
    float *y = a->output + job->first_row * y_stride + head * a->value;
    const float *x = job->latents + head * a->latent;
    if (a->key_value.kind == CK_BF16) {
        k->matmul_bf16(y, y_stride, x, x_stride, (const uint16_t *)a->key_value.weight + weights,
                       a->latent, job->rows, a->value, a->latent);
    } else {
        k->matmul_f32(y, y_stride, x, x_stride, (const float *)a->key_value.weight + weights,
                      a->latent, job->rows, a->value, a->latent);
    }
}

void ck_latent_attention_apply(struct ck_engine *engine, const struct ck_latent_attention *a)
{
    size_t threads = ck_pool_threads(engine->pool), chunk = ck_min(ROW_CHUNK, a->rows);
    size_t width = a->latent + a->rope, score_bytes = CK_HEAD_TILE * (CK_POSITION_TILE + 2) * 4;
    struct job job = {
        .engine = engine,
        .a = a,
        .head_tiles = ck_blocks(a->heads, CK_HEAD_TILE),
        .queries = ck_scratch(engine, CK_SCRATCH_QUERIES, chunk * a->heads * width * 4),
        .latents = ck_scratch(engine, CK_SCRATCH_LATENTS, chunk * a->heads * a->latent * 4),
        .scores = ck_scratch(engine, CK_SCRATCH_SCORES, threads * score_bytes),
    };
    for (size_t first = 0; first < a->rows; first += ROW_CHUNK) {
        job.first_row = first;
        job.rows = ck_min(ROW_CHUNK, a->rows - first);
        size_t longest = 0;
        for (size_t row = first; row < first + job.rows; row++) {
            size_t length = (size_t)a->positions[row] + 1;
            longest = length > longest ? length : longest;
        }
        size_t work = ck_min(a->heads, CK_HEAD_TILE) * width * longest * 2;
        ck_run(engine, a->heads, job.rows * a->nope * a->latent, absorb_queries, &job);
        ck_run(engine, job.rows * job.head_tiles, work, attend, &job);
        ck_run(engine, a->heads, job.rows * a->value * a->latent, project_values, &job);
    }
}
