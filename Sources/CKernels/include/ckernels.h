// The CPU kernels: what the engine worker computes with.
//
// Two layers. `struct ck_kernels` is a table of single-threaded primitives with one implementation
// per instruction set; ck_reference.c is their specification. `ck_<stage>` functions below spread
// a whole stage over a thread pool and call primitives only.
//
// The rule of this folder: BATCH INVARIANCE. Inside one level, the result for a row (and, in
// attention, for a query) has the same bits whatever other rows are in the call, however the rows
// are tiled and however many threads there are. So each (row, output) pair has one fixed order of
// additions, which no tile shape may change.
//
// Arrays are row-major, outermost dimension first, sizes count elements, strides are the distance
// of rows in elements. Outputs come first and overlap no input unless a comment says so.
#ifndef PHALANX_CKERNELS_H
#define PHALANX_CKERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "ck_sampling.h"

#pragma clang assume_nonnull begin

enum {
    CK_REFERENCE = 0,  // plain C, the specification
    CK_PORTABLE = 1,   // what a CPU without AVX2 runs; the same functions as CK_REFERENCE
    CK_AVX2 = 2,       // AVX2 and FMA
    CK_AVX512 = 3,     // AVX-512 F, BW, VL, DQ and VNNI
    CK_AVX512_BF16 = 4,
    CK_AMX = 5,  // AVX-512 BF16, and tiles of int8 and BF16
};

enum {
    CK_EXPERTS_MAX = 1024,
    CK_EXPERT_GROUPS_MAX = 64,
    CK_POSITION_TILE = 64,  // positions that one step of the softmax takes; counted from 0
    CK_HEAD_TILE = 16,      // heads that one attention task takes
    CK_THREADS_MAX = 512,
    CK_PANEL = 32,          // outputs of a packed panel of weights
    CK_TILE_ROWS = 12,      // rows of a tile of activations, at most: of the vector levels
    CK_AMX_ROWS = 32,       // and of products that AMX computes
    CK_TILE_ROWS_MAX = 32,  // of any level
};

struct ck_kernels;
struct ck_attention_form;

// One query token against its sequence, for a group of heads, in the absorbed MLA form.
struct ck_attention {
    float *output;         // [heads, latent] sum over positions of softmax * latent
    const float *queries;  // [heads, width] latent query, then rotated query
    const float *cache;    // [blocks, block_size, width] latent, then rotated key
    const int32_t *table;  // [ceil(length / block_size)] block numbers
    float *scratch;        // [heads, CK_POSITION_TILE + 2]
    size_t heads;          // at most CK_HEAD_TILE
    size_t length;         // positions seen: 0 ..< length, at least 1
    size_t block_size;
    size_t latent;
    size_t width;  // latent + rope
    float scale;   // of the scores, before the softmax
};

// Rows times one panel of packed weights. Both sides are cut along the depth into units of 4 bytes:
// 4 int8 codes, a pair of BF16 numbers, or one F32 number. What lies beyond the depth is 0.
struct ck_product {
    float *y;            // [rows, CK_PANEL], y_stride
    size_t y_stride;
    const void *x;       // tile [units, rows] of 4 bytes; product_wide: F32 [units, 2, rows];
                         // row-major kernels: [rows, x_stride], zeros behind the depth;
                         // readable up to a multiple of 16 rows
    size_t x_stride;     // bytes from row to row, a multiple of 64; row-major kernels only
    const void *w;       // panel [units, CK_PANEL] of 4 bytes; int8 codes are stored plus 128
    size_t rows;         // 1 ... CK_TILE_ROWS, or row_major_rows
    size_t part, parts;  // this product is one of `parts` with the panel, or 0: row-major
                         // kernels ask for that part of `next` meanwhile
    const void *_Nullable next;  // panel that is read after this one
    size_t units;
    int accumulate;      // adds to y instead of overwriting it; not for int8
    // int8 only: y = f32(sum + bias) * scale, or f32(sum) * scale * token_scales[row]
    const int32_t *_Nullable starts;      // [rows] -128 times the sum of the row's codes
    const int32_t *_Nullable bias;        // [CK_PANEL]
    const float *_Nullable scale;         // [CK_PANEL]
    const float *_Nullable token_scales;  // [rows]
};

