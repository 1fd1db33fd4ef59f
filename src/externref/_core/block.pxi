# Blocks: one allocation each, the payload and after it the footer. How they are laid out, made, counted
# and freed.
#
# A part of _core.pyx.

cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(PyObject *) noexcept
    str PyType_GetName(PyTypeObject *)

cdef extern from "_core/memory.h" nogil:
    void *externref_aligned_alloc(size_t align, size_t size) noexcept
    void externref_aligned_free(void *block) noexcept
    const int SPARE_LIMIT "EXTERNREF_FREE_LIST_LIMIT"   # for blocks and wrappers each

cdef extern from "_core/atomics.h" nogil:
    void atomic_count_store(size_t *target, size_t value) noexcept

cdef extern from "_core/registry.h":
    void registry_remove(uintptr_t address) noexcept

cdef extern from "_core/hold.h" nogil:
    ctypedef struct ExternrefHold:
        VMExternData *footer
        ExternrefHold *next
        int lends

cdef extern from "_core/helper.h" nogil:
    void helper_push(void *raw) noexcept
    void helper_push_hold(void *record) noexcept
    bint helper_has_gil() noexcept

cdef extern from *:
    """
    #define MAX_COUNT ((size_t)PTRDIFF_MAX)
    """
    const size_t MAX_COUNT      # owners of a block, and bytes in one

# The counts of Stats; guarded by the GIL.
cdef Py_ssize_t live_blocks = 0
cdef Py_ssize_t live_handles = 0
cdef Py_ssize_t live_exposed = 0


# --- Layout -------------------------------------------------------------------------

cdef int compute_layout(size_t size, size_t align, size_t *total, size_t *block_align) except -1:
    """The size and alignment of a block for this payload; the checks of layout_for."""
    if align == 0 or align & (align - 1):
        raise ValueError(f"align must be a power of two, not {align}")
    block_align[0] = max(align, sizeof(void *))
    # C's limit on an object's size is PTRDIFF_MAX; up to it no sum here can wrap.
    if align <= MAX_COUNT and size <= MAX_COUNT - sizeof(VMExternData) - sizeof(void *):
        # aligned_alloc wants a multiple of the alignment.
        total[0] = externref_footer_offset(size) + sizeof(VMExternData)
        total[0] = (total[0] + block_align[0] - 1) & ~(block_align[0] - 1)
        if total[0] <= MAX_COUNT:
            return 0
    raise OverflowError(f"a payload of {size} bytes aligned to {align} does not fit in memory")


# --- Blocks -------------------------------------------------------------------------

# A block for a Python payload: the PyObject * and then the footer, so 40 bytes. With
# glibc that is a 48-byte chunk, where alignment 16 would round it up to a 64-byte one.
cdef struct PythonBlock:
    PyObject *payload
    VMExternData footer

cdef VMExternVTable python_vtable
python_vtable.drop_in_place = NULL    # free_block does it, after the block is gone
python_vtable.size = sizeof(PyObject *)
python_vtable.align = sizeof(PyObject *)
python_vtable.type_name = "object"
python_vtable.drop_slow = helper_push

cdef inline PyObject *payload_of(VMExternData *data) noexcept:
    """The Python payload, borrowed; NULL for a native one."""
    # SAFETY: a block with this vtable is a PythonBlock, so the payload is right before
    # the footer; reading it there saves a load of value_ptr.
    if data.vtable == &python_vtable:
        return (<PyObject **>data)[-1]
    return NULL


cdef inline PythonBlock *block_of(VMExternData *data) noexcept:
    # SAFETY: only for blocks of Python payloads, which end in their footer.
    return <PythonBlock *>(<char *>data - sizeof(PyObject *))


cdef str vtable_name(const VMExternVTable *vtable):
    return vtable.type_name.decode("utf-8", "replace")


cdef str type_name_of(VMExternData *data):
    cdef PyObject *payload = payload_of(data)
    if payload != NULL:
        return PyType_GetName(Py_TYPE(payload))     # a metaclass may answer __name__ with code
    return vtable_name(data.vtable)


cdef int refuse_native(VMExternData *data) except -1:
    raise TypeError(f"the payload is a native {type_name_of(data)!r}, which Python cannot look into")


# Dead blocks of Python payloads, for the next reference, linked through the payload (GIL).
# Built with -DEXTERNREF_NO_FREE_LISTS, a trip through externref.Function takes 38 ns in
# place of 30 (python -m externref bench).
cdef PythonBlock *spare_blocks = NULL
cdef int spare_block_count = 0


