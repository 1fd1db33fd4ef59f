# Raw pointers: handing them out to compiled code, and taking over what comes back.
#
# A part of _core.pyx.

cdef extern from "_core/atomics.h" nogil:
    bint atomic_count_replace(size_t *target, size_t expected, size_t value) noexcept

cdef extern from "_core/registry.h":
    bint registry_contains(uintptr_t address) noexcept
    int registry_add(uintptr_t address) noexcept


cdef inline int register(VMExternData *data) except -1:
    """Makes the address one that from_raw() and clone_from_raw() accept."""
    if not data.state & EXTERNREF_STATE_REGISTERED:
        if registry_add(<uintptr_t>data) != 0:
            raise MemoryError("no memory to hand out a raw pointer")
        data.state |= EXTERNREF_STATE_REGISTERED
    return 0


cdef inline object hand_out(VMExternData *data):
    """The raw pointer as an int. Nothing can fail after it: only then the caller moves or
    lends the reference."""
    cdef object ptr = <uintptr_t>data
    register(data)
    return ptr


cdef extern from "Python.h":
    bint PyIndex_Check(object) noexcept

cdef object address_in = None   # externref._pointers.address_in, once it is needed


cdef object index_of(object ptr):
    """The int in what may be given as a raw pointer. TypeError; may run arbitrary code."""
    global address_in
    if PyIndex_Check(ptr):
        return PyNumber_Index(ptr)
    if address_in is None:
        from externref._pointers import address_in as imported
        address_in = imported
    return PyNumber_Index(address_in(ptr))


cdef int expose(VMExternRef self) except -1:
    """Lends the raw pointer for as long as the block lives."""
    global live_exposed
    cdef VMExternData *data = data_of(self)
    register(data)
    live_exposed += not is_lent(data)
    data.state |= EXTERNREF_STATE_EXPOSED
    return 0


cdef object lend(VMExternRef self):
    cdef object ptr = <uintptr_t>data_of(self)    # the int first: nothing is lent if it cannot be made
    expose(self)
    return ptr


cdef VMExternData *registered_block(object ptr) except NULL:
    """The block at an address that was handed out; InvalidRawPointerError for any other."""
    cdef uintptr_t address
    if not isinstance(ptr, int):
        ptr = index_of(ptr)
    if not fits_address(ptr, &address):
        raise InvalidRawPointerError(no_address(ptr))
    if address == 0:
        raise InvalidRawPointerError(
            "the null pointer is no reference; option_from_raw() maps it to None")
    if address % sizeof(void *) != 0:
        raise InvalidRawPointerError(f"{address:#x} is misaligned: no reference has this address")
    if not registry_contains(address):
        raise InvalidRawPointerError(
            f"{address:#x} was never handed out by into_raw(), as_raw() or borrow(), "
            "or its allocation has been freed")
    return <VMExternData *>address


cdef int refuse_raw_owner(VMExternData *data) except -1:
    if has_room(data):
        raise InvalidRawPointerError(
            f"{<uintptr_t>data:#x} has no owner to take over: it was taken back already, "
            "dropped, or only lent; clone_from_raw() adds an owner")
    refuse_room()


cdef inline int require_raw_owner(VMExternData *data) except -1:
    """InvalidRawPointerError unless there is one; OverflowError if it cannot become a handle."""
    if EXTERNREF_ACQUIRE(&data.ref_count) <= data.handles or not has_room(data):
        refuse_raw_owner(data)
    return 0


cdef int take_over(VMExternRef self, VMExternData *data) except -1:
    """Makes a raw owner's count that of `self`, a spent wrapper."""
    cdef size_t left = 0
    if adopt_raw_words != NULL:
        left = adopt_raw_words(data)    # what compiled code put into a table is the table's
    require_raw_owner(data)
    if EXTERNREF_ACQUIRE(&data.ref_count) - data.handles <= left:
        raise OverflowError("what raw owners have of this allocation is in activations tables, "
                            "which have no room to say so")
    add_handle(data)
    attach(<PyObject *>self, data)
    return 0


cdef int add_owner(VMExternRef self, VMExternData *data) except -1:
    """Makes a new count for `self`, a spent wrapper."""
    cdef size_t count
    if not has_room(data):
        refuse_room()
    while True:     # unlike compiled code, whoever calls may own nothing: never from zero
        count = EXTERNREF_ACQUIRE(&data.ref_count)
        if count == 0:
            raise InvalidRawPointerError(
                f"{<uintptr_t>data:#x} has no owner left: compiled code dropped the last one")
        if atomic_count_replace(&data.ref_count, count, count + 1):
            break
    add_handle(data)
    attach(<PyObject *>self, data)
    return 0


cdef VMExternRef spent_wrapper():
    drain_if_any()
    return <VMExternRef>own_reference(new_wrapper())


cdef void *hold_registered(object value, bint lends) except? NULL:
    cdef void *raw = hold(value, lends)
    cdef VMExternData *data = <VMExternData *>raw
    if raw != NULL and not data.state & EXTERNREF_STATE_REGISTERED:
        if registry_add(<uintptr_t>data) != 0:
            end_hold(raw, lends)
            raise MemoryError("no memory to hand out a raw pointer")
        data.state |= EXTERNREF_STATE_REGISTERED
    return raw


cdef object give_raw(VMExternRef self):
    cdef VMExternData *data
    drain_if_any()
    data = data_of(self)
    ptr = hand_out(data)
    self._data = NULL
    move_out(data)
    return ptr
