// Latent attention over a BF16 or an int8 cache. A task takes neighbouring queries of one sequence
// and some heads: their rows share each tile of CK_POSITION_TILE positions, which is brought once
// into the two layouts of a product with packed weights: keys (outputs are positions) and values
// (outputs are latent columns). Softmax by tiles with a running maximum, as in ck_attention.c, in
// F32; weights are rounded to BF16 for the second product. Of an int8 cache, codes are keys and
// values, and what they are to be multiplied by goes into scores and weights.
//
// A row's result depends on its own positions alone: tiles count from position 0, and a position
// that a row must not see has weight 0, which adds nothing where it is finite.
#include <math.h>

#include "ck_attention.h"

#pragma STDC FP_CONTRACT OFF

enum {
    TASK_ROWS = 96,  // rows (queries times heads) of a task, at most: eight full tiles
};

struct task_job {
    const struct ck_attention_job *job;
    size_t heads;     // of a task
    size_t queries;   // of a task, at most
    const uint32_t *firsts;  // [tasks] first row of a task's queries, in the job
    const uint32_t *counts;  // [tasks]
};

// Scratch of one task. Sizes for TASK_ROWS rows.
struct scratch {
    uint16_t *rows;     // [rows, width] BF16 queries, then [rows, CK_POSITION_TILE] weights
    uint16_t *queries;  // tiles of them
    uint16_t *keys;     // [2 panels, width / 2, CK_PANEL, 2]
    uint16_t *values;   // [latent panels, CK_POSITION_TILE / 2, CK_PANEL, 2]
    uint16_t *weights;  // tiles of [rows, CK_POSITION_TILE]
    uint16_t *codes;    // int8 cache only: [CK_POSITION_TILE, width] as BF16
    float *_Nullable scales;  // and [CK_POSITION_TILE], else NULL
    float *scores;      // [rows, CK_POSITION_TILE]
    float *sums;        // [rows, latent padded] running outputs
    float *largest;     // [rows]
    float *totals;      // [rows]
};

static size_t take(size_t *used, size_t bytes)
{
    size_t at = *used;
    *used += ck_blocks(bytes, 64) * 64;
    return at;
}

static size_t padded(size_t count) { return ck_blocks(count, CK_PANEL) * CK_PANEL; }

static size_t lay_out(const struct ck_latent_attention *a, uint8_t *_Nullable base,
                      struct scratch *s)
{
    size_t width = ck_blocks(a->latent + a->rope, 2) * 2, used = 0;
    size_t row = width > CK_POSITION_TILE ? width : CK_POSITION_TILE;
    size_t rows = take(&used, TASK_ROWS * row * 2);
    size_t queries = take(&used, TASK_ROWS * width * 2);
    size_t keys = take(&used, CK_POSITION_TILE * width * 2);
    size_t values = take(&used, CK_POSITION_TILE * padded(a->latent) * 2);
    size_t weights = take(&used, TASK_ROWS * CK_POSITION_TILE * 2);
    size_t scores = take(&used, TASK_ROWS * CK_POSITION_TILE * 4);
    size_t sums = take(&used, TASK_ROWS * padded(a->latent) * 4);
    size_t largest = take(&used, TASK_ROWS * 4);
    size_t totals = take(&used, TASK_ROWS * 4);
    int is_int8 = a->cache_kind == CK_INT8_DYNAMIC;
    size_t codes = take(&used, is_int8 ? CK_POSITION_TILE * width * 2 : 0);
    size_t scales = take(&used, is_int8 ? CK_POSITION_TILE * 4 : 0);
    if (base) {
        *s = (struct scratch){
            .rows = (uint16_t *)(base + rows),
            .queries = (uint16_t *)(base + queries),
            .keys = (uint16_t *)(base + keys),
            .values = (uint16_t *)(base + values),
            .weights = (uint16_t *)(base + weights),
            .scores = (float *)(base + scores),
            .sums = (float *)(base + sums),
            .largest = (float *)(base + largest),
            .totals = (float *)(base + totals),
            .codes = (uint16_t *)(base + codes),
            .scales = is_int8 ? (float *)(base + scales) : NULL,
        };
    }
    return used;
}

static size_t scratch_bytes(const struct ck_latent_attention *a)
{
    struct scratch none;
    return lay_out(a, NULL, &none);
}