// Products with packed weights. Every (row, output) pair has one accumulator that takes the depth
// in rising order.
struct ck_panel_kernels {
    // Not 0: product_i8 and product_bf16 take up to so many rows, and take them row-major.
    size_t row_major_rows;
    void (*product_i8)(const struct ck_product *);
    void (*product_bf16)(const struct ck_product *);  // BF16 activations and weights
    void (*product_wide)(const struct ck_product *);  // F32 activations, BF16 weights
    void (*product_f32)(const struct ck_product *);
    // panel[unit, r] = rows[r][unit], in units of 4 bytes; a row that is NULL counts as zeros
    void (*transpose)(uint32_t *panel,                                   // [units, CK_PANEL]
                      const void *_Nullable const *_Nonnull rows,       // [CK_PANEL] -> [units]
                      size_t units);
    // Packs rows as the weights of a product over their count: outputs are columns.
    void (*pair_rows)(uint16_t *panels,  // [ceil(columns / CK_PANEL), count / 2, CK_PANEL, 2]
                      const uint16_t *_Nullable const *_Nonnull rows,  // [count] -> [columns]
                      size_t count,                                    // even
                      size_t columns);
    void (*narrow_bf16)(uint16_t *y, const float *x, size_t count);  // to nearest, ties to even
    void (*widen_codes)(uint16_t *y, const int8_t *x, size_t count);  // to BF16, exactly
};

struct ck_kernels {
    int level;
    const struct ck_panel_kernels *panel;
    const struct ck_attention_form *attention_bf16;  // over a BF16 or an int8 cache
    // y[r, o] = sum over i of x[r, i] * w[o, i]
    void (*matmul_f32)(float *y,        // [rows, outputs], y_stride
                       size_t y_stride,
                       const float *x,  // [rows, inputs], x_stride
                       size_t x_stride,
                       const float *w,  // [outputs, inputs], w_stride
                       size_t w_stride, size_t rows, size_t outputs, size_t inputs);
    // y[r, n] += sum over k of x[r, k] * b[k, n], in rising k
    void (*accumulate_f32)(float *y,        // [rows, columns], y_stride; read and written
                           size_t y_stride,
                           const float *x,  // [rows, depth], x_stride
                           size_t x_stride,
                           const float *b,  // [depth, columns], b_stride
                           size_t b_stride, size_t rows, size_t columns, size_t depth);
    // y = x / sqrt(mean(x^2) + epsilon) * weight + bias; y may be x
    void (*rms_norm)(float *y,                        // [count]
                     const float *x,                  // [count]
                     const float *weight,             // [count]
                     const float *_Nullable bias,     // [count]
                     float epsilon, size_t count);
    // y = clamp(rint(x / scale + offset), -128, 127), ties to even; NaN gives -128. `sum` of y.
    void (*quantize_static)(int8_t *y, int32_t *sum, const float *x, float scale, float offset,
                            size_t count);
    // Returns s = max|x| / 127; y = rint(x / s), or rint(x) when s is 0. `sum` of y.
    float (*quantize_dynamic)(int8_t *y, int32_t *sum, const float *x, size_t count);
    // gate = gate / (1 + exp(-gate)) * up
    void (*silu_multiply)(float *gate, const float *up, size_t count);
    // x = exp(x - maximum); returns the sum
    float (*exponentials)(float *x, float maximum, size_t count);
    float (*maximum)(const float *x, size_t count);  // count at least 1
    void (*scale)(float *x, float factor, size_t count);
    void (*multiply_add)(float *y, const float *x, float factor, size_t count);
    void (*attention)(const struct ck_kernels *, const struct ck_attention *);
    // One row of a running softmax over the first `count` of CK_POSITION_TILE scores, at least 1.
    // With s = scale, times the position's of `scales` if there are any: m = max(largest, max of
    // scores * s); weights = exp(scores * s - m), which is multiplied by the position's of `scales`
    // and rounded to BF16, 0 beyond `count`. Returns exp(largest - m) for what was summed before;
    // largest becomes m, total becomes total times that plus the sum of exp(scores * s - m).
    float (*weigh)(uint16_t *weights,              // [CK_POSITION_TILE]
                   const float *scores,            // [CK_POSITION_TILE]
                   const float *_Nullable scales,  // [CK_POSITION_TILE]
                   float scale, size_t count, float *largest, float *total);
};

