// Linear layers and MLPs, alone and in groups (the experts of a layer). Rows are cut into tiles,
// outputs into panels; a task is one panel of one group and all its tiles, so that weights are
// read from memory once. The cut changes no result: a row's sum never crosses one.
#include "ck_internal.h"

enum {
    MLP_ROWS = 512,        // rows whose inner activations are in scratch at a time
    EXPERTS_A_THREAD = 8,  // with so many, each is one thread's
};

// Where rows of floats are: side by side, or wherever a table says.
struct rows {
    float *base;
    size_t stride;
    float *const *_Nullable table;
};

static float *row_at(const struct rows *rows, size_t row)
{
    return rows->table ? rows->table[row] : rows->base + row * rows->stride;
}

struct tile {
    uint32_t group, first, rows;
};

// Rows `first` ... of one call go through `linear`; with `second`, through silu(linear) * second.
struct group {
    const struct ck_linear *linear;
    const struct ck_linear *_Nullable second;
    size_t first, rows;
    size_t first_tile, tiles;
};

// Activations as products of one linear read them.
struct operand {
    uint8_t *tiles;      // [rows, row_bytes], interleaved by tile unless the kernels are row-major
    int32_t *starts;     // [rows]
    float *token_scales; // [rows]
};

// Rows that several groups read, prepared once: row r of a call is `sources[r]` of `operand`,
// which is row-major at every level.
struct prepared {
    struct operand operand;
    const uint32_t *sources;
    size_t row_bytes;
};

struct job {
    const struct ck_kernels *kernels;
    const struct group *groups;
    size_t group_count;
    const void *_Nullable then;  // weights that are read after the last group's
    const struct tile *tiles;
    const struct prepared *_Nullable prepared;  // instead of x
    struct rows x, y;
    struct operand operands[2];
    int which;          // operand that is being prepared
    size_t row_bytes;   // of an operand
    size_t panels;
    uint8_t *row_scratch;  // [threads, CK_TILE_ROWS_MAX, row_bytes]
};

// ---- Activations -----------------------------------------------------------------------------

int ck_is_row_major(const struct ck_kernels *k, const struct ck_linear *linear)
{
    if (k->panel->row_major_rows == 0) return 0;
    return linear->kind >= CK_INT8_STATIC || (linear->kind == CK_BF16 && !linear->wide);
}

size_t ck_tile_rows(const struct ck_kernels *k, const struct ck_linear *linear)
{
    return ck_is_row_major(k, linear) ? k->panel->row_major_rows : CK_TILE_ROWS;
}

// Bytes of one row as units, without what row-major kernels want behind it.
static size_t unit_bytes(const struct ck_linear *linear)
{
    if (linear->kind >= CK_INT8_STATIC) return ck_blocks(linear->inputs, 4) * 4;
    if (linear->kind == CK_BF16 && !linear->wide) return ck_blocks(linear->inputs, 2) * 4;
    return ck_blocks(linear->inputs, 2) * 8;
}

size_t ck_operand_bytes(const struct ck_kernels *k, const struct ck_linear *linear)
{
    size_t bytes = unit_bytes(linear);
    // An odd number of cache lines: the rows of a tile then lie in different sets of the cache.
    return ck_is_row_major(k, linear) ? (ck_blocks(bytes, 64) | 1) * 64 : bytes;
}

void ck_operand_row(const struct ck_kernels *k, const struct ck_linear *linear, void *row,
                    const float *x, int32_t *start, float *token_scale)
{
    size_t inputs = linear->inputs, last = unit_bytes(linear) - 4;
    memset((uint8_t *)row + last, 0, ck_operand_bytes(k, linear) - last);
    if (linear->kind < CK_INT8_STATIC) {
        if (linear->kind == CK_BF16 && !linear->wide) k->panel->narrow_bf16(row, x, inputs);
        else memcpy(row, x, inputs * sizeof *x);
        return;
    }
    int8_t *codes = row;
    int32_t sum;
    if (linear->kind == CK_INT8_STATIC) {
        k->quantize_static(codes, &sum, x, linear->input_scale, linear->input_offset, inputs);
    } else {
        *token_scale = k->quantize_dynamic(codes, &sum, x, inputs);
    }
    *start = -128 * sum;
}