// Both layouts of positions first ..< last; what lies beyond counts as zeros.
static void load_positions(const struct ck_attention_job *job, const struct scratch *s,
                           const int32_t *table, size_t first, size_t last)
{
    const struct ck_latent_attention *a = job->a;
    const struct ck_panel_kernels *k = job->kernels->panel;
    size_t width = a->latent + a->rope;
    size_t bytes = ck_latent_entry_bytes(a->cache_kind, a->latent, a->rope);
    const uint16_t *rows[CK_POSITION_TILE] = {0};
    for (size_t position = first; position < last; position++) {
        size_t block = (size_t)table[position / a->block_size], i = position - first;
        size_t slot = block * a->block_size + position % a->block_size;
        const uint8_t *entry = (const uint8_t *)a->cache + slot * bytes;
        rows[i] = (const uint16_t *)entry;
        if (!s->scales) continue;
        uint16_t *row = s->codes + i * width;
        s->scales[i] = ck_load_latent_codes(k, row, entry, a->latent, a->rope);
        rows[i] = row;
    }
    size_t panel = width * CK_PANEL;
    for (size_t p = 0; p < CK_POSITION_TILE / CK_PANEL; p++) {
        k->transpose((uint32_t *)(s->keys + p * panel), (const void *const *)rows + p * CK_PANEL,
                     width / 2);
    }
    k->pair_rows(s->values, rows, CK_POSITION_TILE, a->latent);
}

// Positions of the tile at `first` that a row of the task sees.
static size_t seen_positions(const struct task_job *t, size_t query, size_t row, size_t first)
{
    const struct ck_attention_job *job = t->job;
    size_t position = (size_t)job->a->positions[job->first_row + query + row / t->heads];
    return position < first ? 0 : ck_min(CK_POSITION_TILE, position - first + 1);
}

// One tile of positions for one tile of rows.
static void attend_rows(const struct task_job *t, const struct scratch *s, size_t query,
                        size_t row, size_t rows, size_t first)
{
    const struct ck_attention_job *job = t->job;
    const struct ck_latent_attention *a = job->a;
    const struct ck_panel_kernels *k = job->kernels->panel;
    size_t width = a->latent + a->rope, latent = padded(a->latent);
    // What no row of this tile sees is left out: its weights would be 0.
    size_t seen = seen_positions(t, query, row + rows - 1, first);
    struct ck_product product = {
        .y_stride = CK_POSITION_TILE,
        .x = s->queries + row * width,
        .rows = rows,
        .units = width / 2,
    };
    for (size_t p = 0; p * CK_PANEL < seen; p++) {
        product.y = s->scores + row * CK_POSITION_TILE + p * CK_PANEL;
        product.w = s->keys + p * width * CK_PANEL;
        k->product_bf16(&product);
    }
    for (size_t r = 0; r < rows; r++) {
        size_t count = seen_positions(t, query, row + r, first);
        uint16_t *weights = s->rows + r * CK_POSITION_TILE;
        if (count == 0) {
            memset(weights, 0, CK_POSITION_TILE * sizeof *weights);
            continue;
        }
        float correction =
            job->kernels->weigh(weights, s->scores + (row + r) * CK_POSITION_TILE, s->scales,
                                a->scale, count, s->largest + row + r, s->totals + row + r);
        if (correction != 1.0f && first > 0) {
            job->kernels->scale(s->sums + (row + r) * latent, correction, latent);
        }
    }
    uint16_t *weights = s->weights + row * CK_POSITION_TILE;
    ck_interleave(weights, s->rows, CK_POSITION_TILE * 2, rows);
    product = (struct ck_product){
        .y_stride = latent, .x = weights, .rows = rows, .units = ck_blocks(seen, 2),
        .accumulate = 1,
    };
    for (size_t column = 0; column < latent; column += CK_PANEL) {
        product.y = s->sums + row * latent + column;
        product.w = s->values + column * CK_POSITION_TILE;
        k->product_bf16(&product);
    }
}

// Rows of tile `tile` when `rows` are cut into `tiles`.
static size_t tile_size(size_t rows, size_t tiles, size_t tile)
{
    return rows / tiles + (tile < rows % tiles);
}

static void load_queries(const struct task_job *t, const struct scratch *s, size_t query,
                         size_t head, size_t rows, size_t tiles)
{
    const struct ck_attention_job *job = t->job;
    size_t width = job->a->latent + job->a->rope;
    for (size_t row = 0; row < rows; row++) {
        size_t at = (query + row / t->heads) * job->a->heads + head + row % t->heads;
        job->kernels->panel->narrow_bf16(s->rows + row * width, job->queries + at * width, width);
    }
    for (size_t tile = 0, row = 0; tile < tiles; row += tile_size(rows, tiles, tile++)) {
        ck_interleave(s->queries + row * width, s->rows + row * width, width * 2,
                      tile_size(rows, tiles, tile));
    }
}

