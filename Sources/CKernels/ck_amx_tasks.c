// Rows of a call as tasks of latent attention: all heads of a query, or of some neighbouring ones.
#if defined(__x86_64__)
#include "ck_amx_attention.h"

#pragma STDC FP_CONTRACT OFF

// Memory for partitions that are computed apart, at most, if more than one task has any.
static const size_t PARTIAL_BYTES = (size_t)64 << 20;

static size_t scratch_bytes(const struct ck_latent_attention *a)
{
    struct shape shape = ck_amx_shape(a);
    struct scratch none;
    return ck_amx_lay_out(&shape, NULL, &none);
}

TARGET static void load_queries(const struct attend_job *t, const struct task *task,
                                const struct scratch *s)
{
    const struct ck_attention_job *job = t->job;
    const struct shape *shape = &t->shape;
    size_t padded = ck_amx_tile_count(task) * CK_TILE_SIDE;
    for (size_t row = 0; row < padded; row++) {
        size_t query = (task->first + row) / shape->heads;
        s->limits[row] = row < task->rows ? job->a->positions[job->first_row + query] + 1 : 0;
    }
    for (size_t first = 0; first < task->rows; first += CK_PANEL) {
        const void *rows[CK_PANEL] = {0};
        for (size_t i = 0; i < CK_PANEL && first + i < task->rows; i++) {
            uint16_t *row = s->rows + i * shape->depth;
            const float *query = job->queries + (task->first + first + i) * shape->width;
            memset(row + shape->depth - 32, 0, 64);
            job->kernels->panel->narrow_bf16(row, query, shape->width);
            rows[i] = row;
        }
        job->kernels->panel->transpose(s->queries + first * (shape->depth / 2), rows,
                                       shape->depth / 2);
    }
}

// Where the attended latents of a tile of rows belong.
static struct target attended(const struct attend_job *t, const struct task *task, size_t tile)
{
    size_t latent = t->shape.latent, row = task->first + tile * CK_TILE_SIDE;
    return (struct target){(uint8_t *)(t->job->latents + row * latent), latent * 4, 0};
}

// All partitions of a task.
TARGET static void attend_whole(void *context, size_t item, size_t thread)
{
    const struct attend_job *t = context;
    const struct task *task = &t->tasks[item];
    const struct shape *shape = &t->shape;
    struct scratch s;
    ck_amx_lay_out(shape, t->job->scratch + thread * t->job->scratch_bytes, &s);
    ck_shape_tiles();
    load_queries(t, task, &s);
    ck_amx_attend_all(t, task, &s);
    size_t next = shape->columns * SUMS;
    for (size_t tile = 0; tile < ck_amx_tile_count(task); tile++) {
        ck_amx_finish(shape, task, tile, s.joined.sums + tile * next,
                      s.joined.totals + tile * CK_TILE_SIDE, 0, shape->columns,
                      attended(t, task, tile));
    }
}

static struct state partial(const struct attend_job *t, const struct task *task, size_t index)
{
    size_t tiles = ck_amx_tile_count(task);
    size_t at = task->partials + index * ck_amx_state_bytes(&t->shape, tiles);
    return ck_amx_state_at(t->partials + at, &t->shape, tiles);
}

// One partition of a task.
TARGET static void attend_part(void *context, size_t item, size_t thread)
{
    const struct attend_job *t = context;
    const struct task *task = &t->tasks[t->items[item]];
    size_t index = item - task->first_item;
    struct scratch s;
    ck_amx_lay_out(&t->shape, t->job->scratch + thread * t->job->scratch_bytes, &s);
    s.state = partial(t, task, index);
    ck_shape_tiles();
    load_queries(t, task, &s);
    size_t first = index * PARTITION, last = ck_min(first + PARTITION, task->length);
    struct step step = {.copied = NOTHING_COPIED};
    ck_amx_attend_partition(t, task, &s, &step, first, last, last);
}

