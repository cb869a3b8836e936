// Which kernels this CPU can run.
#include "ck_internal.h"

const struct ck_kernels *ck_kernels_select(int level)
{
    switch (level) {
    case CK_REFERENCE:
    case CK_PORTABLE:
        return &ck_reference_kernels;
#if defined(__x86_64__)
    case CK_AVX2:
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return NULL;
        return &ck_avx2_kernels;
    case CK_AVX512:
        if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) return NULL;
        if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) return NULL;
        if (!__builtin_cpu_supports("avx512vnni")) return NULL;
        return &ck_avx512_kernels;
    case CK_AVX512_BF16:
        if (!__builtin_cpu_supports("avx512bf16")) return NULL;
        return ck_kernels_select(CK_AVX512) ? &ck_avx512_bf16_kernels : NULL;
#endif
    default:
        return NULL;
    }
}

int ck_kernels_best(void)
{
    for (int level = CK_AVX512_BF16; level > CK_PORTABLE; level--) {
        if (ck_kernels_select(level)) return level;
    }
    return CK_PORTABLE;
}
