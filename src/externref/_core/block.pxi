# Blocks: one allocation each, the payload and after it the footer. How they are laid out, made, counted
# and freed.
#
# A part of _core.pyx.

cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(PyObject *) noexcept
    str PyType_GetName(PyTypeObject *)

cdef extern from "_core/memory.h" nogil:
    const int SPARE_LIMIT "EXTERNREF_FREE_LIST_LIMIT"   # how many pairs

cdef extern from "_core/slab.h":
    # A block for a Python payload: the PyObject * and then the footer, so 40 bytes.
    ctypedef struct PythonBlock "Cell":
        PyObject *payload
        VMExternData footer
    PythonBlock *block_take(PyObject *payload) noexcept
    void block_made(PythonBlock *, PyObject *payload) noexcept
    void block_give(PythonBlock *) noexcept
    void block_trim() noexcept

cdef extern from "_core/track.h" nogil:
    bint track_give_back(VMExternData *) noexcept
    void track_stolen(VMExternData *) noexcept
    bint track_leave_to_drain(VMExternData *) noexcept
    bint track_freed_again(VMExternData *) noexcept

cdef size_t frames_most = 0         # atomic; of the calls that are noted of an event; 0: nobody tracks

cdef extern from "_core/dropped.h" nogil:
    void drop_later(void *raw) noexcept

cdef extern from "_core/native.h" nogil:
    VMExternData *native_alloc(const VMExternVTable *) noexcept
    void native_free(VMExternData *) noexcept
    void native_drop(VMExternData *) noexcept
    void *native_make(const VMExternVTable *, int (*)(void *, void *) noexcept, void *) noexcept
    void drop_anywhere(void *) noexcept

cdef extern from "_core/atomics.h" nogil:
    size_t atomic_count_load(size_t *target) noexcept
    void atomic_count_store(size_t *target, size_t value) noexcept
    void *atomic_pointer_load(void **target) noexcept
    void *atomic_pointer_swap(void **target, void *value) noexcept
    bint atomic_pointer_replace(void **target, void *expected, void *value) noexcept

cdef extern from "_core/locks.h":
    const bint FREE_THREADED "EXTERNREF_FREE_THREADED"
    ctypedef struct Section:
        pass
    ctypedef struct Section2:
        pass
    ctypedef struct Lock:
        pass
    void section_begin(Section *, PyObject *) noexcept
    void section_end(Section *) noexcept
    void section2_begin(Section2 *, PyObject *, PyObject *) noexcept
    void section2_end(Section2 *) noexcept
    void lock_take(Lock *) noexcept
    void lock_release(Lock *) noexcept
    void block_lock(VMExternData *) noexcept
    void block_unlock(VMExternData *) noexcept
    void block_settle(VMExternData *) noexcept
    void state_add(VMExternData *, int n) noexcept
    void state_set(VMExternData *, uint32_t bits) noexcept
    bint take_only_count(VMExternData *) noexcept
    bint is_shared(PyObject *) noexcept
    void *slot_load(void **) noexcept
    void slot_store(void **, void *) noexcept

cdef extern from "_core/live.h":
    void live_made() noexcept
    void live_freed() noexcept
    void live_handles_add(Py_ssize_t) noexcept
    void live_exposed_add(Py_ssize_t) noexcept
    Py_ssize_t live_blocks() noexcept
    Py_ssize_t live_handles() noexcept
    Py_ssize_t live_exposed() noexcept

cdef extern from "_core/registry.h":
    void registry_lock(uintptr_t address) noexcept
    void registry_unlock(uintptr_t address) noexcept
    void registry_remove(uintptr_t address) noexcept
    void registry_trim() noexcept

cdef extern from "_core/hold.h" nogil:
    ctypedef struct ExternrefHold:
        VMExternData *footer
        ExternrefHold *next
        int lends

cdef extern from "_core/helper.h" nogil:
    void helper_push_hold(void *record) noexcept
    bint helper_has_gil() noexcept

cdef extern from *:
    """
    #define MAX_COUNT ((size_t)PTRDIFF_MAX)

    /* GCC makes calls of them once the module is large enough, whatever was added: clone+drop takes 522 instructions
     * then in place of 503. */
    #if defined(__GNUC__)
    static inline PyObject *drop_handle(VMExternData *) __attribute__((always_inline));
    static inline PyObject *drop_handle_counted(VMExternData *, Py_ssize_t *) __attribute__((always_inline));
    /* In free_block() they take 5 more of those that have nothing to do with them. */
    static int keep_stolen(VMExternData *, PyObject *) __attribute__((noinline));
    static void free_native(VMExternData *) __attribute__((noinline));
    #endif
    """
    const size_t MAX_COUNT      # owners of a block, and bytes in one


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

