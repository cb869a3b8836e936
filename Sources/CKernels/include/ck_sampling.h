// Passes over rows of logits: what the engine worker's sampler computes with.
//
// `struct ck_sampling` is a table of single-threaded functions of their arguments alone. All
// levels come from one source, ck_sampling_passes.h, and give THE SAME BITS: additions have an
// order fixed by 16 lanes and by blocks, a multiply and an add are never contracted, and e^x is
// one polynomial. So a token does not depend on the CPU that chose it.
//
// A row is cut into blocks of CK_SAMPLING_BLOCK logits, the last of which may be shorter. A pass
// that is given the blocks' maxima reads only blocks that matter to it.
#ifndef PHALANX_CK_SAMPLING_H
#define PHALANX_CK_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum {
    CK_SAMPLING_BLOCK = 256,
    CK_SAMPLING_THRESHOLDS = 8,
};

struct ck_engine;
struct ck_pool;

struct ck_sampling {
    int level;
    // Writes every block's maximum (NaN never is one; of nothing but NaN it is -infinity).
    // Returns the first index whose value is NaN or +infinity; `count` where there is none.
    size_t (*scan)(float *maxima,        // [ceil(count / block)]
                   const float *values,  // [count]
                   size_t count);
    // Sum of e^(value - largest), relative error below 2e-7.
    double (*sum)(const float *values,  // [count], none above `largest`; -infinity gives 0
                  size_t count,
                  float largest);       // finite
    // masses[k] = sum of e^((value - largest) * factor) over values at or above thresholds[k],
    // relative error below 2e-6.
    void (*masses)(double *masses,           // [CK_SAMPLING_THRESHOLDS]
                   const float *values,      // [count], none above `largest`
                   const float *maxima,      // as written by `scan`
                   size_t count, float largest, float factor,
                   const float *thresholds); // [CK_SAMPLING_THRESHOLDS], falling or equal
    // How many values are above `threshold`.
    size_t (*count_above)(const float *values, const float *maxima, size_t count,
                          float threshold);
    // Lists the indices of values in low ..< high, in rising order; returns how many.
    size_t (*gather)(int32_t *indices,     // room for all
                     const float *values, const float *maxima, size_t count, float low,
                     float high);
    // Lists those of the indices first ..< first + count whose output of the SplitMix64 stream
    // that starts at `start` (output n is mix(start + (n + 1) * gamma)) is `least` or more.
    size_t (*draws)(int32_t *indices,  // room for `count`
                    uint64_t start, uint64_t least, int32_t first, size_t count);
};

// NULL when this CPU cannot run the level (see ckernels.h) or the number names none.
const struct ck_sampling *_Nullable ck_sampling_select(int level);

// The threads of an engine, for work that is not a stage of the model.
struct ck_pool *ck_engine_pool(const struct ck_engine *engine);

#pragma clang assume_nonnull end
#endif
