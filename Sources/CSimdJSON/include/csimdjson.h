// simdjson's DOM behind C: parse once, then walk elements by value.
//
// A `cj_document` owns the parser and its memory; every `cj_element` and every string points
// into it and is valid until `cj_free`. Strings are UTF-8 with escapes resolved, not terminated.
#ifndef PHALANX_CSIMDJSON_H
#define PHALANX_CSIMDJSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cj_document cj_document;

typedef struct {
    const void *tape;
    size_t index;
} cj_element;

enum cj_kind {
    CJ_NULL = 0,
    CJ_BOOL,
    CJ_INT64,   // fits in int64
    CJ_UINT64,  // above INT64_MAX
    CJ_DOUBLE,
    CJ_STRING,
    CJ_ARRAY,
    CJ_OBJECT,
};

// Parses `count` bytes (copied with simdjson's padding). NULL and a message in `error` when the
// text is not JSON; `error` is static storage. Depth is limited to 1,024.
cj_document *cj_parse(const uint8_t *bytes, size_t count, const char **error);
void cj_free(cj_document *document);
cj_element cj_root(const cj_document *document);

enum cj_kind cj_kind_of(cj_element element);
bool cj_bool(cj_element element);
int64_t cj_int64(cj_element element);
uint64_t cj_uint64(cj_element element);
double cj_double(cj_element element);  // of any number
const char *cj_string(cj_element element, size_t *count);

// Number of members or entries. O(1) up to 2^24 entries, which simdjson saturates; walk beyond.
size_t cj_count(cj_element element);

typedef struct {
    cj_element container;
    size_t next;
    size_t end;
} cj_cursor;

cj_cursor cj_begin(cj_element container);  // an array or an object
bool cj_next_entry(cj_cursor *cursor, cj_element *value);
bool cj_next_member(cj_cursor *cursor, const char **key, size_t *key_count, cj_element *value);
bool cj_find(cj_element object, const char *key, size_t key_count, cj_element *value);

#ifdef __cplusplus
}
#endif
#endif