void ck_interleave(void *tile, const void *rows, size_t row_bytes, size_t count)
{
    const uint32_t *x = rows;
    uint32_t *y = tile;
    size_t units = row_bytes / 4;
    for (size_t r = 0; r < count; r++) {
        for (size_t unit = 0; unit < units; unit++) y[unit * count + r] = x[r * units + unit];
    }
}

static void prepare_tile(void *context, size_t item, size_t thread)
{
    const struct job *job = context;
    const struct tile *tile = &job->tiles[item];
    const struct group *group = &job->groups[tile->group];
    const struct ck_linear *linear = job->which ? group->second : group->linear;
    const struct operand *operand = &job->operands[job->which];
    uint8_t *target = operand->tiles + tile->first * job->row_bytes;
    int direct = tile->rows == 1 || ck_is_row_major(job->kernels, linear);
    size_t scratch = thread * CK_TILE_ROWS_MAX * job->row_bytes;
    uint8_t *rows = direct ? target : job->row_scratch + scratch;
    const struct prepared *prepared = job->prepared;
    for (size_t r = 0; r < tile->rows; r++) {
        size_t row = tile->first + r;
        if (!prepared) {
            ck_operand_row(job->kernels, linear, rows + r * job->row_bytes, row_at(&job->x, row),
                           operand->starts + row, operand->token_scales + row);
            continue;
        }
        size_t source = prepared->sources[row];
        memcpy(rows + r * job->row_bytes, prepared->operand.tiles + source * job->row_bytes,
               job->row_bytes);
        operand->starts[row] = prepared->operand.starts[source];
        operand->token_scales[row] = prepared->operand.token_scales[source];
    }
    if (!direct) ck_interleave(target, rows, job->row_bytes, tile->rows);
}

// ---- Products --------------------------------------------------------------------------------

void ck_panel_product(const struct ck_kernels *k, const struct ck_linear *linear, size_t panel,
                      struct ck_product *product)
{
    const struct ck_panel_kernels *kernels = k->panel;
    size_t bytes = ck_panel_bytes(linear->kind, linear->inputs);
    product->w = (const uint8_t *)linear->weight + panel * bytes;
    const void *after_last = product->next;
    int is_last = (panel + 1) * CK_PANEL >= linear->outputs;
    if (!is_last) product->next = (const uint8_t *)product->w + bytes;
    product->units = bytes / 4 / CK_PANEL;
    if (linear->kind == CK_F32) {
        kernels->product_f32(product);
    } else if (linear->kind == CK_BF16) {
        if (linear->wide) kernels->product_wide(product);
        else kernels->product_bf16(product);
    } else {
        product->scale = linear->scale + panel * CK_PANEL;
        product->bias = linear->kind == CK_INT8_STATIC ? linear->bias + panel * CK_PANEL : NULL;
        if (linear->kind == CK_INT8_STATIC) product->token_scales = NULL;
        kernels->product_i8(product);
    }
    product->next = after_last;
}

static void tile_product(const struct job *job, const struct tile *tile,
                         const struct ck_linear *linear, int which, size_t panel, float *y,
                         size_t y_stride)
{
    const struct operand *operand = &job->operands[which];
    const struct group *group = &job->groups[tile->group], *after = group + 1;
    int is_second = linear == group->second;
    const void *then = is_second ? NULL : job->then;
    if (after < job->groups + job->group_count) {
        then = is_second ? after->second->weight : after->linear->weight;
    }
    struct ck_product product = {
        .y = y,
        .y_stride = y_stride,
        .x = operand->tiles + tile->first * job->row_bytes,
        .x_stride = job->row_bytes,
        .rows = tile->rows,
        .part = (size_t)(tile - job->tiles) - group->first_tile,
        .parts = group->tiles,
        .next = then,
        .starts = operand->starts + tile->first,
        .token_scales = operand->token_scales + tile->first,
    };
    ck_panel_product(job->kernels, linear, panel, &product);
}

