# For Cython: everything of externref.h and externref_api.h, and the wrapper.
#
#     from externref cimport VMExternRef, externref_clone, externref_drop
#
# Build with externref.get_include() among the include folders; docs/abi.md has an example. The headers say who
# owns what, and every error: `except` below turns what a function fails with into Python's exception.

# VMExternRef's one field, `void *_data`, is the raw pointer, NULL once the wrapper is spent. It is lent as long as the
# GIL is held: clone it before that is let go.
from externref._core cimport (
    EXTERNREF_ABI_VERSION, EXTERNREF_DROP_SLOW_OFFSET, EXTERNREF_REF_COUNT_OFFSET, EXTERNREF_VALUE_PTR_OFFSET,
    EXTERNREF_VTABLE_OFFSET, VMExternData, VMExternRef, VMExternVTable,
    externref_clone, externref_drop, externref_footer_offset, externref_strong_count, externref_value)    # no GIL


# With the GIL; each may run arbitrary Python code. externref_import() once in each module, before the others.
cdef extern from "externref_api.h":
    int EXTERNREF_API_VERSION
    int externref_import() except -1
    void *externref_from_object(object value) except NULL
    object externref_wrap(void *raw)
    object externref_wrap_clone(void *raw)
    void *externref_unwrap(object ref) except? NULL
    object externref_object(const void *raw)
    object externref_take_object(void *raw)
    void externref_release(void *raw) noexcept
    const VMExternVTable *externref_type(
        const char *name, size_t size, size_t align, void (*drop_in_place)(void *value) noexcept) except NULL
    void *externref_new_with(
        const VMExternVTable *payload_type, int (*init)(void *value, void *ctx) except -1, void *ctx) except NULL
    const unsigned EXTERNREF_DROP_ANYWHERE
    const VMExternVTable *externref_type_with(
        const char *name, size_t size, size_t align, void (*drop_in_place)(void *value) noexcept nogil,
        unsigned flags) except NULL
    void *externref_new_anywhere(
        const VMExternVTable *payload_type, int (*init)(void *value, void *ctx) noexcept nogil,
        void *ctx) noexcept nogil
    int externref_hand_out(void *raw) except -1