cdef VMExternData *new_block(PyObject *value, uint32_t handles) except NULL:
    """A block that owns `value`, with one count: a handle's (1) or a raw owner's (0)."""
    global spare_blocks, spare_block_count, live_blocks, live_handles
    cdef PythonBlock *block = spare_blocks
    if block != NULL:
        spare_blocks = <PythonBlock *>block.payload
        spare_block_count -= 1
    else:
        block = <PythonBlock *>externref_aligned_alloc(sizeof(void *), sizeof(PythonBlock))
        if block == NULL:
            raise MemoryError("no memory for a reference's block")
    Py_INCREF(value)
    block.payload = value
    memset(&block.footer, 0, sizeof(VMExternData))
    block.footer.ref_count = 1
    block.footer.value_ptr = block
    block.footer.vtable = &python_vtable
    block.footer.handles = handles
    live_blocks += 1
    live_handles += handles
    return &block.footer


cdef PyObject *free_block(VMExternData *data) noexcept:
    """Frees a block without owners; the caller then drops the Python reference it returns.

    That order, the block first and the payload after it, keeps code that the payload's
    __del__ runs from meeting a half-dead block. A native payload is dropped in place
    first: it lives in the block. Its drop is C code that knows no block but its own.
    """
    global spare_blocks, spare_block_count, live_blocks, live_exposed
    cdef PyObject *payload = payload_of(data)
    live_blocks -= 1
    if data.state & EXTERNREF_STATE_REGISTERED:
        registry_remove(<uintptr_t>data)
    live_exposed -= is_lent(data)
    if payload == NULL and data.vtable.drop_in_place != NULL:
        data.vtable.drop_in_place(data.value_ptr)
    if payload != NULL and spare_block_count < SPARE_LIMIT:
        block_of(data).payload = <PyObject *>spare_blocks
        spare_blocks = block_of(data)
        spare_block_count += 1
    else:
        # SAFETY: value_ptr is the start of the allocation, and nobody owns it any more.
        externref_aligned_free(data.value_ptr)
    return payload


# --- Counts -------------------------------------------------------------------------

cdef inline bint has_room(VMExternData *data) noexcept:
    """Whether one more owner can be counted."""
    return EXTERNREF_ACQUIRE(&data.ref_count) <= MAX_COUNT and data.handles < UINT32_MAX


cdef int refuse_room() except -1:
    raise OverflowError("this allocation has as many owners as can be counted")


cdef inline void add_count(VMExternData *data) noexcept:
    """A new count from one that the caller owns; who owns it is the caller's affair."""
    if is_private(data):
        # A plain store in place of a locked addition: see is_private.
        atomic_count_store(&data.ref_count, <size_t>data.handles + 1)
    else:
        EXTERNREF_INCREMENT(&data.ref_count)


cdef inline void add_handle(VMExternData *data) noexcept:
    """Accounts for one more handle, whose count is made by the caller."""
    global live_handles
    cdef PyObject *payload
    data.handles += 1
    live_handles += 1
    if data.handles > 1:    # else the raw owners' reference on the payload is taken over
        payload = payload_of(data)
        if payload != NULL:
            Py_INCREF(payload)


cdef inline PyObject *drop_handle(VMExternData *data) noexcept:
    """Takes away a handle and its count; frees the block if they were the last.

    The caller, having forgotten `data`, drops the Python reference this returns, if any.
    """
    cdef Py_ssize_t freed = 0
    return drop_handle_counted(data, &freed)


cdef inline PyObject *drop_handle_counted(VMExternData *data, Py_ssize_t *freed) noexcept:
    """drop_handle(), which adds one to `freed` if it frees."""
    global live_handles
    cdef PyObject *payload = payload_of(data)
    live_handles -= 1
    if is_private(data):
        data.handles -= 1
        if data.handles == 0:
            freed[0] += 1
            return free_block(data)
        # A plain store in place of a locked subtraction: see is_private.
        atomic_count_store(&data.ref_count, data.handles)
        return payload
    data.handles -= 1
    if EXTERNREF_DECREMENT(&data.ref_count) == 1:
        EXTERNREF_ACQUIRE(&data.ref_count)
        freed[0] += 1
        return free_block(data)
    return payload if data.handles else NULL    # the raw owners keep the last one


# --- Holds --------------------------------------------------------------------------

# Makes holds of the counts that compiled code put into activations tables; NULL if it can have put none.
cdef Adopter adopt_raw_words = NULL


cdef void set_adopter(Adopter adopter) noexcept:
    global adopt_raw_words
    adopt_raw_words = adopter


cdef void lend_block(VMExternData *data) noexcept:
    global live_exposed
    live_exposed += not is_lent(data)
    data.state += 1         # the lends are its low bits


cdef void unlend_block(VMExternData *data) noexcept:
    global live_exposed
    data.state -= 1
    live_exposed -= not is_lent(data)


cdef int refuse_lend() except -1:
    raise OverflowError("this allocation is lent as often as can be counted")


cdef inline bint can_lend(VMExternData *data) noexcept:
    """Whether one more lend can be counted."""
    return data.state & EXTERNREF_STATE_LENDS != EXTERNREF_STATE_LENDS