// NULL when this CPU cannot run the level or the number names none.
const struct ck_kernels *_Nullable ck_kernels_select(int level);
// What a level needs and does not find here; NULL where it runs.
const char *_Nullable ck_kernels_refusal(int level);
// The highest level that this CPU runs.
int ck_kernels_best(void);

// ---- Thread pool -----------------------------------------------------------------------------

// Threads that share the work of one caller. Idle threads sleep. One caller at a time.
struct ck_pool;
// `threads` counts the caller: 1 starts none. NULL when threads cannot be started.
struct ck_pool *_Nullable ck_pool_create(size_t threads);
void ck_pool_destroy(struct ck_pool *pool);
size_t ck_pool_threads(const struct ck_pool *pool);
// Calls task(context, item, thread) once for every item in 0 ..< items; `thread` is below the
// pool's count and is used by one thread at a time.
typedef void (*ck_task)(void *context, size_t item, size_t thread);
void ck_pool_run(struct ck_pool *pool, size_t items, ck_task task, void *context);

// ---- Stages ----------------------------------------------------------------------------------

enum {
    CK_BF16 = 0,
    CK_F32 = 1,
    CK_INT8_STATIC = 2,   // one scale and offset for all activations (Ascend W8A8)
    CK_INT8_DYNAMIC = 3,  // one scale per token (Ascend W8A8_DYNAMIC)
};

// A linear layer with packed weights; see ck_pack. Arrays by output are padded to whole panels.
struct ck_linear {
    int32_t kind;
    int32_t wide;        // BF16 weights: activations stay F32 instead of being rounded to BF16
    float input_scale;   // static only
    float input_offset;  // static only
    size_t outputs;
    size_t inputs;
    const void *weight;              // ck_packed_bytes(kind, outputs, inputs)
    const float *_Nullable scale;    // int8: [outputs]; static: of sums; dynamic: of weights
    const int32_t *_Nullable bias;   // static: [outputs], added to sums
};

// Weights as a checkpoint has them.
struct ck_weights {
    int32_t kind;  // CK_BF16, CK_F32, or CK_INT8_DYNAMIC for any int8
    const void *data;
    size_t output_stride, input_stride;  // in elements
};

struct ck_mlp {
    struct ck_linear gate;  // [inner, hidden]
    struct ck_linear up;    // [inner, hidden]
    struct ck_linear down;  // [hidden, inner]
};

// Kernels, pool and scratch of one caller. Scratch grows to what was asked for and stays.
struct ck_engine;
struct ck_engine *_Nullable ck_engine_create(int level, size_t threads);
void ck_engine_destroy(struct ck_engine *engine);

// Bytes of packed weights; a multiple of 128.
size_t ck_packed_bytes(int kind, size_t outputs, size_t inputs);
// Packs BF16 or F32 weights as CK_BF16 (rounded) or CK_F32 (F32 only), int8 ones as int8, and BF16
// or F32 ones as CK_INT8_DYNAMIC: rint(w / s) with s = max|w| / 127 for each output.
void ck_pack(struct ck_engine *engine,
             void *packed,              // ck_packed_bytes, aligned to 64 bytes
             float *_Nullable scales,   // [outputs], written when int8 is made of floats
             int kind, size_t outputs, size_t inputs, const struct ck_weights *source);

