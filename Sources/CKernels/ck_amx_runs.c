// Latent attention of many neighbouring queries: a task takes some heads of up to TASK_ROWS of them
// from the queries to the output, so that nothing of it leaves the core and nobody waits between
// the stages. Its rows are [heads, queries].
#if defined(__x86_64__)
#include "ck_amx_attention.h"

#pragma STDC FP_CONTRACT OFF

struct run_task {
    struct task task;
    uint32_t head, heads, queries;
};

struct run_job {
    struct attend_job attend;
    const struct run_task *tasks;
};

// Queries of the task's heads in the latent space, BF16, then packed.
TARGET static void absorb(const struct attend_job *t, const struct run_task *run,
                          const struct scratch *s)
{
    const struct ck_latent_attention *a = t->job->a;
    const struct ck_kernels *k = t->job->kernels;
    const struct shape *shape = &t->shape;
    size_t query = a->nope + a->rope, bytes = ck_operand_bytes(k, &a->keys[0]);
    int32_t starts[CK_AMX_ROWS];
    float token_scales[CK_AMX_ROWS];
    _Alignas(64) float y[CK_AMX_ROWS * CK_PANEL];
    for (size_t head = 0; head < run->heads; head++) {
        const struct ck_linear *keys = &a->keys[run->head + head];
        for (size_t first = 0, count; first < run->queries; first += count) {
            count = ck_min(CK_AMX_ROWS, run->queries - first);
            size_t at = t->job->first_row + run->task.query + first;
            const float *x = a->queries + (at * a->heads + run->head + head) * query;
            uint16_t *rows = s->staged + (head * run->queries + first) * shape->depth;
            for (size_t r = 0; r < count; r++, x += a->heads * query) {
                ck_operand_row(k, keys, s->operands + r * bytes, x, starts + r, token_scales + r);
                uint16_t *row = rows + r * shape->depth;
                memset(row + shape->depth - 32, 0, 64);
                k->panel->narrow_bf16(row + a->latent, x + a->nope, a->rope);
            }
            struct ck_product product = {
                .y = y, .y_stride = CK_PANEL, .x = s->operands, .x_stride = bytes, .rows = count,
                .parts = first == 0, .next = head + 1 < run->heads ? keys[1].weight : NULL,
                .starts = starts, .token_scales = token_scales,
            };
            for (size_t output = 0; output < a->latent; output += CK_PANEL) {
                ck_panel_product(k, keys, output / CK_PANEL, &product);
                uint32_t mask = a->latent - output < 32 ? (1u << (a->latent - output)) - 1 : ~0u;
                for (size_t r = 0; r < count; r++) {
                    __m512 low = _mm512_load_ps(y + r * CK_PANEL);
                    __m512 high = _mm512_load_ps(y + r * CK_PANEL + 16);
                    _mm512_mask_storeu_epi16(rows + r * shape->depth + output, mask,
                                             (__m512i)_mm512_cvtne2ps_pbh(high, low));
                }
            }
        }
    }
    for (size_t first = 0; first < run->task.rows; first += CK_PANEL) {
        const void *rows[CK_PANEL] = {0};
        for (size_t i = 0; i < CK_PANEL && first + i < run->task.rows; i++) {
            rows[i] = s->staged + (first + i) * shape->depth;
        }
        k->panel->transpose(s->queries + first * (shape->depth / 2), rows, shape->depth / 2);
    }
    for (size_t row = 0; row < ck_amx_tile_count(&run->task) * CK_TILE_SIDE; row++) {
        size_t at = t->job->first_row + run->task.query + row % run->queries;
        s->limits[row] = row < run->task.rows ? a->positions[at] + 1 : 0;
    }
}