static void multiply_panel(void *context, size_t item, size_t thread)
{
    (void)thread;
    const struct job *job = context;
    const struct group *group = &job->groups[item / job->panels];
    size_t panel = item % job->panels, output = panel * CK_PANEL;
    size_t outputs = ck_min(CK_PANEL, group->linear->outputs - output);
    float y[CK_TILE_ROWS_MAX * CK_PANEL], up[CK_TILE_ROWS_MAX * CK_PANEL];
    for (size_t t = group->first_tile; t < group->first_tile + group->tiles; t++) {
        const struct tile *tile = &job->tiles[t];
        if (outputs == CK_PANEL && !job->y.table && !group->second) {
            tile_product(job, tile, group->linear, 0, panel,
                         row_at(&job->y, tile->first) + output, job->y.stride);
            continue;
        }
        if (job->y.table) {
            for (size_t r = 0; r < tile->rows; r++) {
                const float *target = row_at(&job->y, tile->first + r) + output;
                __builtin_prefetch(target, 1, 2);
                __builtin_prefetch(target + 16, 1, 2);
            }
        }
        tile_product(job, tile, group->linear, 0, panel, y, CK_PANEL);
        if (group->second) {
            int which = job->operands[1].tiles != job->operands[0].tiles;
            tile_product(job, tile, group->second, which, panel, up, CK_PANEL);
            job->kernels->silu_multiply(y, up, tile->rows * CK_PANEL);
        }
        for (size_t r = 0; r < tile->rows; r++) {
            float *target = row_at(&job->y, tile->first + r) + output;
            // A whole panel has a size that the compiler knows, so that nothing is called.
            if (outputs == CK_PANEL) memcpy(target, y + r * CK_PANEL, CK_PANEL * sizeof *y);
            else memcpy(target, y + r * CK_PANEL, outputs * sizeof *y);
        }
    }
}

// Interleaved tiles are cut as evenly as possible: one of one row beside one of twelve would be
// slow. Row-major ones cost the same by sixteens of rows, so that only the last is not full.
static size_t cut_tiles(const struct ck_kernels *k, struct tile *tiles, struct group *groups,
                        size_t group_count)
{
    size_t count = 0;
    for (size_t g = 0; g < group_count; g++) {
        struct group *group = &groups[g];
        group->first_tile = count;
        size_t most = ck_tile_rows(k, group->linear), first = group->first;
        int even = !ck_is_row_major(k, group->linear);
        if (group->second && ck_tile_rows(k, group->second) < most) {
            most = ck_tile_rows(k, group->second);
        }
        group->tiles = ck_blocks(group->rows, most);
        for (size_t t = 0; t < group->tiles; t++) {
            size_t rows = even ? group->rows / group->tiles + (t < group->rows % group->tiles)
                               : ck_min(most, group->rows - t * most);
            tiles[count++] = (struct tile){(uint32_t)g, (uint32_t)first, (uint32_t)rows};
            first += rows;
        }
    }
    return count;
}

static int same_operand(const struct ck_linear *a, const struct ck_linear *b)
{
    if (a->kind != b->kind || a->wide != b->wide) return 0;
    if (a->kind != CK_INT8_STATIC) return 1;
    return a->input_scale == b->input_scale && a->input_offset == b->input_offset;
}

static struct operand make_operand(struct ck_engine *engine, int slot, size_t rows,
                                   size_t row_bytes, int which)
{
    float *tokens = ck_scratch(engine, CK_SCRATCH_TOKENS, rows * 4 * sizeof(float));
    return (struct operand){
        // Row-major kernels read whole tiles, also behind the last row.
        .tiles = ck_scratch(engine, slot, (rows + CK_TILE_ROWS_MAX) * row_bytes),
        .starts = (int32_t *)tokens + rows * (which ? 2 : 0),
        .token_scales = tokens + rows * (which ? 3 : 1),
    };
}

