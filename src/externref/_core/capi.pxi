# The C API: what externref_api.h documents, and what the package's own adapters cimport.
#
# A part of _core.pyx.

cdef extern from *:
    """
    #define EXTERNREF_API_IMPLEMENTATION
    """


cdef extern from "externref_api.h":
    const size_t EXTERNREF_API_VERSION
    const unsigned DROP_ANYWHERE "EXTERNREF_DROP_ANYWHERE"
    ctypedef struct ExternrefAPI:
        size_t api_version
        size_t abi_version
        size_t size
        void *(*from_object)(object) except NULL
        object (*wrap)(void *)
        object (*wrap_clone)(void *)
        void *(*unwrap)(object) except? NULL
        object (*object)(const void *)
        const VMExternVTable *(*type)(const char *, size_t, size_t, void (*)(void *) noexcept) except NULL
        void *(*new_with)(const VMExternVTable *, int (*)(void *, void *) noexcept, void *) except NULL
        void (*release)(void *) noexcept
        object (*take_object)(void *)
        const VMExternVTable *(*type_with)(
            const char *, size_t, size_t, void (*)(void *) noexcept, unsigned) except NULL
        void *(*new_anywhere)(
            const VMExternVTable *, int (*)(void *, void *) noexcept nogil, void *) noexcept nogil
        int (*hand_out)(void *) except -1

cdef extern from "Python.h":
    void *PyMem_RawMalloc(size_t) noexcept


cdef void *box(object value) except NULL:
    """A raw pointer, the caller's, to a new block that owns `value`. Not registered."""
    cdef void *raw = new_block(<PyObject *>value, 0)
    drain_if_any()      # last: the caller may let the value go
    return raw


cdef int register_raw(void *raw) except -1:
    """Lets from_raw() accept the address, which compiled code may hand to Python as an int."""
    if raw != NULL and register(<VMExternData *>raw) != GRANTED:
        refuse(NO_MEMORY, raw)
    return 0


cdef bint is_native(const void *raw) noexcept:
    """Whether the payload is one that Python cannot look into."""
    return raw != NULL and payload_of(<VMExternData *>raw) == NULL


cdef object object_of(const void *raw):
    """A new reference to the payload, None for NULL; the caller keeps their count."""
    cdef VMExternData *data = <VMExternData *>raw
    if data == NULL:
        return None
    cdef PyObject *payload = payload_of(data)
    if payload == NULL:
        refuse_native(data.vtable)
    return <object>payload


cdef void release(void *raw) noexcept:
    """Gives up the caller's count, and releases the payload now if it was the last."""
    cdef VMExternData *data = <VMExternData *>raw
    # The only owner needs no locked instruction to find out that it is.
    if data != NULL and (take_only_count(data) or EXTERNREF_DECREMENT(&data.ref_count) == 1):
        EXTERNREF_ACQUIRE(&data.ref_count)
        Py_XDECREF(free_block(data))


cdef object take_object(void *raw):
    """object_of, and gives up the caller's count unless it raises."""
    cdef VMExternData *data = <VMExternData *>raw
    if data != NULL and payload_of(data) != NULL and take_only_count(data):
        return own_reference(free_block(data))      # the block's reference moves out
    value = object_of(raw)
    release(raw)
    return value


cdef object wrap_held(VMExternData *data):
    """A wrapper that takes over a hold, which ends if there is no memory for it."""
    cdef PyObject *self
    try:
        self = new_wrapper()
    except BaseException:
        Py_XDECREF(drop_handle(data))
        raise
    attach(self, data)
    return own_reference(self)


cdef object take_held(void *raw, bint as_ref):
    """What Python gets for a hold: the object, or a VMExternRef if it is asked for or the payload is
    native; None for NULL."""
    cdef VMExternData *data = <VMExternData *>raw
    cdef PyObject *payload
    cdef PyObject *reference
    if data == NULL:
        return None
    payload = payload_of(data)
    if as_ref or payload == NULL:
        return wrap_held(data)
    if FREE_THREADED:
        # First, since raw owners that keep it may let it go at once.
        Py_INCREF(payload)                  # not reached: without a GIL alone
        Py_XDECREF(drop_handle(data))       # not reached: the same
        return own_reference(payload)       # not reached: the same
    reference = drop_handle(data)
    # None if raw owners keep it; they cannot let it go before the GIL does.
    return own_reference(reference) if reference != NULL else <object>payload


cdef object take_raw(void *raw, bint as_ref):
    """As take_held, of a raw owner's count. InvalidRawPointerError if somebody took it by from_raw()."""
    cdef VMExternData *data = <VMExternData *>raw
    cdef PyObject *payload
    cdef size_t count
    if data == NULL:
        return None
    payload = payload_of(data)
    if as_ref or payload == NULL or FREE_THREADED:
        hold_raw(raw, False)
        return take_held(raw, as_ref)
    count = EXTERNREF_ACQUIRE(&data.ref_count)
    if count <= data.handles:
        refuse(NO_RAW_OWNER, raw)
    if count == 1:
        return own_reference(free_block(data))      # the block's reference moves out
    value = <object>payload
    if EXTERNREF_DECREMENT(&data.ref_count) == 1:
        EXTERNREF_ACQUIRE(&data.ref_count)      # not reached: all others drop at this moment
        Py_XDECREF(free_block(data))            # not reached: the same
    return value


