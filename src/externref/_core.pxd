# The C view of externref._core: `from externref cimport VMExternRef`.
# Build with externref.get_include() among the include folders.

from libc.stdint cimport uint32_t


cdef extern from "externref.h" nogil:
    int EXTERNREF_ABI_VERSION
    const size_t EXTERNREF_REF_COUNT_OFFSET
    const size_t EXTERNREF_VALUE_PTR_OFFSET
    const size_t EXTERNREF_VTABLE_OFFSET
    const size_t EXTERNREF_DROP_SLOW_OFFSET

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
        uint32_t state

    const uint32_t EXTERNREF_STATE_LENDS
    const uint32_t EXTERNREF_STATE_EXPOSED
    const uint32_t EXTERNREF_STATE_REGISTERED

    void EXTERNREF_INCREMENT(size_t *count) noexcept
    size_t EXTERNREF_DECREMENT(size_t *count) noexcept
    size_t EXTERNREF_ACQUIRE(size_t *count) noexcept
    void *externref_clone(void *raw) noexcept
    void externref_drop(void *raw) noexcept
    size_t externref_strong_count(const void *raw) noexcept
    void *externref_value(const void *raw) noexcept
    size_t externref_footer_offset(size_t size) noexcept


cdef extern from *:
    """
    /* The state of a block for who looks at it without its lock, or may be looked at by who wants the lock. */
    CYTHON_UNUSED static CYTHON_INLINE uint32_t host_state(const VMExternData *data)
    {
    #ifdef Py_GIL_DISABLED
        return __atomic_load_n(&data->state, __ATOMIC_RELAXED);
    #else
        return data->state;
    #endif
    }
    """
    uint32_t host_state(const VMExternData *data) noexcept nogil


cdef inline bint is_lent(VMExternData *data) noexcept nogil:
    """Whether compiled code may hold the pointer without owning a count."""
    return (host_state(data) & (EXTERNREF_STATE_LENDS | EXTERNREF_STATE_EXPOSED)) != 0


cdef inline bint is_private(VMExternData *data) noexcept nogil:
    """Whether the package's own handles are all the owners, and no pointer to the block is lent.

    Then no compiled code may touch the count, and the GIL alone guards it. Without a GIL it is asked while the
    world is stopped, in a traverse, which may not take the block's lock.
    """
    return EXTERNREF_ACQUIRE(&data.ref_count) == data.handles and not is_lent(data)


cdef class VMExternRef:
    cdef void *_data            # the footer (VMExternData *); NULL once spent
    cdef object __weakref__


cdef inline void *raw_of_record(const void *record) noexcept nogil:
    """The raw pointer that is held: a record begins with it, see _core/hold.h."""
    return (<void *const *>record)[0]


# Why a block has no handle for somebody, or a wrapper has no block.
cdef enum Refusal:
    GRANTED
    SPENT
    NO_ROOM
    NO_LEND
    NO_RAW_OWNER
    NO_OWNER
    NOT_HANDED_OUT
    IN_TABLES
    NO_MEMORY
    NO_BLOCK

ctypedef size_t (*Adopter)(const VMExternData *) noexcept

# For the package's own adapters.
#
# A *hold* is a count that the package keeps for somebody, a bare handle: from_raw() cannot take it, and no
# object stands for it that the collector could hand out. One that `lends` is of a pointer that counting code
# can see meanwhile. NULL is None throughout.
cdef void *hold(object value, bint lends) except? NULL      # no other code, but where it raises
cdef void *hold_registered(object value, bint lends) except? NULL    # and from_raw() knows the address
cdef void drain_pending() noexcept                          # arbitrary code: for who has held all that was lent
cdef int hold_lent(void *raw, bint lends) except -1         # a new count; somebody's keeps the block
cdef void move_out(void *raw) noexcept                      # a hold that does not lend becomes a raw owner
cdef void end_hold(void *raw, bint lends) noexcept          # arbitrary code, after it
cdef void *new_record(object value, bint lends) except? NULL    # of a hold() that ends without the GIL; it drains last
cdef void end_record(void *record) noexcept nogil           # any thread, no GIL; NULL is ignored
cdef object take_held(void *raw, bint as_ref)               # arbitrary code; the hold ends in any case
cdef object take_raw(void *raw, bint as_ref)                # the same for a raw owner's count
cdef object take_handed_out(object ptr)                     # the same of a raw pointer that may be none, an int or None
cdef object lend_value(void *raw, bint as_ref)              # the same for one that is lent; it is counted first
cdef int lend_block(VMExternData *data) except -1           # OverflowError if it cannot lend once more
cdef Refusal try_hold_raw(void *raw, bint lends) noexcept   # a raw owner's count becomes the hold's
cdef int refuse(Refusal refusal, const void *raw) except -1     # raises them
cdef int refuse_moved() except -1
cdef void set_adopter(Adopter adopter) noexcept             # of raw counts in tables; how many it left

# What externref_api.h documents.
cdef int register_raw(void *raw) except -1
cdef bint is_native(const void *raw) noexcept
cdef object object_of(const void *raw)
cdef object take_object(void *raw)
cdef void release(void *raw) noexcept
cdef object wrap(void *raw)
cdef object wrap_clone(void *raw)
cdef void *unwrap(object ref) except? NULL