// Joins a task's partitions: some columns of one tile of rows.
TARGET static void join_parts(void *context, size_t item, size_t thread)
{
    (void)thread;
    const struct attend_job *t = context;
    size_t part = item % COLUMN_PARTS, tile = item / COLUMN_PARTS % TASK_TILES;
    const struct task *task = &t->tasks[t->first_task + item / COLUMN_PARTS / TASK_TILES];
    if (tile >= ck_amx_tile_count(task)) return;
    size_t columns = t->shape.columns, at = tile * CK_TILE_SIDE;
    size_t first = columns / 2 * part / COLUMN_PARTS * 2;
    size_t last = columns / 2 * (part + 1) / COLUMN_PARTS * 2;
    struct state all = partial(t, task, 0);
    // Other parts of the same rows are joined meanwhile.
    float largest[CK_TILE_SIDE], totals[CK_TILE_SIDE];
    memcpy(largest, all.largest + at, sizeof largest);
    memcpy(totals, all.totals + at, sizeof totals);
    float *sums = all.sums + tile * columns * SUMS;
    for (size_t index = 1; index < task->partitions; index++) {
        struct state more = partial(t, task, index);
        ck_amx_join(sums + first * SUMS, largest, totals,
                    more.sums + (tile * columns + first) * SUMS, more.largest + at,
                    more.totals + at, last - first);
    }
    ck_amx_finish(&t->shape, task, tile, sums, totals, first, last, attended(t, task, tile));
}

// Cuts the job's rows into tasks: runs of neighbouring positions of one sequence, and these into
// TASK_ROWS.
static size_t cut_tasks(const struct ck_attention_job *job, struct task *tasks)
{
    const struct ck_latent_attention *a = job->a;
    size_t count = 0, end;
    for (size_t query = 0; query < job->rows; query = end) {
        size_t at = job->first_row + query;
        for (end = query + 1; end < job->rows; end++) {
            size_t next = job->first_row + end;
            if (a->table_starts[next] != a->table_starts[at]) break;
            if (a->positions[next] != a->positions[next - 1] + 1) break;
        }
        for (size_t row = query * a->heads; row < end * a->heads; row += TASK_ROWS) {
            size_t rows = ck_min(TASK_ROWS, end * a->heads - row);
            size_t last = job->first_row + (row + rows - 1) / a->heads;
            size_t length = (size_t)a->positions[last] + 1;
            tasks[count++] = (struct task){
                .first = (uint32_t)row, .rows = (uint32_t)rows,
                .query = (uint32_t)(row / a->heads), .length = (uint32_t)length,
                .partitions = (uint32_t)ck_blocks(length, PARTITION),
            };
        }
    }
    return count;
}

// Every partition by itself, in rounds of as many tasks as the memory for them allows.
static void attend_apart(struct ck_engine *engine, struct attend_job *t, struct task *tasks,
                         size_t count, size_t work)
{
    for (size_t first = 0, end; first < count; first = end) {
        size_t items = 0, bytes = 0;
        for (end = first; end < count; end++) {
            struct task *task = &tasks[end];
            size_t more = task->partitions * ck_amx_state_bytes(&t->shape, ck_amx_tile_count(task));
            if (end > first && bytes + more > PARTIAL_BYTES) break;
            task->first_item = (uint32_t)items;
            task->partials = bytes;
            items += task->partitions;
            bytes += more;
        }
        uint32_t *owners = ck_scratch(engine, CK_SCRATCH_GROUPS, items * sizeof *owners);
        for (size_t task = first, item = 0; task < end; task++) {
            for (size_t i = 0; i < tasks[task].partitions; i++) owners[item++] = (uint32_t)task;
        }
        t->items = owners;
        t->first_task = first;
        t->partials = ck_scratch(engine, CK_SCRATCH_INNER, bytes);
        ck_run(engine, items, work, attend_part, t);
        ck_run(engine, (end - first) * TASK_TILES * COLUMN_PARTS, work, join_parts, t);
    }
}

static void attend(struct ck_engine *engine, struct ck_attention_job *job, size_t row_work)
{
    const struct ck_latent_attention *a = job->a;
    size_t most = job->rows + ck_blocks(job->rows * a->heads, TASK_ROWS);
    struct task *tasks = ck_scratch(engine, CK_SCRATCH_CUTS, most * sizeof *tasks);
    size_t count = cut_tasks(job, tasks), partitions = 0, threads = ck_pool_threads(engine->pool);
    for (size_t task = 0; task < count; task++) partitions += tasks[task].partitions;
    struct attend_job t = {.job = job, .shape = ck_amx_shape(a), .tasks = tasks};
    size_t work = row_work * ck_blocks(a->heads, CK_HEAD_TILE) * job->rows / count + 1;
    if (threads > 1 && count < threads * TASKS_A_THREAD && partitions > count) {
        attend_apart(engine, &t, tasks, count, work * count / partitions + 1);
    } else {
        ck_run(engine, count, work, attend_whole, &t);
    }
}

const struct ck_attention_form ck_amx_attention = {
    .scratch = scratch_bytes,
    .attend = attend,
    .attend_runs = ck_amx_attend_runs,
};
#endif