// y = x . weight^T
void ck_linear_apply(struct ck_engine *engine, const struct ck_linear *linear,
                     float *y,        // [rows, outputs], y_stride
                     size_t y_stride,
                     const float *x,  // [rows, inputs], x_stride
                     size_t x_stride, size_t rows);
// y = down(silu(gate(x)) * up(x))
void ck_mlp_apply(struct ck_engine *engine, const struct ck_mlp *mlp,
                  float *y,        // [rows, hidden]
                  const float *x,  // [rows, hidden]
                  size_t rows);
// Runs every assignment through its expert. Assignments are sorted by expert.
void ck_experts_apply(struct ck_engine *engine,
                      const struct ck_mlp *experts,           // [count], equal shapes
                      const size_t *starts,                   // [count + 1] first assignment
                      size_t count,
                      const float *_Nonnull const *_Nonnull inputs,  // [assignments] -> [hidden]
                      float *_Nonnull const *_Nonnull outputs);      // [assignments] -> [hidden]
// The halves of it, for experts of which this process has a slice of the inner activations
// (gate and up) and one of the outputs (down): silu(gate x) * (up x), and down x.
void ck_experts_gate(struct ck_engine *engine, const struct ck_mlp *experts, const size_t *starts,
                     size_t count,
                     const float *_Nonnull const *_Nonnull inputs,  // [assignments] -> [hidden]
                     float *_Nonnull const *_Nonnull outputs);  // [assignments] -> [inner slice]
void ck_experts_down(struct ck_engine *engine, const struct ck_mlp *experts, const size_t *starts,
                     size_t count,
                     const float *_Nonnull const *_Nonnull inputs,  // [assignments] -> [inner]
                     float *_Nonnull const *_Nonnull outputs);  // [assignments] -> [hidden slice]
void ck_norm_apply(struct ck_engine *engine,
                   float *y,                     // [rows, count], y_stride; may be x
                   size_t y_stride,
                   const float *x,               // [rows, count], x_stride
                   size_t x_stride,
                   const float *weight,          // [count]
                   const float *_Nullable bias,  // [count]
                   float epsilon, size_t rows, size_t count);
// y[r] = table[ids[r]]
void ck_embed(float *y,            // [rows, columns]
              const int32_t *ids,  // [rows]
              const void *table,   // [.., columns] of `kind`
              int kind,            // CK_BF16 or CK_F32
              size_t rows, size_t columns);
void ck_add(struct ck_engine *engine, float *y, const float *x, size_t count);
// y[r] = sum over slots, in rising slot, of weights[r, slot] * rows[r, slot]
void ck_weighted_sum(struct ck_engine *engine,
                     float *y,                                     // [rows, count]
                     const float *_Nonnull const *_Nonnull parts,  // [rows, slots] -> [count]
                     const float *weights,                         // [rows, slots]
                     size_t rows, size_t slots, size_t count);

// cosines[r, i] = cos(positions[r] * frequencies[i]) * magnitude; sines alike
void ck_rotary_tables(float *cosines,   // [rows, half]
                      float *sines,     // [rows, half]
                      const int32_t *positions, const double *frequencies, double magnitude,
                      size_t rows, size_t half);
// Rotates the pairs (2i, 2i + 1) in place.
void ck_rotate(float *x,              // [2 * half]
               const float *cosines,  // [half]
               const float *sines,    // [half]
               size_t half);

// Rotates the last `rope` elements of every head's query, in place.
void ck_rotate_queries(struct ck_engine *engine,
                       float *queries,        // [rows, heads, size]
                       const float *cosines,  // [rows, rope / 2]
                       const float *sines,    // [rows, rope / 2]
                       size_t rows, size_t heads, size_t size, size_t rope);