cdef VMExternVTable python_vtable
python_vtable.drop_in_place = NULL    # free_block does it, after the block is gone
python_vtable.size = sizeof(PyObject *)
python_vtable.align = sizeof(PyObject *)
python_vtable.type_name = "object"
python_vtable.drop_slow = drop_later

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


cdef str type_name_of(object payload):
    return PyType_GetName(Py_TYPE(<PyObject *>payload))     # a metaclass may answer __name__ with code


cdef int refuse_native(const VMExternVTable *vtable) except -1:
    raise TypeError(f"the payload is a native {vtable_name(vtable)!r}, which Python cannot look into")


cdef VMExternData *new_block(PyObject *value, uint32_t handles) except NULL:
    """A block that owns `value`, with one count: a handle's (1) or a raw owner's (0)."""
    cdef VMExternData *data = try_new_block(value, handles)
    if data == NULL:
        refuse(NO_BLOCK, NULL)
    return data


cdef inline VMExternData *try_new_block(PyObject *value, uint32_t handles) noexcept:
    """new_block(), which gives NULL, without an exception, if memory is short."""
    cdef PythonBlock *block = block_take(value)
    if block == NULL:
        return NULL
    Py_INCREF(value)
    block.payload = value
    memset(&block.footer, 0, sizeof(VMExternData))
    block.footer.ref_count = 1
    block.footer.value_ptr = block
    block.footer.vtable = &python_vtable
    block.footer.handles = handles
    block_made(block, value)
    live_made()
    live_handles_add(handles)
    return &block.footer


cdef PyObject *free_block(VMExternData *data) noexcept:
    """Frees a block whose last count was taken; the caller then drops the Python reference it returns.

    That order, the block first and the payload after it, keeps code that the payload's
    __del__ runs from meeting a half-dead block. A native payload is dropped in place
    first: it lives in the block. Its drop is C code that knows no block but its own.
    """
    cdef PyObject *payload = payload_of(data)
    if data.handles != 0 and keep_stolen(data, payload):
        return payload
    if payload == NULL and atomic_count_load(&frames_most) != 0 and track_leave_to_drain(data):
        return NULL
    unregister(data)
    block_settle(data)
    if is_lent(data):
        live_exposed_add(-1)
    # SAFETY: nobody owns the block any more.
    if payload != NULL:
        live_freed()
        block_give(block_of(data))
        return payload
    free_native(data)
    return NULL


cdef void free_native "free_native"(VMExternData *data) noexcept:
    if data.vtable.drop_slow == drop_anywhere:
        native_drop(data)
        return
    if track_freed_again(data) or atomic_count_load(&frames_most) != 0 and note_freed_block(data, True):
        return
    live_freed()
    if data.vtable.drop_in_place != NULL:
        data.vtable.drop_in_place(data.value_ptr)
    native_free(data)


cdef bint keep_stolen "keep_stolen"(VMExternData *data, PyObject *payload) noexcept:
    """For a block that is to be freed though handles have it: whether it stays, as track_give_back(). Then the caller
    has a reference on the payload."""
    cdef bint is_kept
    block_lock(data)
    is_kept = track_give_back(data)
    if is_kept and payload != NULL:
        Py_INCREF(payload)      # those that there are are the handles'
    block_unlock(data)
    if is_kept:
        track_stolen(data)
    return is_kept


cdef inline void unregister(VMExternData *data) noexcept:
    if host_state(data) & EXTERNREF_STATE_REGISTERED:
        registry_lock(<uintptr_t>data)
        registry_remove(<uintptr_t>data)
        registry_unlock(<uintptr_t>data)


# --- Counts -------------------------------------------------------------------------

cdef inline bint has_room(VMExternData *data) noexcept:
    """Whether one more owner can be counted. The block's lock."""
    return EXTERNREF_ACQUIRE(&data.ref_count) <= MAX_COUNT and data.handles < UINT32_MAX


cdef inline void add_count(VMExternData *data) noexcept:
    """A new count from one that somebody owns; who owns the new one is the caller's affair. The block's lock."""
    if not FREE_THREADED and is_private(data):
        # A plain store in place of a locked addition: see is_private.
        atomic_count_store(&data.ref_count, <size_t>data.handles + 1)
    else:
        EXTERNREF_INCREMENT(&data.ref_count)