// Every group's rows through its linear (and second); all linears of a call have one shape. `then`:
// weights that are read after these.
static void apply_groups(struct ck_engine *engine, struct group *groups, size_t group_count,
                         size_t rows, const struct rows *x,
                         const struct prepared *_Nullable prepared, const struct rows *y,
                         const void *_Nullable then)
{
    const struct ck_linear *any = groups[0].linear;
    int gated = groups[0].second != NULL, shared = 1;
    size_t row_bytes = 0;
    for (size_t g = 0; g < group_count; g++) {
        size_t bytes = ck_operand_bytes(engine->kernels, groups[g].linear);
        row_bytes = bytes > row_bytes ? bytes : row_bytes;
        if (!gated) continue;
        bytes = ck_operand_bytes(engine->kernels, groups[g].second);
        row_bytes = bytes > row_bytes ? bytes : row_bytes;
        shared &= same_operand(groups[g].linear, groups[g].second);
    }
    size_t threads = ck_pool_threads(engine->pool);
    struct tile *tiles = ck_scratch(engine, CK_SCRATCH_CUTS, rows * sizeof *tiles);
    struct job job = {
        .kernels = engine->kernels,
        .groups = groups,
        .group_count = group_count,
        .then = then,
        .tiles = tiles,
        .prepared = prepared,
        .x = *x,
        .y = *y,
        .row_bytes = row_bytes,
        .panels = ck_blocks(any->outputs, CK_PANEL),
        .row_scratch = ck_scratch(engine, CK_SCRATCH_ROWS, threads * CK_TILE_ROWS_MAX * row_bytes),
    };
    size_t tile_count = cut_tiles(engine->kernels, tiles, groups, group_count);
    size_t tile_work = rows / tile_count * any->inputs * 4;
    job.operands[0] = make_operand(engine, CK_SCRATCH_TILES, rows, row_bytes, 0);
    job.operands[1] = job.operands[0];
    ck_run(engine, tile_count, tile_work, prepare_tile, &job);
    if (gated && !shared) {
        job.operands[1] = make_operand(engine, CK_SCRATCH_SECOND_TILES, rows, row_bytes, 1);
        job.which = 1;
        ck_run(engine, tile_count, tile_work, prepare_tile, &job);
    }
    size_t work = rows * any->inputs * CK_PANEL / group_count * (gated ? 2 : 1) + 1;
    ck_run(engine, group_count * job.panels, work, multiply_panel, &job);
}

void ck_linear_apply(struct ck_engine *engine, const struct ck_linear *linear, float *y,
                     size_t y_stride, const float *x, size_t x_stride, size_t rows)
{
    if (rows == 0) return;
    struct group group = {.linear = linear, .first = 0, .rows = rows};
    struct rows source = {.base = (float *)x, .stride = x_stride};
    struct rows target = {.base = y, .stride = y_stride};
    apply_groups(engine, &group, 1, rows, &source, NULL, &target, NULL);
}

// ---- MLPs ------------------------------------------------------------------------------------

// Which half of an MLP.
enum half { HALF_GATE, HALF_DOWN };

// `mlps[g]` serves groups[g], `rows` in all; the groups' linears are set here. `after`: the MLP
// that is computed next.
static void apply_half(struct ck_engine *engine, enum half half, const struct ck_mlp **mlps,
                       struct group *groups, size_t group_count, size_t rows,
                       const struct rows *x, const struct prepared *_Nullable prepared,
                       const struct rows *y, const struct ck_mlp *_Nullable after)
{
    for (size_t g = 0; g < group_count; g++) {
        groups[g].linear = half == HALF_GATE ? &mlps[g]->gate : &mlps[g]->down;
        groups[g].second = half == HALF_GATE ? &mlps[g]->up : NULL;
    }
    const void *then = half == HALF_GATE ? mlps[0]->down.weight : after ? after->gate.weight : NULL;
    apply_groups(engine, groups, group_count, rows, x, prepared, y, then);
}

static void apply_mlps(struct ck_engine *engine, const struct ck_mlp **mlps, struct group *groups,
                       size_t group_count, size_t rows, const struct rows *x,
                       const struct prepared *_Nullable prepared, const struct rows *y,
                       const struct ck_mlp *_Nullable after)
{
    size_t inner = mlps[0]->gate.outputs;
    struct rows middle = {
        .base = ck_scratch(engine, CK_SCRATCH_INNER, rows * inner * sizeof(float)),
        .stride = inner,
    };
    apply_half(engine, HALF_GATE, mlps, groups, group_count, rows, x, prepared, &middle, after);
    apply_half(engine, HALF_DOWN, mlps, groups, group_count, rows, &middle, NULL, y, after);
}

void ck_mlp_apply(struct ck_engine *engine, const struct ck_mlp *mlp, float *y, const float *x,
                  size_t rows)
{
    size_t hidden = mlp->gate.inputs;
    for (size_t first = 0; first < rows; first += MLP_ROWS) {
        struct group group = {.first = 0, .rows = ck_min(MLP_ROWS, rows - first)};
        struct rows source = {.base = (float *)x + first * hidden, .stride = hidden};
        struct rows target = {.base = y + first * hidden, .stride = hidden};
        apply_mlps(engine, &mlp, &group, 1, group.rows, &source, NULL, &target, NULL);
    }
}

