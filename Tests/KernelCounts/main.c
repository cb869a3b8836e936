// Calls kernels one at a time, so that callgrind can count the instructions of each call:
//
//   valgrind --tool=callgrind --toggle-collect=measured --dump-after=measured kernel-counts
//
// `measured` is the only function that is counted, and one dump follows each of its calls. A line
// "name level" goes to stdout before a call, in the order of the dumps. Every call is made once
// before it is counted: scratch has its size then, and symbols are bound. Data is fixed.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckernels.h"

enum {
    HIDDEN = 1024,
    INNER = 512,
    EXPERTS = 8,
    UNITS = 256,
    VOCABULARY = 32768,
    HEADS = 16,
    NOPE = 64,
    ROPE = 32,
    VALUE = 64,
    LATENT = 256,
    WIDTH = LATENT + ROPE,
    BLOCK = 16,
    POSITIONS = 256,
    ROWS_MAX = 12,
};

static const int LEVELS[] = {CK_REFERENCE, CK_AVX2};
static const char *const LEVEL_NAMES[] = {"reference", "portable", "avx2"};

typedef void (*call)(const void *context);

__attribute__((noinline)) void measured(call function, const void *context);
void measured(call function, const void *context)
{
    function(context);
    __asm__ volatile("" ::: "memory");
}

static void count(const char *name, int level, call function, const void *context)
{
    printf("%s %s\n", name, LEVEL_NAMES[level]);
    function(context);
    measured(function, context);
}

static void *memory(size_t bytes)
{
    void *start = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!start) abort();
    memset(start, 0, (bytes + 127) / 64 * 64);
    return start;
}