cdef inline void add_handle(VMExternData *data) noexcept:
    """Accounts for one more handle, whose count is made by the caller. The block's lock."""
    cdef PyObject *payload
    data.handles += 1
    live_handles_add(1)
    if data.handles > 1:    # else the raw owners' reference on the payload is taken over
        payload = payload_of(data)
        if payload != NULL:
            Py_INCREF(payload)


cdef inline PyObject *drop_handle "drop_handle"(VMExternData *data) noexcept:
    """Takes away a handle and its count; frees the block if they were the last.

    The caller, having forgotten `data`, drops the Python reference this returns, if any.
    """
    cdef Py_ssize_t freed = 0
    return drop_handle_counted(data, &freed)


cdef inline PyObject *drop_handle_counted "drop_handle_counted"(VMExternData *data, Py_ssize_t *freed) noexcept:
    """drop_handle(), which adds one to `freed` if it frees."""
    cdef PyObject *payload = payload_of(data)
    cdef bint is_last, are_left
    live_handles_add(-1)
    if not FREE_THREADED and is_private(data):
        data.handles -= 1
        if data.handles == 0:
            freed[0] += 1
            return free_block(data)
        # A plain store in place of a locked subtraction: see is_private.
        atomic_count_store(&data.ref_count, data.handles)
        return payload
    block_lock(data)
    data.handles -= 1
    are_left = data.handles != 0
    is_last = EXTERNREF_DECREMENT(&data.ref_count) == 1
    if is_last and are_left and track_give_back(data):      # compiled code dropped one that was a handle's
        block_unlock(data)
        track_stolen(data)
        return payload
    block_unlock(data)      # in free_block() nobody frees before it
    if is_last:
        EXTERNREF_ACQUIRE(&data.ref_count)
        freed[0] += 1
        return free_block(data)
    return payload if are_left else NULL    # the raw owners keep the last one


# --- Holds --------------------------------------------------------------------------

# Makes holds of the counts that compiled code put into activations tables; NULL if it can have put none.
cdef Adopter adopt_raw_words = NULL


cdef void set_adopter(Adopter adopter) noexcept:
    slot_store(<void **>&adopt_raw_words, <void *>adopter)


cdef inline void add_lend(VMExternData *data) noexcept:
    """The block's lock."""
    if not is_lent(data):
        live_exposed_add(1)
    state_add(data, 1)      # the lends are its low bits


cdef void unlend_block(VMExternData *data) noexcept:
    block_lock(data)
    state_add(data, -1)
    if not is_lent(data):
        live_exposed_add(-1)
    block_unlock(data)


cdef inline bint can_lend(VMExternData *data) noexcept:
    """Whether one more lend can be counted. The block's lock."""
    return host_state(data) & EXTERNREF_STATE_LENDS != EXTERNREF_STATE_LENDS


cdef int lend_block(VMExternData *data) except -1:
    cdef bint lent
    block_lock(data)
    lent = can_lend(data)
    if lent:
        add_lend(data)
    block_unlock(data)
    if not lent:
        refuse(NO_LEND, data)
    return 0


cdef inline Refusal add_hold(VMExternData *data, bint lends) noexcept:
    """A new handle with a count of its own; somebody's keeps the block meanwhile."""
    cdef Refusal refusal = GRANTED
    block_lock(data)
    if not has_room(data):
        refusal = NO_ROOM
    elif lends and not can_lend(data):
        refusal = NO_LEND
    else:
        if lends:
            add_lend(data)
        add_count(data)
        add_handle(data)
    block_unlock(data)
    return refusal


cdef inline Refusal take_raw_owner(VMExternData *data, bint lends, size_t but) noexcept:
    """Makes a raw owner's count a handle's; `but` so many are not to be had."""
    cdef Refusal refusal = GRANTED
    cdef size_t count
    block_lock(data)
    count = EXTERNREF_ACQUIRE(&data.ref_count)
    if not has_room(data):
        refusal = NO_ROOM
    elif count <= data.handles:
        refusal = NO_RAW_OWNER
    elif count - data.handles <= but:
        refusal = IN_TABLES
    elif lends and not can_lend(data):
        refusal = NO_LEND
    else:
        if lends:
            add_lend(data)
        add_handle(data)
    block_unlock(data)
    return refusal


