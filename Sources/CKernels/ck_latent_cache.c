// A latent cache of int8 numbers. A position is
//
//     scale s     F32
//     rotated key BF16 [rope]      k / s
//     latent      int8 [latent]    rint(c / s), ties to even
//
// and up to 3 bytes of padding. s = max|c| / 127, one for both parts: a score is then
// s * (query . [codes, k / s]) and an attended latent the sum of (weight * s) * codes, with codes
// that are exact in BF16.
//
// A latent of nearly nothing has the smallest scale, so that k / s is finite. What is no finite
// number makes the scale NaN, and with it every row that sees the position: as in a cache of
// floats, a broken checkpoint must not look like a working one.
#include <math.h>

#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

// Latents are normed to about 1: below 127 times this they are nothing beside other positions.
static const float SMALLEST_SCALE = 0x1p-40f;
// Of a rotated key: keeps k / s, and sums of products with it, far from the largest F32 number.
static const float SMALLEST_PART = 0x1p-64f;

enum { INFINITE = 0x7f800000 };  // bits from which on F32 numbers are not finite

size_t ck_latent_entry_bytes(int kind, size_t latent, size_t rope)
{
    if (kind == CK_F32) return (latent + rope) * sizeof(float);
    if (kind == CK_BF16) return (latent + rope) * sizeof(uint16_t);
    size_t bytes = sizeof(float) + rope * sizeof(uint16_t) + latent;
    return ck_blocks(bytes, sizeof(float)) * sizeof(float);
}

// Bits of max|x|. Without a sign they order as the numbers do, NaN after infinity.
static uint32_t largest_bits(const float *x, size_t count)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

static float number(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void ck_store_latent_codes(const struct ck_kernels *kernels, void *entry, float *x, size_t latent,
                           size_t rope)
{
    float *keys = x + latent, *scale = entry;
    uint16_t *stored = (uint16_t *)(scale + 1);
    int8_t *codes = (int8_t *)(stored + rope);
    uint32_t latent_bits = largest_bits(x, latent), key_bits = largest_bits(keys, rope);
    if (latent_bits >= INFINITE || key_bits >= INFINITE) {
        *scale = NAN;
        memset(stored, 0, rope * sizeof *stored + latent);
        return;
    }
    float s = number(latent_bits) / 127.0f, part = number(key_bits) * SMALLEST_PART;
    s = s > SMALLEST_SCALE ? s : SMALLEST_SCALE;
    s = s > part ? s : part;
    int32_t sum;
    kernels->quantize_static(codes, &sum, x, s, 0.0f, latent);
    for (size_t i = 0; i < rope; i++) keys[i] /= s;
    kernels->panel->narrow_bf16(stored, keys, rope);
    *scale = s;
}

float ck_load_latent_codes(const struct ck_panel_kernels *kernels, uint16_t *row,
                           const void *entry, size_t latent, size_t rope)
{
    const float *scale = entry;
    const uint16_t *keys = (const uint16_t *)(scale + 1);
    kernels->widen_codes(row, (const int8_t *)(keys + rope), latent);
    memcpy(row + latent, keys, rope * sizeof *row);
    return *scale;
}
