// Where the positions of a step are, and their copies where tiles cannot read them as they lie.
#if defined(__x86_64__)
#include "ck_amx_attention.h"

#pragma STDC FP_CONTRACT OFF

// Positions `first` + 0 ..< STEP as they lie in the cache, NULL from `end` on.
static void find_entries(const struct attend_job *t, const int32_t *table, size_t first,
                         size_t end, const uint8_t *_Nullable entries[STEP])
{
    const struct shape *shape = &t->shape;
    const uint8_t *cache = t->job->a->cache, *entry = NULL;
    size_t block = first / shape->block_size, at = first % shape->block_size;
    for (size_t i = 0; i < STEP; i++, at++) {
        if (first + i >= end) {
            entries[i] = NULL;
            continue;
        }
        if (at == shape->block_size) {
            block++;
            at = 0;
        }
        if (i == 0 || at == 0) {
            size_t slot = (size_t)table[block] * shape->block_size + at;
            entry = cache + slot * shape->entry_bytes;
        }
        entries[i] = entry;
        entry += shape->entry_bytes;
    }
}

// The step's positions of an int8 cache: copied by the step before, or here if there was none.
// Steps up to `end` may follow; what lies behind, up to `length`, is worth asking for.
TARGET static void find_codes(const struct attend_job *t, const struct scratch *s,
                              const int32_t *table, struct step *step, size_t end,
                              size_t length)
{
    const struct shape *shape = &t->shape;
    int was_copied = step->copied != NOTHING_COPIED && step->copied == step->first;
    size_t half = STEP * shape->depth;
    int second = was_copied && step->next_copies != s->copies;
    uint16_t *copies = second ? s->copies + half : s->copies;
    float *scales = second ? s->scales + STEP : s->scales;
    step->next_copies = second ? s->copies : s->copies + half;
    step->next_scales = second ? s->scales : s->scales + STEP;
    step->scales = scales;
    if (!was_copied) {
        find_entries(t, table, step->first, end, step->ahead);
        for (size_t i = 0; i < step->count; i++) {
            scales[i] = ck_amx_copy_codes(copies + i * shape->depth, step->ahead[i], shape);
        }
    }
    find_entries(t, table, step->first + STEP, end, step->ahead);
    find_entries(t, table, step->first + 2 * STEP, length, step->beyond);
    for (size_t i = step->count; i < ck_blocks(step->count, CHUNK) * CHUNK; i++) {
        memset(copies + i * shape->depth, 0, shape->depth * 2);
        scales[i] = 1;
    }
    for (size_t i = 0; i < STEP; i++) {
        step->rows[i] = i < step->count ? copies + i * shape->depth : NULL;
        step->factors[i] = i < step->count ? scales[i] * (t->job->a->scale * LOG2_E) : 0;
    }
    step->ahead_count = step->first + STEP < length ? STEP : 0;
    step->copied = step->first + STEP < end ? step->first + STEP : NOTHING_COPIED;
}

// Copies the positions of a step, with zeros behind their width and up to a multiple of 16.
static void copy_rows(const struct shape *shape, const struct scratch *s, const struct step *step)
{
    for (size_t i = 0; i < ck_blocks(step->count, CK_TILE_SIDE) * CK_TILE_SIDE; i++) {
        uint16_t *copy = s->copies + i * shape->depth;
        size_t width = step->rows[i] ? shape->width : 0;
        if (width) memcpy(copy, step->rows[i], width * 2);
        memset(copy + width, 0, (shape->depth - width) * 2);
    }
}

// The same of a cache of BF16 numbers, which are read where they lie if the shape allows it.
static void find_floats(const struct attend_job *t, const struct scratch *s,
                        const int32_t *table, struct step *step, size_t length)
{
    const struct shape *shape = &t->shape;
    const uint8_t *entries[STEP];
    find_entries(t, table, step->first, length, entries);
    for (size_t i = 0; i < STEP; i++) step->rows[i] = (const uint16_t *)entries[i];
    if (!shape->direct) copy_rows(shape, s, step);
    find_entries(t, table, step->first + STEP, length, entries);
    step->ahead_count = 0;
    for (size_t i = 0; i < STEP; i++) {
        const uint8_t *entry = entries[ck_amx_in_streams(i)];
        if (entry) step->ahead[step->ahead_count++] = entry;
    }
}

void ck_amx_find_rows(const struct attend_job *t, const struct task *task,
                      const struct scratch *s, struct step *step, size_t first, size_t end)
{
    const struct shape *shape = &t->shape;
    const int32_t *table =
        t->job->a->tables + t->job->a->table_starts[t->job->first_row + task->query];
    step->first = first;
    step->count = ck_min(STEP, task->length - first);
    step->stride = (shape->direct ? shape->width : shape->depth) * 2;
    step->ahead_next = 0;
    const uint16_t *copies = s->copies;
    if (shape->is_int8) {
        find_codes(t, s, table, step, end, task->length);
        copies = step->rows[0];
    } else {
        find_floats(t, s, table, step, task->length);
    }
    for (size_t group = 0; group < GROUPS; group++) {
        // Scores of groups behind the last are never looked at.
        size_t from = ck_min(group, (step->count - 1) / CK_TILE_SIDE) * CK_TILE_SIDE;
        step->groups[group] = shape->direct ? step->rows[from] : copies + from * shape->depth;
    }
}
#endif