static void attend_task(void *context, size_t item, size_t thread)
{
    const struct task_job *t = context;
    const struct ck_attention_job *job = t->job;
    const struct ck_latent_attention *a = job->a;
    struct scratch s;
    lay_out(a, job->scratch + thread * job->scratch_bytes, &s);
    size_t head_tasks = a->heads / t->heads;
    size_t query = t->firsts[item / head_tasks], queries = t->counts[item / head_tasks];
    size_t head = item % head_tasks * t->heads, rows = queries * t->heads;
    size_t tiles = ck_blocks(rows, CK_TILE_ROWS), latent = padded(a->latent);
    load_queries(t, &s, query, head, rows, tiles);
    memset(s.sums, 0, rows * latent * sizeof *s.sums);
    memset(s.totals, 0, rows * sizeof *s.totals);
    for (size_t row = 0; row < rows; row++) s.largest[row] = -INFINITY;
    const int32_t *table = a->tables + a->table_starts[job->first_row + query];
    size_t length = (size_t)a->positions[job->first_row + query + queries - 1] + 1;
    for (size_t first = 0; first < length; first += CK_POSITION_TILE) {
        load_positions(job, &s, table, first, ck_min(first + CK_POSITION_TILE, length));
        for (size_t tile = 0, row = 0; tile < tiles; row += tile_size(rows, tiles, tile++)) {
            size_t count = tile_size(rows, tiles, tile);
            if (seen_positions(t, query, row + count - 1, first) == 0) continue;
            attend_rows(t, &s, query, row, count, first);
        }
    }
    for (size_t row = 0; row < rows; row++) {
        size_t at = (query + row / t->heads) * a->heads + head + row % t->heads;
        float *output = job->latents + at * a->latent;
        memcpy(output, s.sums + row * latent, a->latent * sizeof *output);
        job->kernels->scale(output, 1.0f / s.totals[row], a->latent);
    }
}

// Cuts the job's rows into runs of one sequence's neighbouring positions, `longest` at most.
static size_t cut_queries(const struct ck_attention_job *job, size_t longest, uint32_t *firsts,
                          uint32_t *counts)
{
    const struct ck_latent_attention *a = job->a;
    size_t tasks = 0;
    for (size_t row = 0; row < job->rows; row++) {
        size_t at = job->first_row + row;
        int follows = row > 0 && a->table_starts[at] == a->table_starts[at - 1] &&
                      a->positions[at] == a->positions[at - 1] + 1 &&
                      counts[tasks - 1] < longest;
        if (follows) {
            counts[tasks - 1]++;
        } else {
            firsts[tasks] = (uint32_t)row;
            counts[tasks++] = 1;
        }
    }
    return tasks;
}

// A divisor of `heads`, at most `limit`.
static size_t heads_of_task(size_t heads, size_t limit)
{
    size_t count = ck_min(heads, limit);
    while (heads % count != 0) count--;
    return count;
}

static void attend(struct ck_engine *engine, struct ck_attention_job *job, size_t row_work)
{
    size_t heads = job->a->heads;
    uint32_t *firsts = ck_scratch(engine, CK_SCRATCH_CUTS, job->rows * 2 * sizeof *firsts);
    struct task_job tasks = {
        .job = job, .heads = heads_of_task(heads, CK_HEAD_TILE),
        .firsts = firsts, .counts = firsts + job->rows,
    };
    tasks.queries = TASK_ROWS / tasks.heads;
    size_t runs = cut_queries(job, tasks.queries, firsts, firsts + job->rows);
    // Few queries: fewer heads a task, so that every thread has work.
    size_t wanted = ck_pool_threads(engine->pool);
    while (tasks.heads > 4 && runs * (heads / tasks.heads) < wanted) {
        tasks.heads = heads_of_task(heads, tasks.heads / 2);
    }
    size_t items = runs * (heads / tasks.heads);
    ck_run(engine, items, row_work * job->rows / runs, attend_task, &tasks);
}

const struct ck_attention_form ck_panel_attention = {
    .scratch = scratch_bytes,
    .attend = attend,
};
