#include "csimdjson.h"

#include <cstring>
#include <new>
#include <simdjson.h>
#include <string_view>

using simdjson::dom::element;

struct cj_document {
    simdjson::dom::parser parser;
    element root;
};

// `element` is two words, the document and an index into its tape; it crosses as those words.
static_assert(sizeof(element) == sizeof(cj_element) && std::is_trivially_copyable<element>::value,
              "this simdjson lays out dom::element in another way");

static element in(cj_element value) {
    element result;
    std::memcpy(static_cast<void *>(&result), &value, sizeof result);
    return result;
}

static cj_element out(element value) {
    cj_element result;
    std::memcpy(&result, static_cast<void *>(&value), sizeof result);
    return result;
}

extern "C" cj_document *cj_parse(const uint8_t *bytes, size_t count, const char **error) {
    auto *document = new (std::nothrow) cj_document;
    if (!document) {
        *error = "out of memory";
        return nullptr;
    }
    auto code = document->parser.parse(reinterpret_cast<const char *>(bytes), count, true)
                    .get(document->root);
    if (code) {
        *error = simdjson::error_message(code);
        delete document;
        return nullptr;
    }
    return document;
}

extern "C" void cj_free(cj_document *document) { delete document; }
extern "C" cj_element cj_root(const cj_document *document) { return out(document->root); }

extern "C" cj_kind cj_kind_of(cj_element value) {
    using simdjson::dom::element_type;
    switch (in(value).type()) {
        case element_type::ARRAY: return CJ_ARRAY;
        case element_type::OBJECT: return CJ_OBJECT;
        case element_type::INT64: return CJ_INT64;
        case element_type::UINT64: return CJ_UINT64;
        case element_type::DOUBLE: return CJ_DOUBLE;
        case element_type::STRING: return CJ_STRING;
        case element_type::BOOL: return CJ_BOOL;
        case element_type::NULL_VALUE: return CJ_NULL;
    }
    return CJ_NULL;
}

extern "C" bool cj_bool(cj_element value) { return in(value).get_bool().value_unsafe(); }
extern "C" int64_t cj_int64(cj_element value) { return in(value).get_int64().value_unsafe(); }
extern "C" uint64_t cj_uint64(cj_element value) { return in(value).get_uint64().value_unsafe(); }
extern "C" double cj_double(cj_element value) { return in(value).get_double().value_unsafe(); }

extern "C" const char *cj_string(cj_element value, size_t *count) {
    std::string_view text = in(value).get_string().value_unsafe();
    *count = text.size();
    return text.data();
}

extern "C" size_t cj_count(cj_element value) {
    element container = in(value);
    if (container.is_array()) return container.get_array().value_unsafe().size();
    if (container.is_object()) return container.get_object().value_unsafe().size();
    return 0;
}

// A cursor keeps the tape index of the next child; simdjson's iterators are made of the same two
// words as its elements, so they are rebuilt from it.
extern "C" cj_cursor cj_begin(cj_element container) {
    element value = in(container);
    cj_cursor cursor = {container, 0, 0};
    if (value.is_array()) {
        auto array = value.get_array().value_unsafe();
        auto begin = array.begin(), end = array.end();
        std::memcpy(&cursor.next, reinterpret_cast<char *>(&begin) + sizeof(void *),
                    sizeof(size_t));
        std::memcpy(&cursor.end, reinterpret_cast<char *>(&end) + sizeof(void *), sizeof(size_t));
    } else if (value.is_object()) {
        auto object = value.get_object().value_unsafe();
        auto begin = object.begin(), end = object.end();
        std::memcpy(&cursor.next, reinterpret_cast<char *>(&begin) + sizeof(void *),
                    sizeof(size_t));
        std::memcpy(&cursor.end, reinterpret_cast<char *>(&end) + sizeof(void *), sizeof(size_t));
    }
    return cursor;
}

extern "C" bool cj_next_entry(cj_cursor *cursor, cj_element *value) {
    if (cursor->next >= cursor->end) return false;
    simdjson::dom::array::iterator iterator;
    static_assert(sizeof iterator == sizeof(cj_element), "array::iterator layout");
    cj_element here = {cursor->container.tape, cursor->next};
    std::memcpy(static_cast<void *>(&iterator), &here, sizeof here);
    *value = out(*iterator);
    ++iterator;
    std::memcpy(&here, static_cast<void *>(&iterator), sizeof here);
    cursor->next = here.index;
    return true;
}

extern "C" bool cj_next_member(cj_cursor *cursor, const char **key, size_t *key_count,
                               cj_element *value) {
    if (cursor->next >= cursor->end) return false;
    simdjson::dom::object::iterator iterator;
    static_assert(sizeof iterator == sizeof(cj_element), "object::iterator layout");
    cj_element here = {cursor->container.tape, cursor->next};
    std::memcpy(static_cast<void *>(&iterator), &here, sizeof here);
    std::string_view name = iterator.key();
    *key = name.data();
    *key_count = name.size();
    *value = out(iterator.value());
    ++iterator;
    std::memcpy(&here, static_cast<void *>(&iterator), sizeof here);
    cursor->next = here.index;
    return true;
}

extern "C" bool cj_find(cj_element object, const char *key, size_t key_count, cj_element *value) {
    element found;
    if (in(object).get_object().value_unsafe().at_key(std::string_view(key, key_count)).get(found))
        return false;
    *value = out(found);
    return true;
}