// Numbers rows by their addresses: `sources[i]` is the number of inputs[i], and `rows` has each
// address once, in the order of their first appearance. Returns how many there are.
static size_t number_rows(const float *const *inputs, size_t count, uint32_t *sources,
                          const float **rows, uint32_t *table, size_t table_size)
{
    size_t found = 0;
    memset(table, 0, table_size * sizeof *table);
    for (size_t i = 0; i < count; i++) {
        // Fibonacci hashing (Knuth, volume 3, section 6.4); the table is at most half full.
        uint64_t hash = (uint64_t)(uintptr_t)inputs[i] * UINT64_C(0x9e3779b97f4a7c15);
        size_t at = (hash >> 32) & (table_size - 1);
        while (table[at] != 0 && rows[table[at] - 1] != inputs[i]) at = (at + 1) % table_size;
        if (table[at] == 0) {
            rows[found] = inputs[i];
            table[at] = (uint32_t)++found;
        }
        sources[i] = table[at] - 1;
    }
    return found;
}

struct prepare_job {
    const struct ck_kernels *kernels;
    const struct ck_linear *linear;
    const float *const *rows;
    const struct prepared *prepared;
};

static void prepare_row(void *context, size_t row, size_t thread)
{
    (void)thread;
    const struct prepare_job *job = context;
    const struct operand *operand = &job->prepared->operand;
    ck_operand_row(job->kernels, job->linear, operand->tiles + row * job->prepared->row_bytes,
                   job->rows[row], operand->starts + row, operand->token_scales + row);
}

// Whether all gates and ups read the same codes of a row, and making them costs more than a copy.
static int reads_alike(const struct ck_mlp *experts, const size_t *starts, size_t count)
{
    const struct ck_linear *first = &experts[0].gate;
    if (first->kind == CK_F32 || first->wide) return 0;
    for (size_t expert = 0; expert < count; expert++) {
        if (starts[expert] == starts[expert + 1]) continue;
        if (!same_operand(first, &experts[expert].gate)) return 0;
        if (!same_operand(first, &experts[expert].up)) return 0;
    }
    return 1;
}

// A token goes through several experts: its row is made what products read once, not once an
// expert. Returns 0 where that is not possible or saves nothing.
static int prepare_rows(struct ck_engine *engine, const struct ck_mlp *experts,
                        const size_t *starts, size_t count, const float *const *inputs,
                        struct prepared *prepared)
{
    size_t total = starts[count], table_size = 16;
    if (total < 2 || !reads_alike(experts, starts, count)) return 0;
    while (table_size < 2 * total) table_size *= 2;
    size_t entry = sizeof(float *) + sizeof(uint32_t);
    const float **rows = ck_scratch(engine, CK_SCRATCH_SOURCES,
                                    total * entry + table_size * sizeof(uint32_t));
    uint32_t *sources = (uint32_t *)(rows + total);
    size_t found = number_rows(inputs, total, sources, rows, sources + total, table_size);
    if (found > total / 4 * 3) return 0;
    const struct ck_linear *linear = &experts[0].gate;
    size_t row_bytes = ck_operand_bytes(engine->kernels, linear);
    uint8_t *memory = ck_scratch(engine, CK_SCRATCH_PREPARED, found * (row_bytes + 8));
    *prepared = (struct prepared){
        .operand = {.tiles = memory, .starts = (int32_t *)(memory + found * row_bytes),
                    .token_scales = (float *)(memory + found * (row_bytes + 4))},
        .sources = sources,
        .row_bytes = row_bytes,
    };
    struct prepare_job job = {engine->kernels, linear, rows, prepared};
    ck_run(engine, found, linear->inputs * 4, prepare_row, &job);
    return 1;
}

// Assignments of one call, sorted by expert; `half` is NULL where they go through both.
struct experts {
    struct ck_engine *engine;
    const enum half *_Nullable half;
    const struct ck_mlp *experts;
    const size_t *starts;
    size_t count;
    const float *const *inputs;
    float *const *outputs;
    const struct prepared *_Nullable prepared;
};

// Assignments first ..< first + rows, which are those of `groups` of `mlps`.
static void apply_assignments(struct ck_engine *engine, const struct experts *e, size_t first,
                              size_t rows, const struct ck_mlp **mlps, struct group *groups,
                              size_t group_count, const struct ck_mlp *_Nullable after)
{
    struct rows source = {.table = (float *const *)(uintptr_t)(e->inputs + first)};
    struct rows target = {.table = e->outputs + first};
    struct prepared part;
    const struct prepared *prepared = NULL;
    if (e->prepared) {
        part = *e->prepared;
        part.sources += first;
        prepared = &part;
    }
    if (e->half) {
        apply_half(engine, *e->half, mlps, groups, group_count, rows, &source, prepared, &target,
                   after);
    } else {
        apply_mlps(engine, mlps, groups, group_count, rows, &source, prepared, &target, after);
    }
}

