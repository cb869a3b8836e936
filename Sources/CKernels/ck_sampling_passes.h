// The passes of ck_sampling.h, written once over vectors of 16 lanes. ck_sampling.c includes this
// file once a level, with TARGET (the level's instructions) and NAME(x) (the level's names).
//
// Only operations that IEEE 754 defines to the bit are used, on lanes, so that each level's code
// is a different spelling of the same function.

#define INLINE TARGET static inline __attribute__((always_inline))

// The `count` values, then -infinity.
INLINE f32x16 NAME(load)(const float *values, size_t count)
{
    f32x16 vector;
    if (count >= LANES) {
        memcpy(&vector, values, sizeof vector);
        return vector;
    }
    float padded[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        padded[lane] = lane < count ? values[lane] : -INFINITY;
    }
    memcpy(&vector, padded, sizeof vector);
    return vector;
}

// One bit a lane.
INLINE uint32_t NAME(bits)(i32x16 mask)
{
    bool16 narrow = __builtin_convertvector(mask, bool16);
    uint16_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return bits;
}

INLINE float NAME(largest)(f32x16 vector)
{
    float lanes[LANES];
    f32x8 eight = vector.lo > vector.hi ? vector.lo : vector.hi;
    memcpy(lanes, &eight, sizeof eight);
    for (size_t step = LANES / 4; step > 0; step /= 2) {
        for (size_t lane = 0; lane < step; lane++) {
            float other = lanes[lane + step];
            lanes[lane] = other > lanes[lane] ? other : lanes[lane];
        }
    }
    return lanes[0];
}

// A fixed tree: halves onto halves.
INLINE double NAME(total)(f64x16 vector)
{
    f64x8 eight = vector.lo + vector.hi;
    double lanes[LANES / 2];
    memcpy(lanes, &eight, sizeof eight);
    for (size_t step = LANES / 4; step > 0; step /= 2) {
        for (size_t lane = 0; lane < step; lane++) lanes[lane] += lanes[lane + step];
    }
    return lanes[0];
}

