// Weight formats to float, exactly.
#include <math.h>

#include "ck_internal.h"

void ck_widen_bf16(float *y, const uint16_t *x, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] = ck_bf16(x[i]);
}

static float from_f16(uint16_t bits)
{
    int exponent = bits >> 10 & 0x1f;
    float mantissa = (float)(bits & 0x3ff);
    float value;
    if (exponent == 0) value = ldexpf(mantissa, -24);
    else if (exponent == 31) value = mantissa == 0 ? INFINITY : NAN;
    else value = ldexpf(mantissa + 1024.0f, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

void ck_widen_f16(float *y, const uint16_t *x, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] = from_f16(x[i]);
}

float ck_widen_e4m3(uint8_t code)
{
    int exponent = code >> 3 & 0xf;
    float mantissa = (float)(code & 7);
    float value;
    if ((code & 0x7f) == 0x7f) value = NAN;
    else if (exponent == 0) value = ldexpf(mantissa, -9);
    else value = ldexpf(mantissa + 8.0f, exponent - 10);
    return code & 0x80 ? -value : value;
}

void ck_dequantize_blocks(float *y, const uint8_t *x, const float *scales, size_t outputs,
                          size_t inputs, size_t block)
{
    float table[256];
    for (int code = 0; code < 256; code++) table[code] = ck_widen_e4m3((uint8_t)code);
    size_t blocks = ck_blocks(inputs, block);
    for (size_t o = 0; o < outputs; o++) {
        for (size_t i = 0; i < inputs; i++) {
            y[o * inputs + i] = table[x[o * inputs + i]] * scales[o / block * blocks + i / block];
        }
    }
}