// Attended latents of the task's heads through the values' matrices.
TARGET static void project(const struct attend_job *t, const struct run_task *run,
                           const struct scratch *s)
{
    const struct ck_latent_attention *a = t->job->a;
    const struct ck_kernels *k = t->job->kernels;
    size_t next = t->shape.columns * SUMS, bytes = ck_operand_bytes(k, &a->values[0]);
    int32_t starts[CK_AMX_ROWS];
    float token_scales[CK_AMX_ROWS];
    // Where products take BF16 rows, they are written as such at once.
    const int narrow = a->values[0].kind == CK_BF16;
    const size_t stride = narrow ? bytes : a->latent * 4;
    for (size_t tile = 0; tile < ck_amx_tile_count(&run->task); tile++) {
        struct target target = {s->attended + tile * CK_TILE_SIDE * stride, stride, narrow};
        ck_amx_finish(&t->shape, &run->task, tile, s->joined.sums + tile * next,
                      s->joined.totals + tile * CK_TILE_SIDE, 0, t->shape.columns, target);
    }
    for (size_t head = 0; head < run->heads; head++) {
        const struct ck_linear *values = &a->values[run->head + head];
        for (size_t first = 0, count; first < run->queries; first += count) {
            count = ck_min(CK_AMX_ROWS, run->queries - first);
            const uint8_t *x = s->attended + (head * run->queries + first) * stride;
            for (size_t r = 0; r < count && !narrow; r++) {
                ck_operand_row(k, values, s->operands + r * bytes,
                               (const float *)(x + r * stride), starts + r, token_scales + r);
            }
            size_t at = t->job->first_row + run->task.query + first;
            float *output = a->output + (at * a->heads + run->head + head) * a->value;
            float y[CK_AMX_ROWS * CK_PANEL];
            struct ck_product product = {
                .y = y, .y_stride = CK_PANEL, .x = narrow ? x : s->operands, .x_stride = bytes,
                .rows = count, .parts = first == 0,
                .next = head + 1 < run->heads ? values[1].weight : NULL,
                .starts = starts, .token_scales = token_scales,
            };
            for (size_t column = 0; column < a->value; column += CK_PANEL) {
                ck_panel_product(k, values, column / CK_PANEL, &product);
                size_t columns = ck_min(CK_PANEL, a->value - column);
                for (size_t r = 0; r < count; r++) {
                    memcpy(output + r * a->heads * a->value + column, y + r * CK_PANEL,
                           columns * sizeof *y);
                }
            }
        }
    }
}

TARGET static void attend_heads(void *context, size_t item, size_t thread)
{
    const struct run_job *job = context;
    const struct attend_job *t = &job->attend;
    const struct run_task *run = &job->tasks[item];
    struct scratch s;
    ck_amx_lay_out(&t->shape, t->job->scratch + thread * t->job->scratch_bytes, &s);
    ck_shape_tiles();
    absorb(t, run, &s);
    ck_amx_attend_all(t, &run->task, &s);
    project(t, run, &s);
}

void ck_amx_attend_runs(struct ck_engine *engine, struct ck_attention_job *job,
                        const struct ck_attention_run *runs, size_t count)
{
    const struct ck_latent_attention *a = job->a;
    size_t most = 0, used = 0;
    for (size_t run = 0; run < count; run++) {
        most += (ck_blocks(runs[run].queries, TASK_ROWS) + 1) * a->heads;
    }
    struct run_task *tasks = ck_scratch(engine, CK_SCRATCH_CUTS, most * sizeof *tasks);
    for (size_t run = 0; run < count; run++) {
        size_t parts = ck_blocks(runs[run].queries, TASK_ROWS);
        // The last part, which has the longest rows, comes first.
        for (size_t part = parts; part-- > 0;) {
            size_t first = part * TASK_ROWS;
            size_t queries = ck_min(TASK_ROWS, runs[run].queries - first);
            size_t last = runs[run].first + first + queries - 1;
            size_t heads = ck_min(a->heads, TASK_ROWS / queries);
            for (size_t head = 0; head < a->heads; head += heads) {
                size_t own = ck_min(heads, a->heads - head);
                tasks[used++] = (struct run_task){
                    .task = {.rows = (uint32_t)(own * queries),
                             .query = (uint32_t)(runs[run].first + first),
                             .length = (uint32_t)a->positions[last] + 1},
                    .head = (uint32_t)head, .heads = (uint32_t)own, .queries = (uint32_t)queries,
                };
            }
        }
    }
    job->first_row = 0;
    struct run_job all = {{.job = job, .shape = ck_amx_shape(a)}, tasks};
    ck_run(engine, used, SIZE_MAX / used, attend_heads, &all);
}
#endif