cdef int require_lend(VMExternData *data) except -1:
    if not can_lend(data):
        refuse_lend()
    return 0


cdef void *hold_box(PyObject *value, bint lends) except NULL:
    """A hold of a new box."""
    cdef VMExternData *data
    drain_if_any()
    data = new_block(value, 1)
    if lends:
        lend_block(data)
    return data


cdef void *hold(object value, bint lends) except? NULL:
    """A hold of what was passed as a reference: another owner for a VMExternRef, a box for any other
    object, NULL for None. MovedError, OverflowError, MemoryError."""
    cdef VMExternData *data
    if type(value) is not VMExternRef:
        return NULL if value is None else hold_box(<PyObject *>value, lends)
    data = data_of(<VMExternRef>value)
    if not has_room(data):
        refuse_room()
    if lends:
        require_lend(data)
    add_count(data)
    add_handle(data)
    if lends:
        lend_block(data)
    return data


cdef int hold_lent(void *raw, bint lends) except -1:
    cdef VMExternData *data = <VMExternData *>raw
    if data == NULL:
        return 0
    if not has_room(data):
        refuse_room()
    if lends:
        require_lend(data)
        lend_block(data)
    add_count(data)
    add_handle(data)
    return 0


cdef int hold_raw(void *raw, bint lends) except -1:
    """InvalidRawPointerError if no raw owner is left: somebody took its count by from_raw()."""
    cdef VMExternData *data = <VMExternData *>raw
    if data == NULL:
        return 0
    require_raw_owner(data)
    if lends:
        require_lend(data)
        lend_block(data)
    add_handle(data)
    return 0


cdef bint hold_raw_if_room(void *raw, bint lends) noexcept:
    cdef VMExternData *data = <VMExternData *>raw
    if EXTERNREF_ACQUIRE(&data.ref_count) <= data.handles or not has_room(data):
        return False
    if lends:
        if not can_lend(data):
            return False
        lend_block(data)
    add_handle(data)
    return True


cdef void move_out(void *raw) noexcept:
    global live_handles
    cdef VMExternData *data = <VMExternData *>raw
    if data == NULL:
        return
    live_handles -= 1
    data.handles -= 1
    if data.handles and payload_of(data) != NULL:   # else the raw owners take it over
        Py_DECREF(payload_of(data))                 # never the last: the other handles hold it


cdef void end_hold(void *raw, bint lends) noexcept:
    cdef VMExternData *data = <VMExternData *>raw
    if data == NULL:
        return
    if lends:
        unlend_block(data)
    Py_XDECREF(drop_handle(data))


# More than of the others, 128 KiB at most: a collection of a wasmtime store lets go of thousands at once. With 256 a call
# of an externref in and out takes 5,091 instructions instead of 4,846.
cdef enum:
    SPARE_RECORD_LIMIT = 16 * SPARE_LIMIT

# Records of holds that ended, for the next, linked by `next` (GIL).
cdef ExternrefHold *spare_records = NULL
cdef int spare_record_count = 0


cdef void *new_record(object value, bint lends) except? NULL:
    """A hold() whose keeper needs no GIL to end it, by end_record(). NULL for None."""
    global spare_records, spare_record_count
    cdef ExternrefHold *record
    cdef void *raw = hold(value, lends)
    if raw == NULL:
        return NULL
    record = spare_records
    if record != NULL:
        spare_records = record.next
        spare_record_count -= 1
    else:
        record = <ExternrefHold *>malloc(sizeof(ExternrefHold))
        if record == NULL:
            end_hold(raw, lends)
            raise MemoryError("no memory for the record of a hold")
    record.footer = <VMExternData *>raw
    record.lends = lends
    return record


cdef bint end_if_not_last(ExternrefHold *record) noexcept:
    """Ends the hold if its block has other handles, so that no other code runs."""
    cdef VMExternData *data = record.footer
    if data.handles < 2:
        return False
    if record.lends:
        unlend_block(data)
    free_record(record)
    Py_XDECREF(drop_handle(data))       # never the last: the other handles hold the payload
    return True

ctypedef bint (*end_with_gil)(ExternrefHold *) noexcept nogil
cdef end_with_gil end_if_not_last_with_gil = <end_with_gil><void *>end_if_not_last


cdef void end_record(void *record) noexcept nogil:
    # At once, if that is possible: a trip through nopython code takes 2.1 times that of an intp then, and 3.7 times
    # where each hold is drained, by a pending call.
    if record != NULL and not (helper_has_gil() and end_if_not_last_with_gil(<ExternrefHold *>record)):
        helper_push_hold(record)


cdef void free_record(ExternrefHold *record) noexcept:
    global spare_records, spare_record_count
    if spare_record_count < SPARE_RECORD_LIMIT:
        record.next = spare_records
        spare_records = record
        spare_record_count += 1
    else:
        free(record)