// e^x for x <= 0; 0 below -87, where it would soon be no normal number.
//
// x is n ln 2 + r with |r| <= ln 2 / 2; the Taylor series of e^r to r^7 is exact to 2^-27, and
// roundings add up to less than 2e-7 of the result.
INLINE f32x16 NAME(exponential)(f32x16 x)
{
    const f32x16 least = -87.0f;
    i32x16 alive = x >= least;
    f32x16 clamped = alive ? x : least;
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    f32x16 shifted = clamped * 0x1.715476p0f + 0x1.8p23f;
    f32x16 n = shifted - 0x1.8p23f;
    // ln 2 in two parts: n times the first is exact.
    f32x16 r = (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    f32x16 sum = r * (1.0f / 5040) + 1.0f / 720;
    sum = sum * r + 1.0f / 120;
    sum = sum * r + 1.0f / 24;
    sum = sum * r + 1.0f / 6;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    u32x16 exponent;
    memcpy(&exponent, &shifted, sizeof exponent);
    exponent = (exponent + 127u) << 23;
    f32x16 power;
    memcpy(&power, &exponent, sizeof power);
    const f32x16 zero = 0.0f;
    return alive ? sum * power : zero;
}

TARGET static size_t NAME(scan)(float *maxima, const float *values, size_t count)
{
    size_t first_bad = count;
    const f32x16 infinity = INFINITY;
    for (size_t start = 0; start < count; start += CK_SAMPLING_BLOCK) {
        size_t end = ck_min(start + CK_SAMPLING_BLOCK, count);
        f32x16 maximum = -INFINITY;
        i32x16 fine = -1;
        for (size_t i = start; i < end; i += LANES) {
            f32x16 v = NAME(load)(values + i, end - i);
            fine &= v < infinity;
            maximum = v > maximum ? v : maximum;
        }
        maxima[start / CK_SAMPLING_BLOCK] = NAME(largest)(maximum);
        if (first_bad == count && NAME(bits)(fine) != 0xffff) {
            first_bad = start;
            while (values[first_bad] < INFINITY) first_bad++;
        }
    }
    return first_bad;
}

TARGET static double NAME(sum)(const float *values, size_t count, float largest)
{
    f64x16 sum = 0.0;
    for (size_t i = 0; i < count; i += LANES) {
        f32x16 x = NAME(load)(values + i, count - i) - largest;
        sum += __builtin_convertvector(NAME(exponential)(x), f64x16);
    }
    return NAME(total)(sum);
}

// Adds one block to the sums of the thresholds from `first` on. Those before it are above the
// block's maximum and would get zeros, so a block adds the same wherever it starts.
INLINE void NAME(block_masses)(f64x16 *sums, const float *values, size_t count, float largest,
                               float factor, const float *thresholds, const int first)
{
    const f32x16 zero = 0.0f;
    f32x16 parts[CK_SAMPLING_THRESHOLDS];
    UNROLL for (int k = first; k < CK_SAMPLING_THRESHOLDS; k++) parts[k] = zero;
    for (size_t i = 0; i < count; i += LANES) {
        f32x16 v = NAME(load)(values + i, count - i);
        f32x16 weight = NAME(exponential)((v - largest) * factor);
        UNROLL for (int k = first; k < CK_SAMPLING_THRESHOLDS; k++) {
            parts[k] += v >= thresholds[k] ? weight : zero;
        }
    }
    UNROLL for (int k = first; k < CK_SAMPLING_THRESHOLDS; k++) {
        sums[k] += __builtin_convertvector(parts[k], f64x16);
    }
}

TARGET static void NAME(masses)(double *masses, const float *values, const float *maxima,
                                size_t count, float largest, float factor,
                                const float *thresholds)
{
    f64x16 sums[CK_SAMPLING_THRESHOLDS];
    for (int k = 0; k < CK_SAMPLING_THRESHOLDS; k++) sums[k] = 0.0;
    for (size_t start = 0; start < count; start += CK_SAMPLING_BLOCK) {
        float maximum = maxima[start / CK_SAMPLING_BLOCK];
        if (maximum < thresholds[7]) continue;
        const float *block = values + start;
        size_t size = ck_min(CK_SAMPLING_BLOCK, count - start);
        if (maximum < thresholds[6]) {
            NAME(block_masses)(sums, block, size, largest, factor, thresholds, 7);
        } else if (maximum < thresholds[5]) {
            NAME(block_masses)(sums, block, size, largest, factor, thresholds, 6);
        } else if (maximum < thresholds[3]) {
            NAME(block_masses)(sums, block, size, largest, factor, thresholds, 4);
        } else {
            NAME(block_masses)(sums, block, size, largest, factor, thresholds, 0);
        }
    }
    for (int k = 0; k < CK_SAMPLING_THRESHOLDS; k++) masses[k] = NAME(total)(sums[k]);
}

TARGET static size_t NAME(count_above)(const float *values, const float *maxima, size_t count,
                                       float threshold)
{
    size_t above = 0;
    for (size_t start = 0; start < count; start += CK_SAMPLING_BLOCK) {
        if (!(maxima[start / CK_SAMPLING_BLOCK] > threshold)) continue;
        size_t end = ck_min(start + CK_SAMPLING_BLOCK, count);
        i32x16 counts = 0;
        for (size_t i = start; i < end; i += LANES) {
            counts -= NAME(load)(values + i, end - i) > threshold;
        }
        above += (size_t)__builtin_reduce_add(counts);
    }
    return above;
}

TARGET static size_t NAME(gather)(int32_t *indices, const float *values, const float *maxima,
                                  size_t count, float low, float high)
{
    size_t found = 0;
    for (size_t start = 0; start < count; start += CK_SAMPLING_BLOCK) {
        if (maxima[start / CK_SAMPLING_BLOCK] < low) continue;
        size_t end = ck_min(start + CK_SAMPLING_BLOCK, count);
        for (size_t i = start; i < end; i += LANES) {
            f32x16 v = NAME(load)(values + i, end - i);
            uint32_t bits = NAME(bits)((v >= low) & (v < high));
            // -infinity beyond the end may be in the range; it is no value.
            if (end - i < LANES) bits &= (1u << (end - i)) - 1;
            for (; bits != 0; bits &= bits - 1) {
                indices[found++] = (int32_t)(i + (size_t)__builtin_ctz(bits));
            }
        }
    }
    return found;
}

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
INLINE u64x8 NAME(mix)(u64x8 bits)
{
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
    return bits ^ (bits >> 31);
}

TARGET static size_t NAME(draws)(int32_t *indices, uint64_t start, uint64_t least, int32_t first,
                                 size_t count)
{
    size_t found = 0;
    u64x8 state;
    for (int lane = 0; lane < LANES / 2; lane++) {
        state[lane] = start + ((uint64_t)first + (uint64_t)lane + 1) * GAMMA;
    }
    for (size_t i = 0; i < count; i += LANES) {
        i64x8 low = NAME(mix)(state) >= least;
        i64x8 high = NAME(mix)(state + LANES / 2 * GAMMA) >= least;
        state += LANES * GAMMA;
        uint8_t halves[2];
        bool8 narrow = __builtin_convertvector(low, bool8);
        memcpy(&halves[0], &narrow, 1);
        narrow = __builtin_convertvector(high, bool8);
        memcpy(&halves[1], &narrow, 1);
        uint32_t bits = halves[0] | (uint32_t)halves[1] << 8;
        if (count - i < LANES) bits &= (1u << (count - i)) - 1;
        for (; bits != 0; bits &= bits - 1) {
            indices[found++] = first + (int32_t)(i + (size_t)__builtin_ctz(bits));
        }
    }
    return found;
}

static const struct ck_sampling NAME(table) = {
    .level = LEVEL,
    .scan = NAME(scan),
    .sum = NAME(sum),
    .masses = NAME(masses),
    .count_above = NAME(count_above),
    .gather = NAME(gather),
    .draws = NAME(draws),
};

#undef INLINE
