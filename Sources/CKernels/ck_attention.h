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
    size_t scratch_bytes;  // of one thread
};

// Attention over a BF16 cache, by products of BF16 (ck_attention_bf16.c): fills job->latents.
size_t ck_attention_bf16_scratch(const struct ck_latent_attention *a);
void ck_attend_bf16(struct ck_engine *engine, struct ck_attention_job *job, size_t row_work);

#pragma clang assume_nonnull end
#endif
