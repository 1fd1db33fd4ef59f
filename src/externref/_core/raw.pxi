# Raw pointers: handing them out to compiled code, and taking over what comes back.
#
# A part of _core.pyx.

cdef extern from "_core/atomics.h" nogil:
    bint atomic_count_replace(size_t *target, size_t expected, size_t value) noexcept

cdef extern from "_core/registry.h":
    bint registry_contains(uintptr_t address) noexcept
    int registry_add(uintptr_t address) noexcept


cdef inline Refusal register(VMExternData *data) noexcept:
    """Makes the address one that from_raw() and clone_from_raw() accept. Somebody's count keeps the block."""
    cdef Refusal refusal = GRANTED
    if host_state(data) & EXTERNREF_STATE_REGISTERED:
        return GRANTED
    registry_lock(<uintptr_t>data)
    if not FREE_THREADED or not host_state(data) & EXTERNREF_STATE_REGISTERED:
        if registry_add(<uintptr_t>data) == 0:
            state_set(data, EXTERNREF_STATE_REGISTERED)
        else:
            refusal = NO_MEMORY
    registry_unlock(<uintptr_t>data)
    return refusal


cdef extern from "Python.h":
    bint PyIndex_Check(object) noexcept


cdef object index_of(object ptr):
    """The int in what may be given as a raw pointer. TypeError; may run arbitrary code."""
    if PyIndex_Check(ptr):
        return PyNumber_Index(ptr)
    return PyNumber_Index(address_in(ptr))


cdef inline VMExternData *expose(VMExternRef self) except NULL:
    """Lends the raw pointer for as long as the block lives."""
    cdef Section section
    cdef VMExternData *data
    cdef Refusal refusal = SPENT
    section_begin(&section, <PyObject *>self)
    data = <VMExternData *>self._data
    if data != NULL:
        refusal = register(data)
        if refusal == GRANTED:
            block_lock(data)
            if not is_lent(data):
                live_exposed_add(1)
            state_set(data, EXTERNREF_STATE_EXPOSED)
            block_unlock(data)
    section_end(&section)
    if refusal != GRANTED:
        refuse(refusal, data)
    return data


cdef object lend(VMExternRef self):
    cdef object ptr = <uintptr_t>data_of(self)    # the int first: nothing is lent if it cannot be made
    expose(self)
    return ptr


cdef void *raw_pointer(object ptr) except NULL:
    """What an int may be the address of; InvalidRawPointerError if of no block."""
    cdef uintptr_t address
    if not isinstance(ptr, int):
        ptr = index_of(ptr)
    if not fits_address(ptr, &address):
        raise invalid_raw_pointer_error(no_address(ptr))
    if address == 0:
        raise invalid_raw_pointer_error(
            "the null pointer is no reference; option_from_raw() maps it to None")
    if address % sizeof(void *) != 0:
        raise invalid_raw_pointer_error(f"{address:#x} is misaligned: no reference has this address")
    return <void *>address


cdef inline int claim(void *raw) except -1:
    """Makes a raw owner's count a handle's. InvalidRawPointerError if there is none, or no block that was handed
    out."""
    cdef VMExternData *data = <VMExternData *>raw
    cdef Refusal refusal = NOT_HANDED_OUT
    cdef Adopter adopt = <Adopter>slot_load(<void **>&adopt_raw_words)
    cdef size_t left = 0
    if adopt != NULL:
        left = adopt(data)      # what compiled code put into a table is the table's
    registry_lock(<uintptr_t>raw)       # to the end of what relies on the look-up
    if registry_contains(<uintptr_t>raw):
        refusal = take_raw_owner(data, False, left)
    registry_unlock(<uintptr_t>raw)
    if refusal != GRANTED:
        refuse(refusal, raw)
    return 0


cdef int take_over(VMExternRef self, void *raw) except -1:
    """claim() for `self`, a spent wrapper."""
    claim(raw)
    attach(<PyObject *>self, <VMExternData *>raw)
    return 0


cdef object take_handed_out(object ptr):
    """option_from_raw() for who has no other way to give the count up: it is dropped if there is no memory for a
    wrapper."""
    cdef void *raw
    if ptr is None:
        return None
    ptr = index_of(ptr)
    if not ptr:
        return None
    raw = raw_pointer(ptr)
    claim(raw)
    return wrap_held(<VMExternData *>raw)


cdef Refusal add_owner_to(VMExternData *data) noexcept:
    """add_hold() for who may own nothing: never from zero."""
    cdef Refusal refusal = NO_ROOM
    cdef size_t count
    block_lock(data)
    if has_room(data):
        while True:     # compiled code may be at it
            count = EXTERNREF_ACQUIRE(&data.ref_count)
            if count == 0:
                refusal = NO_OWNER
                break
            if atomic_count_replace(&data.ref_count, count, count + 1):
                add_handle(data)
                refusal = GRANTED
                break
    block_unlock(data)
    return refusal


cdef int add_owner(VMExternRef self, void *raw) except -1:
    """Makes a new count for `self`, a spent wrapper."""
    cdef VMExternData *data = <VMExternData *>raw
    cdef Refusal refusal = NOT_HANDED_OUT
    registry_lock(<uintptr_t>raw)
    if registry_contains(<uintptr_t>raw):
        refusal = add_owner_to(data)
    registry_unlock(<uintptr_t>raw)
    if refusal != GRANTED:
        refuse(refusal, raw)
    attach(<PyObject *>self, data)
    return 0


cdef VMExternRef spent_wrapper():
    drain_if_any()
    return <VMExternRef>own_reference(new_wrapper())


cdef void *hold_registered(object value, bint lends) except? NULL:
    cdef void *raw = hold(value, lends)
    if raw != NULL and register(<VMExternData *>raw) != GRANTED:
        end_hold(raw, lends)
        refuse(NO_MEMORY, raw)
    return raw


cdef object give_raw(VMExternRef self):
    return drain_and_give_raw(self) if pending_any() else give_raw_now(self)


cdef object drain_and_give_raw(VMExternRef self):
    self = self     # own it: see _python.pxd
    run_drain()
    return give_raw_now(self)


cdef inline object give_raw_now(VMExternRef self):
    cdef Section section
    cdef VMExternData *data
    cdef Refusal refusal = SPENT
    cdef object ptr         # declared, or Cython would take it for a C integer, and make the int last
    ptr = <uintptr_t>data_of(self)      # the int first: nothing moves if it cannot be made
    section_begin(&section, <PyObject *>self)
    data = <VMExternData *>self._data
    if not FREE_THREADED or data != NULL:
        refusal = register(data)
        if refusal == GRANTED:
            slot_store(&self._data, NULL)
    section_end(&section)
    if refusal != GRANTED:
        refuse(refusal, data)
    move_out(data)
    return ptr


# give_raw(), but for who tracks. Out and back takes as many instructions with this call as with a direct one.
ctypedef object (*Giving)(VMExternRef)
cdef Giving give_raw_by = give_raw


cdef void set_give_raw(Giving giving) noexcept:
    slot_store(<void **>&give_raw_by, <void *>giving)


cdef inline object give_raw_as_told(VMExternRef self):
    return (<Giving>slot_load(<void **>&give_raw_by))(self)
