// The small stages: embedding, norms, residual adds, rotary positions, router.
#include <math.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

enum { ADD_PIECE = 1 << 14 };  // numbers that a thread adds at a time

struct norm {
    const struct ck_kernels *kernels;
    float *y;
    size_t y_stride;
    const float *x;
    size_t x_stride;
    const float *weight;
    const float *_Nullable bias;
    float epsilon;
    size_t count;
};

static void norm_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct norm *n = context;
    n->kernels->rms_norm(n->y + row * n->y_stride, n->x + row * n->x_stride, n->weight, n->bias,
                         n->epsilon, n->count);
}

void ck_norm_apply(struct ck_engine *engine, float *y, size_t y_stride, const float *x,
                   size_t x_stride, const float *weight, const float *bias, float epsilon,
                   size_t rows, size_t count)
{
    struct norm norm = {engine->kernels, y, y_stride, x, x_stride, weight, bias, epsilon, count};
    ck_run(engine, rows, count * 4, norm_row, &norm);
}

void ck_embed(float *y, const int32_t *ids, const void *table, int kind, size_t rows,
              size_t columns)
{
    for (size_t row = 0; row < rows; row++) {
        size_t start = (size_t)ids[row] * columns;
        if (kind == CK_BF16) {
            ck_widen_bf16(y + row * columns, (const uint16_t *)table + start, columns);
        } else {
            memcpy(y + row * columns, (const float *)table + start, columns * sizeof(float));
        }
    }
}

struct sum {
    float *y;
    const float *x;
    size_t count;
};

static void add_piece(void *context, size_t piece, size_t thread)
{
    (void)thread;
    const struct sum *sum = context;
    size_t first = piece * ADD_PIECE, last = ck_min(first + ADD_PIECE, sum->count);
    for (size_t i = first; i < last; i++) sum->y[i] += sum->x[i];
}

void ck_add(struct ck_engine *engine, float *y, const float *x, size_t count)
{
    struct sum sum = {y, x, count};
    ck_run(engine, ck_blocks(count, ADD_PIECE), ADD_PIECE, add_piece, &sum);
}

struct weighted_sum {
    const struct ck_kernels *kernels;
    float *y;
    const float *_Nonnull const *parts;
    const float *weights;
    size_t slots, count;
};

static void sum_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct weighted_sum *s = context;
    float *y = s->y + row * s->count;
    memset(y, 0, s->count * sizeof(float));
    for (size_t slot = 0; slot < s->slots; slot++) {
        size_t at = row * s->slots + slot;
        s->kernels->multiply_add(y, s->parts[at], s->weights[at], s->count);
    }
}

void ck_weighted_sum(struct ck_engine *engine, float *y, const float *const *parts,
                     const float *weights, size_t rows, size_t slots, size_t count)
{
    struct weighted_sum sum = {engine->kernels, y, parts, weights, slots, count};
    ck_run(engine, rows, slots * count, sum_row, &sum);
}

void ck_rotary_tables(float *cosines, float *sines, const int32_t *positions,
                      const double *frequencies, double magnitude, size_t rows, size_t half)
{
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < half; i++) {
            double angle = (double)positions[row] * frequencies[i];
            cosines[row * half + i] = (float)(cos(angle) * magnitude);
            sines[row * half + i] = (float)(sin(angle) * magnitude);
        }
    }
}

void ck_rotate(float *x, const float *cosines, const float *sines, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosines[i] - b * sines[i];
        x[2 * i + 1] = a * sines[i] + b * cosines[i];
    }
}

struct rotation {
    float *queries;
    const float *cosines, *sines;
    size_t heads, size, rope;
};

static void rotate_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct rotation *r = context;
    size_t half = r->rope / 2;
    for (size_t head = 0; head < r->heads; head++) {
        float *query = r->queries + (row * r->heads + head) * r->size;
        ck_rotate(query + r->size - r->rope, r->cosines + row * half, r->sines + row * half, half);
    }
}

void ck_rotate_queries(struct ck_engine *engine, float *queries, const float *cosines,
                       const float *sines, size_t rows, size_t heads, size_t size, size_t rope)
{
    struct rotation rotation = {queries, cosines, sines, heads, size, rope};
    ck_run(engine, rows, heads * rope * 2, rotate_row, &rotation);
}

struct latents {
    const struct ck_engine *engine;
    uint8_t *cache;
    int kind;
    size_t entry_bytes;
    const int32_t *slots;
    const float *x, *weight;
    const float *_Nullable bias;
    float epsilon;
    const float *cosines, *sines;
    size_t latent, rope;
    float *scratch;  // [threads, latent + rope]
};

