// The specification of the products with packed panels and of their layouts.
#include "ck_internal.h"

#pragma STDC FP_CONTRACT OFF

static void product_i8(const struct ck_product *p)
{
    const int8_t *x = p->x;
    const uint8_t *w = p->w;
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t o = 0; o < CK_PANEL; o++) {
            int32_t sum = p->starts[r];
            for (size_t unit = 0; unit < p->units; unit++) {
                for (size_t i = 0; i < 4; i++) {
                    sum += (int32_t)x[(unit * p->rows + r) * 4 + i] *
                           (int32_t)w[(unit * CK_PANEL + o) * 4 + i];
                }
            }
            // The sum wraps, as it does in the vector versions.
            if (p->bias) sum = (int32_t)((uint32_t)sum + (uint32_t)p->bias[o]);
            float value = (float)sum * p->scale[o];
            p->y[r * p->y_stride + o] = p->token_scales ? value * p->token_scales[r] : value;
        }
    }
}

// `wide`: activations are F32, else BF16 pairs. The weights are BF16 pairs.
static void products(const struct ck_product *p, int wide)
{
    const uint16_t *w = p->w, *narrow = p->x;
    const float *x = p->x;
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t o = 0; o < CK_PANEL; o++) {
            float sum = p->accumulate ? p->y[r * p->y_stride + o] : 0;
            for (size_t i = 0; i < p->units * 2; i++) {
                float value = wide ? x[i * p->rows + r]
                                   : ck_bf16(narrow[(i / 2 * p->rows + r) * 2 + i % 2]);
                sum += value * ck_bf16(w[(i / 2 * CK_PANEL + o) * 2 + i % 2]);
            }
            p->y[r * p->y_stride + o] = sum;
        }
    }
}

static void product_wide(const struct ck_product *p) { products(p, 1); }
static void product_bf16(const struct ck_product *p) { products(p, 0); }

static void product_f32(const struct ck_product *p)
{
    const float *x = p->x, *w = p->w;
    for (size_t r = 0; r < p->rows; r++) {
        for (size_t o = 0; o < CK_PANEL; o++) {
            float sum = p->accumulate ? p->y[r * p->y_stride + o] : 0;
            for (size_t unit = 0; unit < p->units; unit++) {
                sum += x[unit * p->rows + r] * w[unit * CK_PANEL + o];
            }
            p->y[r * p->y_stride + o] = sum;
        }
    }
}

void ck_plain_transpose(uint32_t *panel, const void *const *rows, size_t units)
{
    for (size_t unit = 0; unit < units; unit++) {
        for (size_t o = 0; o < CK_PANEL; o++) {
            uint32_t value = 0;
            if (rows[o]) memcpy(&value, (const uint8_t *)rows[o] + unit * 4, sizeof value);
            panel[unit * CK_PANEL + o] = value;
        }
    }
}

void ck_plain_pair_rows(uint16_t *panels, const uint16_t *const *rows, size_t count,
                        size_t columns)
{
    size_t panel_size = count * CK_PANEL;
    for (size_t row = 0; row < count; row++) {
        for (size_t column = 0; column < ck_blocks(columns, CK_PANEL) * CK_PANEL; column++) {
            uint16_t *panel = panels + column / CK_PANEL * panel_size;
            uint16_t value = rows[row] && column < columns ? rows[row][column] : 0;
            panel[(row / 2 * CK_PANEL + column % CK_PANEL) * 2 + row % 2] = value;
        }
    }
}

void ck_plain_narrow_bf16(uint16_t *y, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        y[i] = x[i] == x[i] ? (uint16_t)rounded : (uint16_t)(bits >> 16 | 0x40);
    }
}

static void widen_codes(uint16_t *y, const int8_t *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float value = x[i];
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        // A code has at most 8 significant bits: the rest is 0.
        y[i] = (uint16_t)(bits >> 16);
    }
}

const struct ck_panel_kernels ck_reference_panel = {
    .product_i8 = product_i8,
    .product_bf16 = product_bf16,
    .product_wide = product_wide,
    .product_f32 = product_f32,
    .transpose = ck_plain_transpose,
    .pair_rows = ck_plain_pair_rows,
    .narrow_bf16 = ck_plain_narrow_bf16,
    .widen_codes = widen_codes,
};
