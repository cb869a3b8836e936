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

// Attention over a BF16 or an int8 cache by products of BF16: fills job->latents. By panels
// (ck_attention_bf16.c), or by tiles of AMX (ck_amx_attention.c).
struct ck_attention_form {
    size_t (*scratch)(const struct ck_latent_attention *a);  // bytes of one thread
    // `row_work`: multiplications of the longest row and CK_HEAD_TILE heads.
    void (*attend)(struct ck_engine *engine, struct ck_attention_job *job, size_t row_work);
};

#pragma clang assume_nonnull end
#endif
