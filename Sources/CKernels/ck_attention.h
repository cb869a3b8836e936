// What the two kinds of latent attention share.
#ifndef PHALANX_CK_ATTENTION_H
#define PHALANX_CK_ATTENTION_H

#include "ck_internal.h"

#pragma clang assume_nonnull begin

struct ck_attention_job {
    const struct ck_kernels *kernels;
    const struct ck_latent_attention *a;
    size_t first_row, rows;
    float *queries;  // [rows, heads, latent + rope] in the latent space
    float *latents;  // [rows, heads, latent] attended
    uint8_t *scratch;
    size_t scratch_bytes;  // of one thread, a multiple of 64
};

enum { RUN_ROWS = 128 };  // [heads, queries] of a task that computes a part of a run

// Neighbouring queries of one sequence.
struct ck_attention_run {
    size_t first, queries;
};

// Attention over a BF16 or an int8 cache by products of BF16: fills job->latents. By panels
// (ck_attention_bf16.c), or by tiles of AMX (ck_amx_attention.c).
struct ck_attention_form {
    size_t (*scratch)(const struct ck_latent_attention *a);  // bytes of one thread
    // `row_work`: multiplications of the longest row and CK_HEAD_TILE heads.
    void (*attend)(struct ck_engine *engine, struct ck_attention_job *job, size_t row_work);
    // The whole stage, from the queries to the output, for long runs; NULL: there is no such form.
    // Keys and values must have row-major activations.
    void (*_Nullable attend_runs)(struct ck_engine *engine, struct ck_attention_job *job,
                                  const struct ck_attention_run *runs, size_t count);
};

#pragma clang assume_nonnull end
#endif