cdef int refuse(Refusal refusal, const void *raw) except -1:
    """Raises for it; `raw` is an address, and perhaps no block's any more."""
    if refusal == SPENT:
        refuse_moved()
    if refusal == NO_ROOM:
        raise OverflowError("this allocation has as many owners as can be counted")
    if refusal == NO_LEND:
        raise OverflowError("this allocation is lent as often as can be counted")
    if refusal == NO_RAW_OWNER:
        raise invalid_raw_pointer_error(
            f"{<uintptr_t>raw:#x} has no owner to take over: it was taken back already, "
            "dropped, or only lent; clone_from_raw() adds an owner")
    if refusal == NO_OWNER:
        raise invalid_raw_pointer_error(
            f"{<uintptr_t>raw:#x} has no owner left: compiled code dropped the last one")
    if refusal == NOT_HANDED_OUT:
        raise invalid_raw_pointer_error(
            f"{<uintptr_t>raw:#x} was never handed out by into_raw(), as_raw() or borrow(), "
            "or its allocation has been freed")
    if refusal == IN_TABLES:
        raise OverflowError("what raw owners have of this allocation is in activations tables, "
                            "which have no room to say so")
    if refusal == NO_BLOCK:
        raise MemoryError("no memory for a reference's block")
    raise MemoryError("no memory to hand out a raw pointer")


cdef void *hold_box(PyObject *value, bint lends) except NULL:
    """A hold of a new box."""
    cdef VMExternData *data = new_block(value, 1)
    if lends:
        add_lend(data)      # nobody else knows it yet
    return data


cdef inline Refusal hold_ref(PyObject *ref, bint lends, VMExternData **data) noexcept:
    """A hold of a wrapper's block."""
    cdef Section section
    cdef Refusal refusal = SPENT
    section_begin(&section, ref)
    data[0] = <VMExternData *>data_slot(ref)[0]
    if data[0] != NULL:
        refusal = add_hold(data[0], lends)
    section_end(&section)
    return refusal


cdef void *hold(object value, bint lends) except? NULL:
    """A hold of what was passed as a reference: another owner for a VMExternRef, a box for any other
    object, NULL for None. MovedError, OverflowError, MemoryError. No other code runs: a caller who has more of them to
    hold may have been lent all."""
    cdef VMExternData *data
    cdef Refusal refusal
    if type(value) is not VMExternRef:
        return NULL if value is None else hold_box(<PyObject *>value, lends)
    refusal = hold_ref(<PyObject *>value, lends, &data)
    if refusal != GRANTED:
        refuse(refusal, data)
    return data


cdef int hold_lent(void *raw, bint lends) except -1:
    cdef Refusal refusal
    if raw == NULL:
        return 0
    refusal = add_hold(<VMExternData *>raw, lends)
    if refusal != GRANTED:
        refuse(refusal, raw)
    return 0


cdef int hold_raw(void *raw, bint lends) except -1:
    """A raw owner's count becomes the hold's. InvalidRawPointerError if none is left: somebody took its count by
    from_raw()."""
    cdef Refusal refusal
    refusal = take_raw_owner(<VMExternData *>raw, lends, 0)
    if refusal != GRANTED:
        refuse(refusal, raw)
    return 0


cdef Refusal try_hold_raw(void *raw, bint lends) noexcept:
    return take_raw_owner(<VMExternData *>raw, lends, 0)


cdef void move_out(void *raw) noexcept:
    cdef VMExternData *data = <VMExternData *>raw
    cdef PyObject *payload
    cdef bint are_left
    if data == NULL:
        return
    payload = payload_of(data)
    live_handles_add(-1)
    block_lock(data)
    data.handles -= 1
    are_left = data.handles != 0
    block_unlock(data)
    if are_left and payload != NULL:    # else the raw owners take it over
        Py_DECREF(payload)              # with a GIL never the last: the other handles have theirs


cdef void end_hold(void *raw, bint lends) noexcept:
    cdef VMExternData *data = <VMExternData *>raw
    if data == NULL:
        return
    if lends:
        unlend_block(data)
    Py_XDECREF(drop_handle(data))


# More than of the others, 128 KiB at most: a collection of a wasmtime store lets go of thousands at once. With 256 a
# call of an externref in and out takes 5,091 instructions instead of 4,853.
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
    drain_if_any()          # last: the caller may let the value go
    return record


cdef bint end_if_not_last(ExternrefHold *record) noexcept:
    """Ends the hold if its block has other handles, so that no other code runs."""
    cdef VMExternData *data = record.footer
    if FREE_THREADED or data.handles < 2:   # without a GIL those may end meanwhile, and this be the last
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
