// What the files with AMX share: the tile registers and their shapes.
//
// A tile has up to 16 rows of 64 bytes. One instruction multiplies a tile of activations, by rows,
// with one of weights, whose rows are units of 4 bytes of 16 outputs: the layout of packed panels.
// It costs the same whatever the number of rows. Registers 0 to 3 are sums, two rows of two tiles;
// 4 and 5 are activations, 6 and 7 weights.
#ifndef PHALANX_CK_AMX_H
#define PHALANX_CK_AMX_H
#if defined(__x86_64__)
#include <immintrin.h>

#include "ck_internal.h"

#define TARGET                                                                                   \
    __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,"       \
                          "avx512bf16,avx512vnni,avx2,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum {
    CK_TILE_SIDE = 16,    // rows of a tile, and outputs of one of weights
    CK_TILE_BYTES = 64,   // of a row of a tile
    CK_TILE_UNITS = 16,   // units of depth that one instruction takes
};

// The operand of LDTILECFG (Intel 64 and IA-32 manual, volume 1, section 18.3).
struct ck_tile_shapes {
    _Alignas(64) uint8_t palette;
    uint8_t first_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
extern const struct ck_tile_shapes ck_tile_shapes;
extern _Thread_local int ck_tiles_are_shaped;

// Makes all tiles of this thread whole ones. LDTILECFG takes as long as a dozen products, so a
// thread does it once and keeps the shape; fewer rows are padded.
INLINE void ck_shape_tiles(void)
{
    if (ck_tiles_are_shaped) return;
    _tile_loadconfig(&ck_tile_shapes);
    ck_tiles_are_shaped = 1;
}

#endif
#endif