// SplitMix64 (Steele, Lea and Flood, 2014).
static uint64_t next_random(void)
{
    static uint64_t state = 1;
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static float *floats(size_t count)
{
    float *values = memory(count * sizeof *values);
    for (size_t i = 0; i < count; i++) {
        values[i] = (float)(next_random() >> 40) / (float)(1 << 23) - 1.0f;
    }
    return values;
}

// ---- Primitives ------------------------------------------------------------------------------

struct primitive {
    const struct ck_kernels *kernels;
    const struct ck_sampling *sampling;
    struct ck_product product;
    struct ck_attention attention;
    float *x, *y, *maxima;
    const float *weight;
    int8_t *codes;
    int32_t *indices;
    uint16_t *halves;
    const void *rows[CK_PANEL];
    uint32_t *panel;
};

#define PRIMITIVE(NAME, ...)                                                                     \
    static void NAME(const void *context)                                                        \
    {                                                                                            \
        const struct primitive *p = context;                                                     \
        __VA_ARGS__;                                                                             \
    }

PRIMITIVE(product_i8, p->kernels->panel->product_i8(&p->product))
PRIMITIVE(product_bf16, p->kernels->panel->product_bf16(&p->product))
PRIMITIVE(product_wide, p->kernels->panel->product_wide(&p->product))
PRIMITIVE(product_f32, p->kernels->panel->product_f32(&p->product))
PRIMITIVE(transpose, p->kernels->panel->transpose(p->panel, p->rows, UNITS))
PRIMITIVE(narrow_bf16, p->kernels->panel->narrow_bf16(p->halves, p->x, HIDDEN))
PRIMITIVE(rms_norm, p->kernels->rms_norm(p->y, p->x, p->weight, NULL, 1e-6f, HIDDEN))
PRIMITIVE(quantize_static, int32_t sum;
          p->kernels->quantize_static(p->codes, &sum, p->x, 0.01f, 3, HIDDEN))
PRIMITIVE(quantize_dynamic, int32_t sum;
          p->kernels->quantize_dynamic(p->codes, &sum, p->x, HIDDEN))
PRIMITIVE(silu_multiply, p->kernels->silu_multiply(p->y, p->x, HIDDEN))
PRIMITIVE(attention, p->kernels->attention(p->kernels, &p->attention))
PRIMITIVE(weigh, float largest = 0.5f, total = 1;
          p->kernels->weigh(p->halves, p->x, NULL, 0.1f, CK_POSITION_TILE, &largest, &total))
PRIMITIVE(scan, p->sampling->scan(p->maxima, p->weight, VOCABULARY))
PRIMITIVE(exponential_sum, p->sampling->sum(p->weight, VOCABULARY, 1))
PRIMITIVE(masses, double masses[CK_SAMPLING_THRESHOLDS];
          const float thresholds[CK_SAMPLING_THRESHOLDS] = {0.9f, 0.8f, 0.7f, 0.6f,
                                                            0.5f, 0.4f, 0.3f, 0.2f};
          p->sampling->masses(masses, p->weight, p->maxima, VOCABULARY, 1, 1, thresholds))
PRIMITIVE(gather,
          p->sampling->gather(p->indices, p->weight, p->maxima, VOCABULARY, 0.99f, 2))
PRIMITIVE(draws, p->sampling->draws(p->indices, 7, ~(uint64_t)0 / 100 * 99, 0, VOCABULARY))

static void count_products(struct primitive *p, int level)
{
    for (size_t rows = 1; rows <= ROWS_MAX; rows += ROWS_MAX - 1) {
        char name[64];
        p->product.rows = rows;
        snprintf(name, sizeof name, "product_i8.%zux%d", rows, UNITS);
        count(name, level, product_i8, p);
        snprintf(name, sizeof name, "product_bf16.%zux%d", rows, UNITS);
        count(name, level, product_bf16, p);
        snprintf(name, sizeof name, "product_wide.%zux%d", rows, UNITS);
        count(name, level, product_wide, p);
        snprintf(name, sizeof name, "product_f32.%zux%d", rows, UNITS);
        count(name, level, product_f32, p);
    }
}

static void count_primitives(int level)
{
    static int32_t starts[ROWS_MAX], table[POSITIONS / BLOCK];
    for (int i = 0; i < POSITIONS / BLOCK; i++) table[i] = i;
    struct primitive p = {
        .kernels = ck_kernels_select(level),
        .sampling = ck_sampling_select(level),
        .x = floats(HIDDEN),
        .y = floats(HIDDEN),
        .maxima = memory(VOCABULARY / CK_SAMPLING_BLOCK * sizeof(float)),
        .weight = floats(VOCABULARY),
        .codes = memory(HIDDEN),
        .indices = memory(VOCABULARY * sizeof(int32_t)),
        .halves = memory(HIDDEN * 2),
        .panel = memory(UNITS * CK_PANEL * 4),
    };
    p.product = (struct ck_product){
        .y = memory(ROWS_MAX * CK_PANEL * sizeof(float)),
        .y_stride = CK_PANEL,
        .x = floats(UNITS * 2 * ROWS_MAX),
        .w = floats(UNITS * CK_PANEL),
        .units = UNITS,
        .starts = starts,
        .scale = floats(CK_PANEL),
        .token_scales = floats(ROWS_MAX),
    };
    p.attention = (struct ck_attention){
        .output = memory(HEADS * LATENT * sizeof(float)),
        .queries = floats(HEADS * WIDTH),
        .cache = floats(POSITIONS * WIDTH),
        .table = table,
        .scratch = memory(HEADS * (CK_POSITION_TILE + 2) * sizeof(float)),
        .heads = HEADS,
        .length = POSITIONS,
        .block_size = BLOCK,
        .latent = LATENT,
        .width = WIDTH,
        .scale = 0.1f,
    };
    for (int i = 0; i < CK_PANEL; i++) p.rows[i] = p.weight + i * UNITS;
    count_products(&p, level);
    count("transpose.32x256", level, transpose, &p);
    count("narrow_bf16.1024", level, narrow_bf16, &p);
    count("rms_norm.1024", level, rms_norm, &p);
    count("quantize_static.1024", level, quantize_static, &p);
    count("quantize_dynamic.1024", level, quantize_dynamic, &p);
    count("silu_multiply.1024", level, silu_multiply, &p);
    count("attention.16x256", level, attention, &p);
    count("weigh.64", level, weigh, &p);
    count("sampling_scan.32768", level, scan, &p);
    count("sampling_sum.32768", level, exponential_sum, &p);
    count("sampling_masses.32768", level, masses, &p);
    count("sampling_gather.32768", level, gather, &p);
    count("sampling_draws.32768", level, draws, &p);
}

// ---- Stages, with one thread -----------------------------------------------------------------

struct stage {
    struct ck_engine *engine;
    struct ck_linear linear;
    struct ck_mlp experts[EXPERTS];
    size_t rows;
    float *x, *y;
    const float *const *inputs;
    float *const *outputs;
    const size_t *starts;
    struct ck_latent_attention attention;
};

static struct ck_linear packed(struct ck_engine *engine, int kind, size_t outputs, size_t inputs)
{
    float *values = floats(outputs * inputs), *scales = memory((outputs + CK_PANEL) * 4);
    struct ck_weights source = {CK_F32, values, inputs, 1};
    void *weight = memory(ck_packed_bytes(kind, outputs, inputs));
    ck_pack(engine, weight, scales, kind, outputs, inputs, &source);
    free(values);
    return (struct ck_linear){
        .kind = kind, .outputs = outputs, .inputs = inputs, .weight = weight, .scale = scales};
}

static void linear(const void *context)
{
    const struct stage *s = context;
    ck_linear_apply(s->engine, &s->linear, s->y, HIDDEN, s->x, HIDDEN, s->rows);
}

static void mlp(const void *context)
{
    const struct stage *s = context;
    ck_mlp_apply(s->engine, &s->experts[0], s->y, s->x, s->rows);
}

static void experts(const void *context)
{
    const struct stage *s = context;
    ck_experts_apply(s->engine, s->experts, s->starts, EXPERTS, s->inputs, s->outputs);
}

static void latent_attention(const void *context)
{
    const struct stage *s = context;
    ck_latent_attention_apply(s->engine, &s->attention);
}

// Some numbers as a cache of `kind` holds them.
static void *make_cache(int kind)
{
    size_t bytes = ck_latent_entry_bytes(kind, LATENT, ROPE);
    uint8_t *cache = memory(POSITIONS * bytes);
    for (size_t i = 0; i < POSITIONS * bytes; i += 2) {
        uint16_t half = (uint16_t)(0x3e00 + i / 2 % 256);
        memcpy(cache + i, &half, sizeof half);
    }
    return cache;
}

static struct ck_latent_attention make_attention(struct ck_engine *engine, int cache_kind)
{
    static int32_t table[POSITIONS / BLOCK], table_start, position = POSITIONS - 1;
    for (int i = 0; i < POSITIONS / BLOCK; i++) table[i] = i;
    struct ck_linear *keys = memory(2 * HEADS * sizeof *keys);
    for (int head = 0; head < HEADS; head++) {
        keys[head] = packed(engine, CK_BF16, LATENT, NOPE);
        keys[HEADS + head] = packed(engine, CK_BF16, VALUE, LATENT);
    }
    return (struct ck_latent_attention){
        .output = memory(HEADS * VALUE * sizeof(float)),
        .queries = floats(HEADS * (NOPE + ROPE)),
        .cache = make_cache(cache_kind),
        .cache_kind = cache_kind,
        .tables = table,
        .table_starts = &table_start,
        .positions = &position,
        .keys = keys,
        .values = keys + HEADS,
        .rows = 1,
        .heads = HEADS,
        .nope = NOPE,
        .rope = ROPE,
        .value = VALUE,
        .latent = LATENT,
        .block_size = BLOCK,
        .scale = 0.1f,
    };
}

static void count_stages(int level, int kind, const char *kind_name)
{
    struct stage s = {
        .engine = ck_engine_create(level, 1),
        .x = floats(ROWS_MAX * HIDDEN),
        .y = memory(EXPERTS * HIDDEN * sizeof(float) + ROWS_MAX * HIDDEN * sizeof(float)),
    };
    if (!s.engine) abort();
    s.linear = packed(s.engine, kind, HIDDEN, HIDDEN);
    const float *inputs[EXPERTS];
    float *outputs[EXPERTS];
    size_t starts[EXPERTS + 1];
    for (size_t e = 0; e < EXPERTS; e++) {
        s.experts[e].gate = packed(s.engine, kind, INNER, HIDDEN);
        s.experts[e].up = packed(s.engine, kind, INNER, HIDDEN);
        s.experts[e].down = packed(s.engine, kind, HIDDEN, INNER);
        starts[e] = e;
        inputs[e] = s.x;
        outputs[e] = s.y + e * HIDDEN;
    }
    starts[EXPERTS] = EXPERTS;
    s.inputs = inputs;
    s.outputs = outputs;
    s.starts = starts;
    char name[64];
    for (s.rows = 1; s.rows <= ROWS_MAX; s.rows += ROWS_MAX - 1) {
        snprintf(name, sizeof name, "linear_%s.%zux1024x1024", kind_name, s.rows);
        count(name, level, linear, &s);
        snprintf(name, sizeof name, "mlp_%s.%zux1024x512", kind_name, s.rows);
        count(name, level, mlp, &s);
    }
    snprintf(name, sizeof name, "experts_%s.8x1024x512", kind_name);
    count(name, level, experts, &s);
    if (kind == CK_BF16) {
        s.attention = make_attention(s.engine, CK_BF16);
        count("latent_attention_bf16.16x256", level, latent_attention, &s);
        s.attention = make_attention(s.engine, CK_INT8_DYNAMIC);
        count("latent_attention_int8.16x256", level, latent_attention, &s);
    }
}

int main(void)
{
    // callgrind writes to the same terminal.
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof LEVELS / sizeof *LEVELS; i++) {
        int level = LEVELS[i];
        if (!ck_kernels_select(level) || !ck_sampling_select(level)) continue;
        count_primitives(level);
        // The reference is the specification: its products are counted above.
        if (level == CK_REFERENCE) continue;
        count_stages(level, CK_INT8_DYNAMIC, "i8");
        count_stages(level, CK_BF16, "bf16");
    }
    return 0;
}
