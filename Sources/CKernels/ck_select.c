// Which kernels this CPU can run.
#include "ck_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    REQUEST_STATE = 0x1023,  // arch_prctl's ARCH_REQ_XCOMP_PERM, Linux 5.16
    TILE_DATA = 18,          // XFEATURE_XTILEDATA
};

static const char *amx_refusal(void)
{
    unsigned a, b, c, d = 0;
    const unsigned bf16 = 1u << 22, tile = 1u << 24, int8 = 1u << 25;
    __get_cpuid_count(7, 0, &a, &b, &c, &d);
    if ((d & (bf16 | tile | int8)) != (bf16 | tile | int8)) {
        return "it has no AMX-TILE, AMX-INT8 and AMX-BF16";
    }
    // Tiles trap until the system is asked for them; it then grants them to all threads of the
    // process, of now and later.
    if (syscall(SYS_arch_prctl, REQUEST_STATE, TILE_DATA) != 0) {
        return "the system gives this process no AMX tiles (Linux does from version 5.16)";
    }
    return NULL;
}

const char *ck_kernels_refusal(int level)
{
    switch (level) {
    case CK_REFERENCE:
    case CK_PORTABLE:
        return NULL;
    case CK_AVX2:
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return NULL;
        return "it has no AVX2 and FMA";
    case CK_AVX512:
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vnni")) {
            return NULL;
        }
        return "it has no AVX-512 F, BW, VL, DQ and VNNI";
    case CK_AVX512_BF16:
        if (!__builtin_cpu_supports("avx512bf16")) return "it has no AVX-512 BF16";
        return ck_kernels_refusal(CK_AVX512);
    case CK_AMX: {
        const char *refusal = ck_kernels_refusal(CK_AVX512_BF16);
        return refusal ? refusal : amx_refusal();
    }
    default:
        return "there is no such level";
    }
}

static const struct ck_kernels *kernels_of(int level)
{
    switch (level) {
    case CK_AVX2:
        return &ck_avx2_kernels;
    case CK_AVX512:
        return &ck_avx512_kernels;
    case CK_AVX512_BF16:
        return &ck_avx512_bf16_kernels;
    case CK_AMX:
        return &ck_amx_kernels;
    default:
        return &ck_reference_kernels;
    }
}
#else
const char *ck_kernels_refusal(int level)
{
    return level == CK_REFERENCE || level == CK_PORTABLE ? NULL : "it is no x86-64";
}

static const struct ck_kernels *kernels_of(int level)
{
    (void)level;
    return &ck_reference_kernels;
}
#endif

const struct ck_kernels *ck_kernels_select(int level)
{
    return ck_kernels_refusal(level) ? NULL : kernels_of(level);
}

int ck_kernels_best(void)
{
    for (int level = CK_AMX; level > CK_PORTABLE; level--) {
        if (ck_kernels_select(level)) return level;
    }
    return CK_PORTABLE;
}
