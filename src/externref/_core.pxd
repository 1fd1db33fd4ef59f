# The C view of externref._core: `from externref cimport VMExternRef`.
# Build with externref.get_include() among the include folders.

from libc.stdint cimport uint32_t


cdef extern from "externref.h" nogil:
    int EXTERNREF_ABI_VERSION

    ctypedef struct VMExternVTable:
        void (*drop_in_place)(void *value) noexcept
        size_t size
        size_t align
        const char *type_name
        void (*drop_slow)(void *raw) noexcept

    ctypedef struct VMExternData:
        size_t ref_count
        void *value_ptr
        const VMExternVTable *vtable
        uint32_t handles
        uint32_t borrows
        uint32_t exposed
        uint32_t registered

    void EXTERNREF_INCREMENT(size_t *count) noexcept
    size_t EXTERNREF_DECREMENT(size_t *count) noexcept
    size_t EXTERNREF_ACQUIRE(size_t *count) noexcept
    void *externref_clone(void *raw) noexcept
    void externref_drop(void *raw) noexcept
    size_t externref_strong_count(const void *raw) noexcept
    void *externref_value(const void *raw) noexcept


cdef inline bint is_lent(VMExternData *data) noexcept nogil:
    """Whether compiled code may hold the pointer without owning a count."""
    return data.exposed or data.borrows != 0


cdef inline bint is_private(VMExternData *data) noexcept nogil:
    """Whether only wrappers own the block and no pointer to it is lent.

    Then no compiled code may touch the count, and the GIL alone guards it.
    """
    return EXTERNREF_ACQUIRE(&data.ref_count) == data.handles and not is_lent(data)


cdef class VMExternRef:
    cdef void *_data            # the footer (VMExternData *); NULL once spent
    cdef object __weakref__


# For the package's own adapters; others use externref_api.h, which documents the same.
cdef void *box(object value) except NULL
cdef void *to_raw(object value) except? NULL
cdef int register_raw(void *raw) except -1
cdef bint is_native(const void *raw) noexcept
cdef object object_of(const void *raw)
cdef object take_object(void *raw)
cdef void release(void *raw) noexcept
cdef object take_value(void *raw, bint as_ref)
cdef object lend_value(void *raw, bint as_ref)
cdef object wrap(void *raw)
cdef object wrap_clone(void *raw)
cdef void *unwrap(object ref) except? NULL