// Bytes of one position of a latent cache; a multiple of 4, or of 2 in BF16. Of kind
// CK_INT8_DYNAMIC it is a scale s in F32, the rotated key divided by s in BF16, and the codes of
// the latent, with s at least max|latent| / 127; see ck_latent_cache.c.
size_t ck_latent_entry_bytes(int kind, size_t latent, size_t rope);
// Writes cache[slots[r]] = rms_norm(first `latent` of x[r]), rotated last `rope` of x[r].
void ck_store_latents(struct ck_engine *engine,
                      void *cache,                  // [slots, ck_latent_entry_bytes]
                      int kind,                     // CK_F32, CK_BF16 or CK_INT8_DYNAMIC
                      const int32_t *slots,         // [rows], distinct
                      const float *x,               // [rows, latent + rope]
                      const float *weight,          // [latent]
                      const float *_Nullable bias,  // [latent]
                      float epsilon,
                      const float *cosines,  // [rows, rope / 2]
                      const float *sines,    // [rows, rope / 2]
                      size_t rows, size_t latent, size_t rope);

struct ck_latent_attention {
    float *output;          // [rows, heads, value]
    const float *queries;   // [rows, heads, nope + rope], the rope part rotated
    const void *cache;      // [blocks, block_size, ck_latent_entry_bytes]
    int cache_kind;         // CK_F32: sums of F32 products; CK_BF16, CK_INT8_DYNAMIC: of BF16 ones,
                            // where latent + rope must be even
    const int32_t *tables;  // block numbers
    const int32_t *table_starts;    // [rows] first entry of `tables` of the row's sequence
    const int32_t *positions;       // [rows]
    const struct ck_linear *keys;   // [heads] of [latent, nope]: queries to the latent space
    const struct ck_linear *values; // [heads] of [value, latent]
    size_t rows, heads, nope, rope, value, latent, block_size;
    float scale;
};
void ck_latent_attention_apply(struct ck_engine *engine, const struct ck_latent_attention *);

struct ck_router {
    size_t experts;      // at most CK_EXPERTS_MAX
    size_t groups;       // divides experts; at most CK_EXPERT_GROUPS_MAX
    size_t groups_kept;
    size_t chosen;       // experts per token
    float scale;
    int32_t normalize;   // whether the weights of a token are divided by their sum + 1e-20
};
// DeepSeek-V3's choice (arXiv 2412.19437, section 2.1.2): sigmoid scores; the bias takes part in
// choosing only; a group's score is the sum of its two best biased scores; of equals the lower
// index wins. Slots come in falling order of the biased score.
void ck_router_choose(int32_t *ids,         // [chosen]
                      float *weights,       // [chosen]
                      const float *logits,  // [experts]
                      const float *bias,    // [experts]
                      const struct ck_router *router);
void ck_router_apply(struct ck_engine *engine,
                     int32_t *ids,      // [rows, chosen]
                     float *weights,    // [rows, chosen]
                     float *logits,     // [rows, experts], left for tracing
                     const float *x,    // [rows, hidden]
                     const struct ck_linear *gate, const float *bias,
                     const struct ck_router *router, size_t rows);

// ---- Conversions of weights ------------------------------------------------------------------

void ck_widen_bf16(float *y, const uint16_t *x, size_t count);
void ck_widen_f16(float *y, const uint16_t *x, size_t count);
// E4M3 (OCP 8-bit floating point, no infinities; 0x7f and 0xff are NaN).
float ck_widen_e4m3(uint8_t code);
// y[o, i] = e4m3(x[o, i]) * scales[o / block, i / block]
void ck_dequantize_blocks(float *y,              // [outputs, inputs]
                          const uint8_t *x,      // [outputs, inputs]
                          const float *scales,   // [ceil(outputs/block), ceil(inputs/block)]
                          size_t outputs, size_t inputs, size_t block);
// Asks for huge pages behind a mapping; a wish, without effect where they are off.
void ck_prefer_huge_pages(void *start, size_t bytes);
// Takes the whole pages of a file's private mapping out of this process; they are read again when
// touched.
void ck_release_pages(const void *start, size_t bytes);
// Brings all pages of a file's mapping in now. 0, or the number of the error of the read.
int ck_populate(void *start, size_t bytes);

#pragma clang assume_nonnull end
#endif