cdef object lend_value(void *raw, bint as_ref):
    """As take_held, of a reference that is only lent until other code runs."""
    if not as_ref and not is_native(raw):
        return object_of(raw)       # cannot fail
    # A hold first: making a wrapper can run code that ends the loan.
    hold_lent(raw, False)
    return take_held(raw, as_ref)


cdef object wrap(void *raw):
    """A wrapper that takes over the caller's count, unless this raises; None for NULL."""
    cdef PyObject *self
    if raw == NULL:
        return None
    hold_raw(raw, False)    # first: what follows can run code
    drain_if_any()
    try:
        self = new_wrapper()
    except BaseException:
        move_out(raw)
        raise
    attach(self, <VMExternData *>raw)
    return own_reference(self)


cdef object wrap_clone(void *raw):
    """A wrapper with a count of its own; None for NULL."""
    if raw == NULL:
        return None
    hold_lent(raw, False)
    drain_if_any()
    return wrap_held(<VMExternData *>raw)


cdef void *unwrap(object ref) except? NULL:
    """The lent pointer; NULL for None."""
    if ref is None:
        return NULL
    require_ref(ref)
    return expose(<VMExternRef>ref)


cdef void *registered_box(object value) except NULL:
    cdef void *raw = box(value)
    if register(<VMExternData *>raw) != GRANTED:
        release(raw)
        refuse(NO_MEMORY, raw)
    return raw


# --- Native payloads ----------------------------------------------------------------

cdef const VMExternVTable *make_type_with(
        const char *name, size_t size, size_t align, void (*drop_in_place)(void *) noexcept,
        unsigned flags) except NULL:
    cdef size_t total = 0, block_align = 0
    cdef size_t name_size = strlen(name) + 1
    if flags & ~DROP_ANYWHERE:
        raise ValueError(f"flags must be 0 or EXTERNREF_DROP_ANYWHERE, not {flags:#x}")
    compute_layout(size, align, &total, &block_align)   # for its checks
    cdef VMExternVTable *vtable = <VMExternVTable *>PyMem_RawMalloc(sizeof(VMExternVTable) + name_size)
    if vtable == NULL:
        raise MemoryError("no memory for a payload type")
    vtable.drop_in_place = drop_in_place
    vtable.size = size
    vtable.align = align
    vtable.type_name = <const char *>memcpy(vtable + 1, name, name_size)
    vtable.drop_slow = drop_anywhere if flags & DROP_ANYWHERE else drop_later
    return vtable


cdef const VMExternVTable *make_type(
        const char *name, size_t size, size_t align, void (*drop_in_place)(void *) noexcept) except NULL:
    return make_type_with(name, size, align, drop_in_place, 0)


cdef void discard(VMExternData *data) noexcept:
    """Frees a native block that has no payload to drop; leaves a set exception alone."""
    unregister(data)
    block_settle(data)
    native_free(data)


cdef void *new_with(const VMExternVTable *vtable, int (*init)(void *, void *) noexcept, void *ctx) except NULL:
    cdef VMExternData *data
    drain_if_any()
    data = native_alloc(vtable)
    if data == NULL:
        raise MemoryError(f"no memory for a native {vtable_name(vtable)!r} of {vtable.size} bytes")
    # Registered first: once init has made the payload, nothing may fail. Cleaned up by hand:
    # to enter a try block takes about as long as to register.
    if vtable.drop_slow != drop_anywhere and register(data) != GRANTED:
        discard(data)
        refuse(NO_MEMORY, data)
    if init(data.value_ptr, ctx) != 0:
        discard(data)
        if PyErr_Occurred() != NULL:
            reraise()
        raise RuntimeError(f"the init function of {vtable_name(vtable)!r} failed")
    live_made()
    registry_lock(<uintptr_t>data)
    atomic_count_store(&data.ref_count, 1)      # not before: whoever guessed the address while init ran is refused
    registry_unlock(<uintptr_t>data)
    return data


# --- The table ----------------------------------------------------------------------

cdef ExternrefAPI c_api
c_api.api_version = EXTERNREF_API_VERSION
c_api.abi_version = EXTERNREF_ABI_VERSION
c_api.size = sizeof(ExternrefAPI)
c_api.from_object = registered_box
c_api.wrap = wrap
c_api.wrap_clone = wrap_clone
c_api.unwrap = unwrap
c_api.object = object_of
c_api.type = make_type
c_api.new_with = new_with
c_api.release = release
c_api.take_object = take_object
c_api.type_with = make_type_with
c_api.new_anywhere = native_make
c_api.hand_out = register_raw

_C_API = PyCapsule_New(&c_api, "externref._core._C_API", NULL)