// One expert on one thread: its rows stay in that core's cache, and nobody waits between stages.
static void apply_expert(void *context, size_t expert, size_t thread)
{
    const struct experts *e = context;
    const struct ck_mlp *mlp = &e->experts[expert];
    size_t end = e->starts[expert + 1], rows;
    int goes_on = expert + 1 < e->count && e->starts[expert + 2] > end;
    const struct ck_mlp *after = goes_on ? mlp + 1 : NULL;
    for (size_t first = e->starts[expert]; first < end; first += rows) {
        rows = ck_min(MLP_ROWS, end - first);
        struct group group = {.first = 0, .rows = rows};
        apply_assignments(&e->engine->alone[thread], e, first, rows, &mlp, &group, 1, after);
    }
}

// Whether experts can be divided among threads whole: enough of them, and none of them too long.
static int divides_evenly(const struct experts *e, size_t threads)
{
    size_t used = 0, longest = 0, rows = e->starts[e->count];
    for (size_t expert = 0; expert < e->count; expert++) {
        size_t own = e->starts[expert + 1] - e->starts[expert];
        if (own > longest) longest = own;
        used += own > 0;
    }
    return used >= threads * EXPERTS_A_THREAD && longest * threads * 2 <= rows;
}

// All threads at each expert, some experts at a time.
static void apply_together(struct ck_engine *engine, const struct experts *e)
{
    size_t entry = sizeof(struct group) + sizeof(struct ck_mlp *);
    struct group *groups = ck_scratch(engine, CK_SCRATCH_GROUPS, e->count * entry);
    const struct ck_mlp **mlps = (const struct ck_mlp **)(groups + e->count);
    size_t expert = 0, at = 0;
    while (at < e->starts[e->count]) {
        // Whole experts as long as they fit; one with more rows comes in pieces of its own.
        size_t first = at, used = 0;
        while (expert < e->count && at < first + MLP_ROWS) {
            size_t left = e->starts[expert + 1] - at;
            size_t rows = ck_min(left, MLP_ROWS);
            if (rows > first + MLP_ROWS - at) break;
            if (rows > 0) {
                groups[used] = (struct group){.first = at - first, .rows = rows};
                mlps[used++] = &e->experts[expert];
                at += rows;
            }
            if (rows == left) expert++;
        }
        apply_assignments(engine, e, first, at - first, mlps, groups, used, NULL);
    }
}

// Runs every assignment through its expert, or through one half of it.
static void apply_experts(struct ck_engine *engine, const enum half *half,
                          const struct ck_mlp *experts, const size_t *starts, size_t count,
                          const float *const *inputs, float *const *outputs)
{
    struct experts all = {engine, half, experts, starts, count, inputs, outputs, NULL};
    struct prepared prepared;
    if ((!half || *half == HALF_GATE) &&
        prepare_rows(engine, experts, starts, count, inputs, &prepared)) {
        all.prepared = &prepared;
    }
    if (divides_evenly(&all, ck_pool_threads(engine->pool))) {
        ck_run(engine, count, SIZE_MAX / count, apply_expert, &all);
    } else {
        apply_together(engine, &all);
    }
}

void ck_experts_apply(struct ck_engine *engine, const struct ck_mlp *experts, const size_t *starts,
                      size_t count, const float *const *inputs, float *const *outputs)
{
    apply_experts(engine, NULL, experts, starts, count, inputs, outputs);
}

void ck_experts_gate(struct ck_engine *engine, const struct ck_mlp *experts, const size_t *starts,
                     size_t count, const float *const *inputs, float *const *outputs)
{
    const enum half half = HALF_GATE;
    apply_experts(engine, &half, experts, starts, count, inputs, outputs);
}

void ck_experts_down(struct ck_engine *engine, const struct ck_mlp *experts, const size_t *starts,
                     size_t count, const float *const *inputs, float *const *outputs)
{
    const enum half half = HALF_DOWN;
    apply_experts(engine, &half, experts, starts, count, inputs, outputs);
}