static void store_row(void *context, size_t row, size_t thread)
{
    const struct latents *l = context;
    const struct ck_kernels *kernels = l->engine->kernels;
    size_t width = l->latent + l->rope, half = l->rope / 2, slot = (size_t)l->slots[row];
    const float *x = l->x + row * width;
    uint8_t *stored = l->cache + slot * l->entry_bytes;
    float *entry = l->kind == CK_F32 ? (float *)stored : l->scratch + thread * width;
    kernels->rms_norm(entry, x, l->weight, l->bias, l->epsilon, l->latent);
    memcpy(entry + l->latent, x + l->latent, l->rope * sizeof(float));
    ck_rotate(entry + l->latent, l->cosines + row * half, l->sines + row * half, half);
    if (l->kind == CK_BF16) {
        kernels->panel->narrow_bf16((uint16_t *)stored, entry, width);
    } else if (l->kind == CK_INT8_DYNAMIC) {
        ck_store_latent_codes(kernels, stored, entry, l->latent, l->rope);
    }
}

void ck_store_latents(struct ck_engine *engine, void *cache, int kind, const int32_t *slots,
                      const float *x, const float *weight, const float *bias, float epsilon,
                      const float *cosines, const float *sines, size_t rows, size_t latent,
                      size_t rope)
{
    size_t bytes = ck_pool_threads(engine->pool) * (latent + rope) * sizeof(float);
    struct latents latents = {
        engine, cache, kind, ck_latent_entry_bytes(kind, latent, rope), slots, x, weight, bias,
        epsilon, cosines, sines, latent, rope, ck_scratch(engine, CK_SCRATCH_ROWS, bytes),
    };
    ck_run(engine, rows, latent * 4, store_row, &latents);
}

// Marks the groups that take part, by the sum of their two best biased scores.
static void keep_groups(int *kept, const float *biased, const struct ck_router *router)
{
    float totals[CK_EXPERT_GROUPS_MAX];
    size_t size = router->experts / router->groups;
    for (size_t group = 0; group < router->groups; group++) {
        float best = -INFINITY, second = -INFINITY;
        for (size_t i = 0; i < size; i++) {
            float value = biased[group * size + i];
            if (value > best) {
                second = best;
                best = value;
            } else if (value > second) {
                second = value;
            }
        }
        totals[group] = size > 1 ? best + second : best;
        kept[group] = 0;
    }
    for (size_t n = 0; n < router->groups_kept; n++) {
        size_t best = router->groups;
        for (size_t group = 0; group < router->groups; group++) {
            if (kept[group]) continue;
            if (best == router->groups || totals[group] > totals[best]) best = group;
        }
        kept[best] = 1;
    }
}

void ck_router_choose(int32_t *ids, float *weights, const float *logits, const float *bias,
                      const struct ck_router *router)
{
    float scores[CK_EXPERTS_MAX], biased[CK_EXPERTS_MAX];
    int kept[CK_EXPERT_GROUPS_MAX];
    size_t size = router->experts / router->groups;
    for (size_t e = 0; e < router->experts; e++) {
        scores[e] = 1.0f / (1.0f + expf(-logits[e]));
        biased[e] = scores[e] + bias[e];
    }
    keep_groups(kept, biased, router);
    float sum = 0;
    for (size_t slot = 0; slot < router->chosen; slot++) {
        size_t best = router->experts;
        for (size_t group = 0; group < router->groups; group++) {
            if (!kept[group]) continue;
            for (size_t e = group * size; e < (group + 1) * size; e++) {
                if (isnan(biased[e])) continue;
                if (best == router->experts || biased[e] > biased[best]) best = e;
            }
        }
        // Scores that are not numbers (a broken checkpoint) must not index outside the arrays.
        if (best == router->experts) best = slot;
        ids[slot] = (int32_t)best;
        weights[slot] = scores[best];
        sum += scores[best];
        biased[best] = NAN;
    }
    for (size_t slot = 0; slot < router->chosen; slot++) {
        if (router->normalize) weights[slot] /= sum + 1e-20f;
        weights[slot] *= router->scale;
    }
}

struct routing {
    int32_t *ids;
    float *weights;
    const float *logits;
    const float *bias;
    const struct ck_router *router;
};

static void choose_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct routing *r = context;
    size_t chosen = r->router->chosen;
    ck_router_choose(r->ids + row * chosen, r->weights + row * chosen,
                     r->logits + row * r->router->experts, r->bias, r->router);
}

void ck_router_apply(struct ck_engine *engine, int32_t *ids, float *weights, float *logits,
                     const float *x, const struct ck_linear *gate, const float *bias,
                     const struct ck_router *router, size_t rows)
{
    ck_linear_apply(engine, gate, logits, router->experts, x, gate->inputs, rows);
    struct routing routing = {ids, weights, logits, bias, router};
    ck_run(engine, rows, router->experts * (router->chosen + 16), choose_row, &routing);
}
