// The sampler's passes at every level, and which of them this CPU can run.
#include "ck_sampling.h"

#include <math.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF
// Vectors pass between inlined functions only, so no calling convention matters.
#pragma clang diagnostic ignored "-Wpsabi"

enum { LANES = 16 };
#define GAMMA 0x9e3779b97f4a7c15u
#define UNROLL _Pragma("clang loop unroll(full)")

typedef float f32x8 __attribute__((ext_vector_type(8)));
typedef float f32x16 __attribute__((ext_vector_type(16)));
typedef int32_t i32x16 __attribute__((ext_vector_type(16)));
typedef uint32_t u32x16 __attribute__((ext_vector_type(16)));
typedef double f64x8 __attribute__((ext_vector_type(8)));
typedef double f64x16 __attribute__((ext_vector_type(16)));
typedef int64_t i64x8 __attribute__((ext_vector_type(8)));
typedef uint64_t u64x8 __attribute__((ext_vector_type(8)));
typedef _Bool bool8 __attribute__((ext_vector_type(8)));
typedef _Bool bool16 __attribute__((ext_vector_type(16)));

#define TARGET
#define NAME(x) portable_##x
#define LEVEL CK_PORTABLE
#include "ck_sampling_passes.h"
#undef TARGET
#undef NAME
#undef LEVEL

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) avx2_##x
#define LEVEL CK_AVX2
#include "ck_sampling_passes.h"
#undef TARGET
#undef NAME
#undef LEVEL

#define TARGET                                                               \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"),    \
                   min_vector_width(512)))
#define NAME(x) avx512_##x
#define LEVEL CK_AVX512
#include "ck_sampling_passes.h"
#undef TARGET
#undef NAME
#undef LEVEL
#endif

const struct ck_sampling *ck_sampling_select(int level)
{
    if (!ck_kernels_select(level)) return NULL;
#if defined(__x86_64__)
    if (level >= CK_AVX512) return &avx512_table;
    if (level == CK_AVX2) return &avx2_table;
#endif
    return &portable_table;
}

struct ck_pool *ck_engine_pool(const struct ck_engine *engine) { return engine->pool; }
