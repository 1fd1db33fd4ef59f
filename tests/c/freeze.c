/* Compile-only: the numbers and signatures that compiled code and extensions have built in.
 * With -DEXTENSION it needs Python.h and freezes externref_api.h too. C11 and C++. */
#ifdef EXTENSION
#  include "externref_api.h"
#else
#  include "externref.h"
#endif

#ifdef __cplusplus
#  define FREEZE(condition, advice) static_assert(condition, advice)
#else
#  define FREEZE(condition, advice) _Static_assert(condition, advice)
#endif

/* -- externref.h */

#define ABI_ADVICE \
    "the ABI changed: raise EXTERNREF_ABI_VERSION in externref.h and EXTERNREF_API_VERSION in " \
    "externref_api.h, then correct this file, tests/test_layout.py and docs/abi.md"
#define ABI(condition) FREEZE(condition, ABI_ADVICE)

ABI(EXTERNREF_ABI_VERSION == 1);

/* The numbers of a 64-bit machine; EXTERNREF_CHECK in the header has them for any. */
#if UINTPTR_MAX == UINT64_MAX
ABI(EXTERNREF_REF_COUNT_OFFSET == 0 && offsetof(VMExternData, ref_count) == 0);
ABI(EXTERNREF_VALUE_PTR_OFFSET == 8 && offsetof(VMExternData, value_ptr) == 8);
ABI(EXTERNREF_VTABLE_OFFSET == 16 && offsetof(VMExternData, vtable) == 16);
ABI(offsetof(VMExternData, handles) == 24);
ABI(sizeof(VMExternData) == 32);

ABI(offsetof(VMExternVTable, drop_in_place) == 0);
ABI(offsetof(VMExternVTable, size) == 8);
ABI(offsetof(VMExternVTable, align) == 16);
ABI(offsetof(VMExternVTable, type_name) == 24);
ABI(EXTERNREF_DROP_SLOW_OFFSET == 32 && offsetof(VMExternVTable, drop_slow) == 32);
ABI(sizeof(VMExternVTable) == 40);
#endif

/* Each initializer fails to compile when a field's type or a function's signature changes:
 * the advice is the same. */
struct frozen_abi {
    size_t *ref_count;
    void **value_ptr;
    const VMExternVTable **vtable;
    void (*drop_in_place)(void *);
    const char *type_name;
    void (*drop_slow)(void *);
    void *(*clone)(void *);
    void (*drop)(void *);
    size_t (*strong_count)(const void *);
    void *(*value)(const void *);
    size_t (*footer_offset)(size_t);
};

struct frozen_abi freeze_abi(VMExternData *data, const VMExternVTable *vtable);

struct frozen_abi freeze_abi(VMExternData *data, const VMExternVTable *vtable)
{
    struct frozen_abi frozen = {
        &data->ref_count,       &data->value_ptr,  &data->vtable,           vtable->drop_in_place,
        vtable->type_name,      vtable->drop_slow, externref_clone,         externref_drop,
        externref_strong_count, externref_value,   externref_footer_offset,
    };
    return frozen;
}

/* -- externref_api.h */

#ifdef EXTENSION

#  define API_ADVICE \
      "the C API changed: if a function was added at the end of ExternrefAPI, correct its size here; " \
      "for anything else raise EXTERNREF_API_VERSION in externref_api.h, then correct this file and docs/abi.md"
#  define API(condition) FREEZE(condition, API_ADVICE)

API(EXTERNREF_API_VERSION == 1);

#  if UINTPTR_MAX == UINT64_MAX
API(offsetof(ExternrefAPI, api_version) == 0);
API(offsetof(ExternrefAPI, abi_version) == 8);
API(offsetof(ExternrefAPI, size) == 16);
API(offsetof(ExternrefAPI, from_object) == 24);
API(offsetof(ExternrefAPI, wrap) == 32);
API(offsetof(ExternrefAPI, wrap_clone) == 40);
API(offsetof(ExternrefAPI, unwrap) == 48);
API(offsetof(ExternrefAPI, object) == 56);
API(offsetof(ExternrefAPI, type) == 64);
API(offsetof(ExternrefAPI, new_with) == 72);
API(offsetof(ExternrefAPI, release) == 80);
API(offsetof(ExternrefAPI, take_object) == 88);
API(offsetof(ExternrefAPI, type_with) == 96);
API(offsetof(ExternrefAPI, new_anywhere) == 104);
API(offsetof(ExternrefAPI, hand_out) == 112);
API(sizeof(ExternrefAPI) == 120);
#  endif

struct frozen_api {
    void *(*from_object)(PyObject *);
    PyObject *(*wrap)(void *);
    PyObject *(*wrap_clone)(void *);
    void *(*unwrap)(PyObject *);
    PyObject *(*object)(const void *);
    const VMExternVTable *(*type)(const char *, size_t, size_t, void (*)(void *));
    void *(*new_with)(const VMExternVTable *, int (*)(void *, void *), void *);
    void (*release)(void *);
    PyObject *(*take_object)(void *);
    const VMExternVTable *(*type_with)(const char *, size_t, size_t, void (*)(void *), unsigned);
    void *(*new_anywhere)(const VMExternVTable *, int (*)(void *, void *), void *);
    int (*hand_out)(void *);
};

struct frozen_api freeze_api(const ExternrefAPI *api);

struct frozen_api freeze_api(const ExternrefAPI *api)
{
    struct frozen_api frozen = {
        api->from_object, api->wrap,    api->wrap_clone,  api->unwrap,    api->object,       api->type,
        api->new_with,    api->release, api->take_object, api->type_with, api->new_anywhere, api->hand_out,
    };
    return frozen;
}

#endif /* EXTENSION */
